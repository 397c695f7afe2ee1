//! That the image starts, from both forms in which it is shipped.

use taffrail_tests::daemon::{records, wait_for};
use taffrail_tests::skip;

use crate::engine::{CAPABILITIES, MOUNTS, NAME, Podman, archive, cannot_start};
use crate::given;
use crate::stage::Stage;

/// What containerd gives unless it is told not to.
const UNASKED: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const VERSION: &str = concat!("taffrail ", env!("CARGO_PKG_VERSION"));

#[test]
fn podman_runs_the_image_from_the_archive_and_from_the_layout() {
    let Some(podman) = Podman::set("podman_runs_the_image_from_the_archive_and_from_the_layout") else {
        return;
    };
    assert_eq!(podman.run(&["run", "--rm", "--network", "none", NAME, "--version"]), VERSION);
    podman.run(&["rmi", NAME]);
    let layout = format!("oci:{}", given("TAFFRAIL_IMAGE").unwrap().join("oci").display());
    let id = podman.run(&["pull", "--quiet", &layout]);
    assert_eq!(podman.run(&["run", "--rm", "--network", "none", &id, "--version"]), VERSION);
}

#[test]
fn image_holds_the_binary_its_licences_its_bill_of_materials_and_nothing_else() {
    let test = "image_holds_the_binary_its_licences_its_bill_of_materials_and_nothing_else";
    let Some(podman) = Podman::set(test) else { return };
    podman.run(&["create", "--name", "still", "--network", "none", NAME]);
    podman.run(&["export", "--output", &podman.stage.text("root.tar"), "still"]);
    let list = podman.stage.run("tar", ["-tf", &podman.stage.text("root.tar")]);
    // Podman itself puts empty folders and files there, to mount over.
    let files: Vec<&str> = list.lines().filter(|name| !name.contains('/')).collect();
    assert_eq!(files, ["licenses.txt", "sbom.cdx.json", "taffrail"]);
}

#[test]
fn containerd_runs_the_image_as_a_daemon_that_watches() {
    const TEST: &str = "containerd_runs_the_image_as_a_daemon_that_watches";
    if let Some(reason) = cannot_start(&["containerd", "ctr", "runc"]) {
        skip!(TEST, "{reason}");
    }
    let mut stage = Stage::set();
    let [root, state, socket, log] = ["data", "state", "containerd.sock", "log"].map(|name| stage.text(name));
    let config =
        format!("version = 2\nroot = \"{root}\"\nstate = \"{state}\"\n[grpc]\n  address = \"{socket}\"\n");
    std::fs::write(stage.path("config.toml"), config).unwrap();
    std::fs::create_dir(&log).unwrap();
    stage.start("containerd", &["--config", &stage.text("config.toml")]);
    stage.wait_until_works("ctr", &["--address", &socket, "version"]);
    let ctr = |stage: &Stage, arguments: &[&str]| {
        stage.run("ctr", ["--address", &socket].iter().copied().chain(arguments.iter().copied()))
    };
    ctr(&stage, &["images", "import", archive().unwrap().to_str().unwrap()]);
    let id = stage.remember(&format!("taffrail-image-{}", std::process::id()));
    assert_eq!(ctr(&stage, &["run", "--rm", NAME, &id, "/taffrail", "--version"]), VERSION);

    let rights = UNASKED.iter().map(|right| ("--cap-drop", format!("CAP_{right}")));
    let rights = rights.chain(CAPABILITIES.iter().map(|right| ("--cap-add", format!("CAP_{right}"))));
    let mount = |folder: &str, inside: &str, options: &str| {
        ("--mount", format!("type=bind,src={folder},dst={inside},options=rbind:{options}"))
    };
    let folders = MOUNTS.iter().filter_map(|mount| mount.split(':').next());
    let mounts = folders.map(|folder| mount(folder, folder, "ro"));
    let mounts = mounts.chain([mount(&log, "/var/log/taffrail", "rw")]);
    let options: Vec<String> =
        rights.chain(mounts).flat_map(|(option, value)| [option.to_owned(), value]).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    ctr(&stage, &[&["run", "--detach", "--read-only", "--seccomp"], &options[..], &[NAME, &id]].concat());
    let log = stage.path("log");
    let probes = wait_for(|| records(&log).into_iter().find(|record| record["kind"] == "probes")).unwrap();
    let failed: Vec<&serde_json::Value> =
        probes["probes"].as_array().unwrap().iter().filter(|probe| probe["state"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
    ctr(&stage, &["tasks", "kill", &id]);
    wait_for(|| records(&log).into_iter().find(|record| record["kind"] == "stop")).unwrap();
    let deleted = || {
        let mut command = stage.command("ctr");
        let output = command.args(["--address", &socket, "containers", "delete", &id]).output().unwrap();
        output.status.success().then_some(())
    };
    wait_for(deleted).unwrap();
}

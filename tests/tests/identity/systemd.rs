//! What only a system with systemd has: its containers, a user's containers in cgroups of his own, and units, which are
//! no containers. They run in the VMs of `xtask/src/vm/system.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use taffrail::enrich::cgroup::Layout;
use taffrail_tests::container::{Container, by_systemd};
use taffrail_tests::daemon::{Daemon, is_event, taffrail, wait_for};
use taffrail_tests::{cannot_load, skip};
use tempfile::TempDir;

use crate::stage::{Stage, lacks, said};
use crate::{image, named};

/// Why a test cannot run here; `None` if it can.
fn unavailable(programs: &[&str]) -> Option<String> {
    let elsewhere = (!by_systemd()).then(|| "needs a system of its own with systemd".to_owned());
    elsewhere.or_else(cannot_load).or_else(|| lacks(programs))
}

/// The shipped unit with a program that ends at once, taken away when it is dropped.
struct Falling;

impl Falling {
    const UNIT: &str = "/run/systemd/system/taffrail.service";

    fn start() -> Self {
        std::fs::write(Self::UNIT, include_str!("../../../deploy/taffrail.service")).unwrap();
        std::fs::create_dir_all(format!("{}.d", Self::UNIT)).unwrap();
        let own = "[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=0\n";
        std::fs::write(format!("{}.d/own.conf", Self::UNIT), own).unwrap();
        let script = "systemctl daemon-reload && systemctl start taffrail";
        said("systemctl", &Command::new("sh").args(["-c", script]).output().unwrap());
        Self
    }

    fn property(&self, name: &str) -> String {
        let show = ["show", "--value", "--property", name, "taffrail"];
        said("systemctl", &Command::new("systemctl").args(show).output().unwrap())
    }
}

impl Drop for Falling {
    fn drop(&mut self) {
        let script = format!("systemctl stop taffrail; rm -r {0} {0}.d; systemctl daemon-reload", Self::UNIT);
        let _ = Command::new("sh").args(["-c", &script]).status();
    }
}

#[test]
fn unit_of_a_daemon_that_falls_again_and_again_is_started_each_time() {
    const TEST: &str = "unit_of_a_daemon_that_falls_again_and_again_is_started_each_time";
    if let Some(reason) = unavailable(&["systemctl"]) {
        skip!(TEST, "{reason}");
    }
    let unit = Falling::start();
    // By default it would be given up after five.
    let has_fallen = || (unit.property("NRestarts").parse::<u32>().unwrap() > 8).then_some(());
    wait_for(has_fallen).unwrap_or_else(|| panic!("{}", unit.property("Result")));
}

/// A running container of nspawn, ended when it is dropped.
struct Machine {
    name: String,
    _root: TempDir,
}

impl Machine {
    /// Starts one: by itself, which asks for a scope, or as the service that a unit for it is.
    fn start(name: &str, as_service: bool) -> Self {
        let name = format!("taffrail-{name}-{}", std::process::id());
        let root = tempfile::tempdir().unwrap();
        image::make_root(root.path());
        std::fs::create_dir(root.path().join("usr")).unwrap();
        let program = format!(
            "systemd-nspawn --quiet --private-network --console=pipe --link-journal=no --resolv-conf=off \
             --timezone=off --machine={name} --directory={} {} /bin/sleep 3600",
            root.path().display(),
            if as_service { "--keep-unit" } else { "" },
        );
        let mut run = if as_service {
            let folder = format!("/run/systemd/system/systemd-nspawn@{name}.service.d");
            std::fs::create_dir_all(&folder).unwrap();
            let service = format!("[Service]\nExecStart=\nExecStart={program}\n");
            std::fs::write(format!("{folder}/own.conf"), service).unwrap();
            let script = format!("systemctl daemon-reload && systemctl start systemd-nspawn@{name}.service");
            ["sh", "-c", &script].map(str::to_owned).to_vec()
        } else {
            let words = program.split_whitespace();
            ["systemd-run", "--quiet", "--collect", "--"]
                .into_iter()
                .chain(words)
                .map(str::to_owned)
                .collect()
        }
        .into_iter();
        let mut command = Command::new(run.next().unwrap());
        said("systemd-nspawn", &command.args(run).stdin(Stdio::null()).output().unwrap());
        Self { name, _root: root }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("machinectl").args(["terminate", &self.name]).stderr(Stdio::null()).status();
    }
}

#[test]
fn containers_of_nspawn_are_named_from_the_first_event_on_in_a_scope_and_as_a_service() {
    const TEST: &str = "containers_of_nspawn_are_named_from_the_first_event_on_in_a_scope_and_as_a_service";
    if let Some(reason) = unavailable(&["systemd-nspawn", "machinectl"]) {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&["log.record=evt.kind = exec or container.id != host"]);
    let machines = [("scope", false), ("service", true)].map(|(name, how)| (Machine::start(name, how), how));
    let is_of = |record: &Value, name: &str| {
        is_event(record, "exec", name) && record["event"]["args"][0] == "/bin/sleep"
    };
    for (Machine { name, .. }, _) in &machines {
        daemon.wait_for(|record| is_of(record, name));
    }
    let (_, records) = daemon.stop();
    for (Machine { name, .. }, as_service) in &machines {
        let unit = match as_service {
            true => format!("systemd-nspawn@{name}.service"),
            false => format!("machine-{}.scope", name.replace('-', "\\x2d")),
        };
        let path = format!("/machine.slice/{unit}");
        named(&records, name, &json!({ "runtime": "systemd-nspawn", "name": name, "cgroup_path": path }));
        let sleep = &records.iter().find(|record| is_of(record, name)).unwrap()["process"];
        assert_eq!(sleep["exec_session"], Value::Null);
    }
}

#[test]
fn units_of_systemd_are_no_containers_whatever_namespaces_they_have() {
    const TEST: &str = "units_of_systemd_are_no_containers_whatever_namespaces_they_have";
    if let Some(reason) = unavailable(&["systemd-run", "cat"]) {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&["log.record=evt.kind = exec or container.id != host"]);
    let run = |options: &[&str], marker: &str| {
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--collect"]).args(options).args(["--", "cat", "/etc/hostname", marker]);
        // There is no file of the marker's name: cat complains, and that is all.
        let _ = command.stdin(Stdio::null()).output().unwrap();
    };
    const SANDBOXED: &[&str] = &[
        "--wait",
        "--property=PrivateMounts=yes",
        "--property=PrivateNetwork=yes",
        "--property=ProtectSystem=strict",
    ];
    run(SANDBOXED, "/service");
    run(&["--scope"], "/scope");
    for marker in ["/service", "/scope"] {
        let exec = daemon
            .wait_for(|record| record["event"]["kind"] == "exec" && record["event"]["args"][2] == marker);
        assert_eq!(exec["container"], Value::Null, "{exec}");
    }
    drop(daemon);
}

#[test]
fn containers_of_a_host_with_v1_alone_are_told_apart_by_a_controller_and_their_packets_are_seen() {
    const TEST: &str =
        "containers_of_a_host_with_v1_alone_are_told_apart_by_a_controller_and_their_packets_are_seen";
    if let Some(reason) = unavailable(&["runc"]) {
        skip!(TEST, "{reason}");
    }
    let Layout::V1(hierarchy) = Layout::detect() else { skip!(TEST, "there is a v2 tree") };
    let found = taffrail(&["doctor", "--json"]).output().unwrap().stdout;
    let found: Value = serde_json::from_slice(&found).unwrap();
    let cgroups = found["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == "cgroups");
    let expected = format!(
        "v1, without a v2 tree that is used: containers are told apart by `pids` at {}",
        hierarchy.root.display()
    );
    assert_eq!(cgroups.unwrap()["found"], expected);
    let daemon = Daemon::start(&[crate::ALL]);
    let containers = ["first", "second"].map(|name| {
        let with_network = |config: &mut Value| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "network");
        };
        Container::start_as(name, with_network).unwrap()
    });
    for container in &containers {
        // Nobody answers.
        let _ = container.exec(&["nslookup", container.id(), "127.0.0.1"]).unwrap();
        daemon.wait_for(|record| is_event(record, "dns", container.id()));
    }
    let (_, records) = daemon.stop();
    for container in &containers {
        named(&records, container.id(), &json!({ "runtime": "oci", "name": container.id() }));
    }
    for record in records.iter().filter(|record| record["event"]["kind"] == "dns") {
        let asks = |id: &str| record["event"].to_string().contains(id);
        let of = containers.iter().find(|container| asks(container.id()));
        assert_eq!(record["container"]["id"].as_str(), of.map(Container::id), "{record}");
    }
}

/// The user of the image of the VMs who is always logged in.
const USER: &str = "sailor";

/// His podman.
struct Podman {
    home: PathBuf,
}

impl Podman {
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("runuser");
        command.args(["--user", USER, "--", "podman"]).args(arguments).stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", "/run/user/1000").env("HOME", &self.home).current_dir(&self.home);
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/1000/bus");
        said("podman", &command.output().unwrap())
    }
}

#[test]
fn containers_of_a_users_podman_are_named_from_the_first_event_on() {
    const TEST: &str = "containers_of_a_users_podman_are_named_from_the_first_event_on";
    if let Some(reason) = unavailable(&["podman", "runuser", "newuidmap"]) {
        skip!(TEST, "{reason}");
    }
    let podman = Podman { home: Path::new("/home").join(USER) };
    // The image is the user's: what makes it runs as root, in a folder that everybody can read.
    let stage = Stage::set();
    let [archive, _] = image::make(&stage, &json!({}));
    std::fs::set_permissions(stage.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    podman.run(&["load", "--quiet", "--input", &archive]);
    let daemon = Daemon::start(&[crate::ALL, "enrich.name_wait_ms=10000"]);
    let run = ["run", "--detach", "--network", "none", "--name", "mine", image::NAME, "sleep", "3600"];
    let id = podman.run(&run);
    let is_of = |record: &Value, program: &str| {
        is_event(record, "exec", &id) && record["event"]["args"][0] == program
    };
    daemon.wait_for(|record| is_of(record, "sleep"));
    podman.run(&["exec", "mine", "cat", "/etc/passwd"]);
    let session = daemon.wait_for(|record| is_of(record, "cat"));
    let (_, records) = daemon.stop();
    podman.run(&["rm", "--force", "--time", "0", "mine"]);
    let whole = named(&records, &id, &json!({ "name": "mine", "image": image::NAME }));
    assert_eq!(session["process"]["exec_session"], session["process"]["key"]);
    // In trees of v1 a user has no cgroups.
    if let Layout::Unified(_) = Layout::detect() {
        let path = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope");
        assert_eq!(
            (&whole["container"]["runtime"], &whole["container"]["cgroup_path"]),
            (&json!("podman"), &json!(path))
        );
    }
}

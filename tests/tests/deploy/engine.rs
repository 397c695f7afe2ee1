//! Podman in namespaces of its own, with the image, and with the shipped seccomp profile in place of its own.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};
use taffrail_tests::cannot_load;
use taffrail_tests::daemon::{records, wait_for};

use crate::stage::{Stage, lacks, said};
use crate::{given, image, root};

/// The image's name.
pub const NAME: &str = concat!("localhost/taffrail:", env!("CARGO_PKG_VERSION"));

/// Where the pod sees the cgroup tree, the machine's processes, and what runtimes say.
pub const MOUNTS: &[&str] =
    &["/sys/fs/cgroup:/sys/fs/cgroup:ro", "/proc:/proc:ro", "/sys/kernel/tracing:/sys/kernel/tracing:ro"];

/// All that the chart's pod may do.
pub const CAPABILITIES: &[&str] = &["BPF", "PERFMON", "NET_ADMIN", "DAC_READ_SEARCH", "SYS_PTRACE"];

/// Podman.
pub struct Podman {
    /// Where it is.
    pub stage: Stage,
    settings: String,
    folders: Vec<String>,
}

/// The archive of the image for this machine.
pub fn archive() -> Result<PathBuf, String> {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    Ok(given("TAFFRAIL_IMAGE")?.join(format!("taffrail-{arch}.docker.tar")))
}

/// Why a test with these programs and the image cannot run here; `None` if it can.
pub fn cannot_start(programs: &[&str]) -> Option<String> {
    let programs = [&["unshare", "nsenter", "ip"], programs].concat();
    cannot_load().or_else(|| lacks(&programs)).or_else(|| archive().err())
}

impl Podman {
    /// Sets it up, with the image and one of busybox; `None` after saying why a test cannot run.
    pub fn set(test: &str) -> Option<Self> {
        if let Some(reason) = cannot_start(&["podman", "runc", "conmon"]) {
            taffrail::testing::skipped(test, reason);
            return None;
        }
        let stage = Stage::set();
        let config = format!(
            "[containers]\ndefault_ulimits=[]\nseccomp_profile=\"{}\"\n[engine]\ninfra_image=\"{}\"\n\
             cgroup_manager=\"cgroupfs\"\nruntime=\"runc\"\nevents_logger=\"file\"\n",
            root().join("deploy/seccomp/taffrail.json").display(),
            image::PAUSE
        );
        std::fs::write(stage.path("containers.conf"), config).unwrap();
        std::fs::create_dir(stage.path("log")).unwrap();
        let folders = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")];
        let folders =
            folders.iter().flat_map(|(option, name)| [(*option).to_owned(), stage.text(name)]).collect();
        let podman = Self { settings: stage.text("containers.conf"), stage, folders };
        let archives = image::make(&podman.stage, &json!({}));
        for archive in archives.iter().map(String::as_str).chain(archive().unwrap().to_str()) {
            podman.run(&["load", "--quiet", "--input", archive]);
        }
        Some(podman)
    }

    /// The machine's own `/proc`, which podman's place hides below its own.
    pub fn machines_proc(&self) -> String {
        let folder = self.stage.text("proc");
        std::fs::create_dir(&folder).unwrap();
        let script = "umount -l /proc && mount --bind /proc \"$0\" && mount -t proc proc /proc";
        self.stage.run("sh", ["-c", script, &folder]);
        folder
    }

    /// A command of podman.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.stage.command("podman");
        command.env("CONTAINERS_CONF", &self.settings).args(&self.folders).args(arguments);
        command
    }

    /// Runs podman, which has to go well.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        said("podman", &self.command(arguments).output().unwrap())
    }

    /// Runs the image with these rights and mounts, confined as the chart's pod is.
    pub fn image(&self, rights: &[&str], mounts: &[&str], options: &[&str], arguments: &[&str]) -> Output {
        let mut command = self.command(&["run", "--network", "none", "--read-only", "--cap-drop", "ALL"]);
        command.args(["--security-opt", "no-new-privileges"]).args(options);
        command.args(rights.iter().flat_map(|right| ["--cap-add", right]));
        command.args(mounts.iter().flat_map(|mount| ["--volume", mount]));
        command.arg(NAME).args(arguments).output().unwrap()
    }

    /// What `taffrail doctor` says there, with a folder for the log.
    #[track_caller]
    pub fn doctor(&self, rights: &[&str], mounts: &[&str], options: &[&str]) -> Value {
        let log = format!("{}:/var/log/taffrail", self.stage.text("log"));
        self.examine(rights, &[mounts, &[&log]].concat(), options, &[])
    }

    /// What it says with these mounts and no others, and with these settings.
    #[track_caller]
    pub fn examine(&self, rights: &[&str], mounts: &[&str], options: &[&str], settings: &[&str]) -> Value {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["-o", setting]).collect();
        let arguments = [&["doctor", "--json"], &settings[..]].concat();
        let output = self.image(rights, mounts, &[&["--rm"], options].concat(), &arguments);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// A container that reads the list of users again and again.
    pub fn start_reader(&self, name: &str) -> String {
        let script = "while :; do cat /etc/passwd; sleep 0.2; done";
        let run = ["run", "--detach", "--network", "none", "--name", name, image::NAME, "sh", "-c", script];
        self.run(&run)
    }

    /// All records of the log so far.
    pub fn records(&self) -> Vec<Value> {
        records(&self.stage.path("log"))
    }

    /// Waits until the log has a record of which `wanted` is true; the daemon in that container writes it.
    #[track_caller]
    pub fn wait_for(&self, container: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(|| self.records().into_iter().find(&wanted)).unwrap_or_else(|| {
            let log = self.command(&["logs", container]).output().unwrap();
            let records: Vec<String> = self.records().iter().map(Value::to_string).collect();
            panic!("no such record in\n{}\n{}", records.join("\n"), String::from_utf8_lossy(&log.stderr))
        })
    }

    /// Waits until a daemon in there watches.
    #[track_caller]
    pub fn wait_until_watches(&self, container: &str) {
        let log = || self.command(&["logs", container]).output().unwrap();
        let is_ready = || String::from_utf8_lossy(&log().stderr).contains("watching with").then_some(());
        wait_for(is_ready).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&log().stderr)));
    }

    /// Waits until a daemon in there says that it is ready, as the kubelet asks it.
    #[track_caller]
    pub fn wait_until_ready(&self, container: &str) {
        let ask = || self.command(&["exec", container, "/taffrail", "status", "--ready"]).output().unwrap();
        let is_ready = || ask().status.success().then_some(());
        wait_for(is_ready).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&ask().stderr)));
    }
}

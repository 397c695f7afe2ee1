//! LXC, whose containers are whole systems that the cgroup's path names.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};
use tempfile::TempDir;

use crate::stage::lacks;
use crate::{image, named};

/// A running container, ended when it is dropped.
struct System {
    folder: TempDir,
    name: String,
}

impl System {
    fn start() -> Self {
        let name = format!("taffrail-lxc-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(&name);
        image::make_root(&own.join("rootfs"));
        let config = format!(
            "lxc.rootfs.path = dir:{}\nlxc.net.0.type = empty\nlxc.mount.auto = proc\nlxc.init.cmd = /bin/sleep 3600\n\
             lxc.apparmor.profile = unconfined\n",
            own.join("rootfs").display()
        );
        std::fs::write(own.join("config"), config).unwrap();
        let system = Self { folder, name };
        system.run("lxc-start", &[]);
        system
    }

    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.arg("--lxcpath").arg(self.folder.path()).args(["--name", &self.name]).args(arguments);
        // What runs on keeps what it inherits: pipes would never close.
        let status =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{program}: {status}");
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let mut stop = Command::new("lxc-stop");
        stop.arg("--lxcpath").arg(self.folder.path()).args(["--name", &self.name, "--kill"]);
        let _ = stop.stdin(Stdio::null()).stderr(Stdio::null()).status();
        // Left behind in each tree.
        for tree in Path::new("/sys/fs/cgroup").read_dir().into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(tree.path().join("lxc.pivot"));
        }
    }
}

#[test]
fn container_of_lxc_is_named_from_the_first_event_on_and_its_monitor_is_the_hosts() {
    const TEST: &str = "container_of_lxc_is_named_from_the_first_event_on_and_its_monitor_is_the_hosts";
    if let Some(reason) = cannot_trace().or_else(|| lacks(&["lxc-start", "lxc-attach", "lxc-stop"])) {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&["log.record=evt.kind = exec or container.id != host"]);
    let system = System::start();
    let is_of = |record: &Value, program: &str| {
        is_event(record, "exec", &system.name) && record["event"]["args"][0] == program
    };
    daemon.wait_for(|record| is_of(record, "/bin/sleep"));
    system.run("lxc-attach", &["--", "/bin/cat", "/etc/passwd"]);
    daemon.wait_for(|record| is_of(record, "/bin/cat"));
    let (_, records) = daemon.stop();
    let path = format!("/lxc.payload.{}", system.name);
    named(&records, &system.name, &json!({ "runtime": "lxc", "name": system.name, "cgroup_path": path }));
    let process = |program: &str| &records.iter().find(|record| is_of(record, program)).unwrap()["process"];
    assert_eq!(
        (&process("/bin/sleep")["vpid"], &process("/bin/sleep")["exec_session"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(process("/bin/cat")["exec_session"], process("/bin/cat")["key"]);
    let starts =
        |record: &&Value| record["event"]["kind"] == "exec" && record["event"]["args"][0] == "lxc-start";
    let starter = records.iter().find(starts).unwrap();
    assert_eq!(starter["container"], Value::Null);
}

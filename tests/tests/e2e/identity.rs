//! Whose an event is, whatever names the container chooses.

use std::process::{Command, Stdio};

use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

/// Starts a command inside that goes on by itself; gives its process id.
fn start(container: &Container, script: &str) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let mut command = Command::new("runc");
    command.args(["exec", "--detach", "--pid-file"]).arg(&pid_file).args([
        container.id(),
        "sh",
        "-c",
        script,
    ]);
    let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(started.success());
    std::fs::read_to_string(pid_file).unwrap().parse().unwrap()
}

#[test]
fn process_of_before_whose_name_is_no_text_is_known_with_its_program() {
    if let Some(reason) = cannot_trace() {
        skip!("process_of_before_whose_name_is_no_text_is_known_with_its_program", "{reason}");
    }
    let container = Container::start("seed").unwrap();
    let wait = r#"while [ ! -e /tmp/go ]; do sleep 0.1; done; cat /etc/passwd; sleep 0"#;
    let script = format!(r#"b=$(printf '/tmp/busybox\377'); cp /bin/busybox "$b"; exec "$b" sh -c '{wait}'"#);
    start(&container, &script);
    let daemon = Daemon::start(&[crate::ALL]);
    std::fs::write(container.root().join("tmp/go"), "").unwrap();
    let event = daemon.wait_for(|record| {
        is_event(record, "open", container.id()) && record["event"]["file"] == "/etc/passwd"
    });
    assert_eq!(event["process"]["parent_exe"], "/tmp/busybox\u{fffd}");
    assert_eq!(event["process"]["parent_name"], "busybox\u{fffd}");
}

#[test]
fn container_that_moves_to_a_cgroup_named_as_another_container_stays_itself() {
    if let Some(reason) = cannot_trace() {
        skip!("container_that_moves_to_a_cgroup_named_as_another_container_stays_itself", "{reason}");
    }
    let Some(root) = taffrail::enrich::cgroup::Layout::detect().root().map(ToOwned::to_owned) else {
        skip!("container_that_moves_to_a_cgroup_named_as_another_container_stays_itself", "no cgroups");
    };
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("fake").unwrap();
    let script = "while [ ! -e /tmp/go ]; do sleep 0.1; done; cat /etc/passwd; exec sleep 600";
    let pid = start(&container, script);
    let fake = root.join(container.id()).join(format!("docker-{}.scope", "d".repeat(64)));
    std::fs::create_dir(&fake).unwrap();
    std::fs::write(fake.join("cgroup.procs"), pid.to_string()).unwrap();
    std::fs::write(container.root().join("tmp/go"), "").unwrap();
    // A program that is started there knows nothing of where it was.
    let cgroup = std::os::unix::fs::MetadataExt::ino(&fake.metadata().unwrap());
    let event = daemon.wait_for(|record| {
        record["event"]["kind"] == "exec"
            && record["event"]["args"][0] == "cat"
            && record["process"]["cgroup_id"] == cgroup
    });
    assert_eq!(event["container"]["id"], container.id());
}

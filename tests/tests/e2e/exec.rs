//! `exec`: what runs, from where, as whom, started by whom.

use serde_json::json;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

#[test]
fn exec_in_a_container_is_recorded_with_its_file_arguments_and_lineage() {
    if let Some(reason) = cannot_trace() {
        skip!("exec_in_a_container_is_recorded_with_its_file_arguments_and_lineage", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("exec").unwrap();
    // The second command keeps the shell from becoming the first.
    container
        .sh("cd /tmp; env -i A=1 B=2 /bin/cat /etc/passwd 'a b' '' \"$(printf 'x\\ny')\"; true")
        .unwrap();
    let event = daemon.wait_for(|record| {
        is_event(record, "exec", container.id()) && record["event"]["args"][0] == "/bin/cat"
    });
    let exec = &event["event"];
    assert_eq!(exec["type"], "execve");
    // A link to busybox: the file that runs, and the name that was asked for.
    assert_eq!(exec["exe"], "/bin/busybox");
    assert_eq!(exec["filename"], "/bin/cat");
    assert_eq!(exec["cwd"], "/tmp");
    assert_eq!(exec["args"], json!(["/bin/cat", "/etc/passwd", "a b", "", "x\ny"]));
    assert_eq!(exec["arg_count"], 5);
    assert_eq!(exec["env_count"], 2);
    assert_eq!(exec["exe_ino"], ino(&container.root().join("bin/busybox")));
    assert_eq!((&exec["ruid"], &exec["tty"]), (&json!(0), &json!(0)));
    let process = &event["process"];
    assert_eq!(process["exe"], "/bin/busybox");
    assert_eq!(process["parent_name"], "sh");
    assert_eq!(process["login_uid"], own_login_uid());
    assert!(process["vpid"].as_u64() < process["pid"].as_u64());
    let parent = daemon.wait_for(|record| {
        is_event(record, "exec", container.id()) && record["process"]["key"] == process["parent_key"]
    });
    assert_eq!(parent["event"]["args"][0], "sh");
    assert_eq!(
        event["container"],
        json!({
            "id": container.id(), "name": container.id(), "runtime": "oci", "cgroup_path": format!("/{}", container.id())
        })
    );
}

#[test]
fn long_arguments_are_cut_and_their_true_length_and_number_are_told() {
    if let Some(reason) = cannot_trace() {
        skip!("long_arguments_are_cut_and_their_true_length_and_number_are_told", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("args").unwrap();
    let long = "x".repeat(3000);
    container.exec(&["true", &long, &long, "end"]).unwrap();
    let event = daemon
        .wait_for(|record| is_event(record, "exec", container.id()) && record["process"]["name"] == "true");
    let exec = &event["event"];
    assert_eq!(exec["arg_count"], 4);
    assert_eq!(exec["args_full_bytes"], "true".len() + 1 + 2 * 3001 + "end".len() + 1);
    let kept: usize =
        exec["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().len() + 1).sum();
    assert_eq!(kept, 4095 + 1);
}

#[test]
fn script_is_told_apart_from_the_interpreter_that_runs_it() {
    if let Some(reason) = cannot_trace() {
        skip!("script_is_told_apart_from_the_interpreter_that_runs_it", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("script").unwrap();
    container.sh("printf '#!/bin/sh\\ntrue\\n' > /tmp/s.sh; chmod +x /tmp/s.sh; /tmp/s.sh; true").unwrap();
    let event = daemon
        .wait_for(|record| is_event(record, "exec", container.id()) && record["process"]["name"] == "s.sh");
    assert_eq!(event["event"]["filename"], "/tmp/s.sh");
    assert_eq!(event["event"]["exe"], "/bin/busybox");
    assert_eq!(event["event"]["args"], json!(["/bin/sh", "/tmp/s.sh"]));
}

#[test]
fn host_processes_are_not_recorded_unless_asked_for() {
    if let Some(reason) = cannot_trace() {
        skip!("host_processes_are_not_recorded_unless_asked_for", "{reason}");
    }
    let daemon = Daemon::start(&[]);
    let container = Container::start("host").unwrap();
    let marker = format!("{}-marker", container.id());
    std::process::Command::new("true").arg(&marker).status().unwrap();
    container.exec(&["true", "last"]).unwrap();
    daemon
        .wait_for(|record| is_event(record, "exec", container.id()) && record["event"]["args"][1] == "last");
    let (status, records) = daemon.stop();
    assert!(status.success());
    assert!(records.iter().all(|record| record["event"]["args"][1] != marker.as_str()));

    let daemon = Daemon::start(&["log.record=evt.kind = exec"]);
    std::process::Command::new("true").arg(&marker).status().unwrap();
    let event = daemon.wait_for(|record| record["event"]["args"][1] == marker.as_str());
    assert_eq!(event["container"], serde_json::Value::Null);
    assert_eq!(
        event["process"]["parent_key"].as_str().unwrap().split('-').next(),
        Some(&*std::process::id().to_string())
    );
}

fn ino(path: &std::path::Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap())
}

/// Our own, as /proc shows it: -1 if unset.
fn own_login_uid() -> i32 {
    std::fs::read_to_string("/proc/self/loginuid")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .map_or(-1, |id| id as i32)
}

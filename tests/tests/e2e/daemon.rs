//! The daemon itself: start, stop, reload, and what it says when it cannot.

use std::process::{Command, Output};

use serde_json::Value;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event, records, taffrail, wait_for};
use taffrail_tests::{cannot_trace, skip};

/// Programs that are loaded in the kernel under the names of our probes.
fn probes_in_kernel(daemon: u32) -> usize {
    let folder = format!("/proc/{daemon}/fdinfo");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("prog_id:")))
        .count()
}

#[test]
fn term_ends_it_in_good_order_with_a_whole_log_and_nothing_left() {
    if let Some(reason) = cannot_trace() {
        skip!("term_ends_it_in_good_order_with_a_whole_log_and_nothing_left", "{reason}");
    }
    let daemon = Daemon::start(&[]);
    let (log, pid) = (daemon.log(), daemon.pid());
    assert!(probes_in_kernel(pid) > 0);
    let (status, records) = daemon.stop();
    assert!(status.success());
    let kinds: Vec<&str> = records.iter().filter_map(|record| record["kind"].as_str()).collect();
    // What the log says of itself stands around the daemon's own records.
    let of_log = ["segment", "key", "checkpoint"];
    let own: Vec<&str> = kinds.iter().copied().filter(|kind| !of_log.contains(kind)).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"segment"), Some(&"checkpoint")));
    assert_eq!((own.first(), own.last()), (Some(&"start"), Some(&"stop")));
    assert!(kinds.contains(&"probes") && kinds.contains(&"rules"));
    drop(log);
    // Nothing is pinned, so the kernel has dropped all with the process.
    let pinned = std::fs::read_dir("/sys/fs/bpf").into_iter().flatten().count();
    assert_eq!(pinned, 0, "something is pinned");
}

#[test]
fn hang_up_loads_new_rules_and_keeps_the_old_ones_if_they_are_broken() {
    if let Some(reason) = cannot_trace() {
        skip!("hang_up_loads_new_rules_and_keeps_the_old_ones_if_they_are_broken", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    let rule = |name: &str| {
        format!(
            "- rule: {name}\n  desc: d\n  condition: evt.kind = exec and proc.name = true and container.id != host\n  output: o\n  priority: INFO\n"
        )
    };
    std::fs::write(&rules, rule("first")).unwrap();
    std::fs::write(folder.path().join("config.yaml"), format!("rules:\n  files: [{}]\n", rules.display()))
        .unwrap();
    let daemon = Daemon::start_in(folder, &[]);
    let container = Container::start("reload").unwrap();
    let fires = |name: &str, n: usize| {
        container.exec(&["true"]).unwrap();
        wait_for(|| {
            (records(&daemon.log()).iter().filter(|record| record["rule"] == name).count() >= n).then_some(())
        })
        .unwrap_or_else(|| panic!("{name} did not fire {n} times"));
    };
    fires("first", 1);
    std::fs::write(&rules, "- rule: broken\n  condition: (\n").unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for(|record| record["kind"] == "rules" && record["result"] == "refused");
    fires("first", 2);
    std::fs::write(&rules, rule("second")).unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for(|record| record["kind"] == "rules" && record["result"] == "reloaded");
    fires("second", 1);
    let (_, records) = daemon.stop();
    assert_eq!(records.iter().filter(|record| record["rule"] == "first").count(), 2);
}

#[test]
fn hang_up_while_it_starts_is_heard_once_it_runs() {
    if let Some(reason) = cannot_trace() {
        skip!("hang_up_while_it_starts_is_heard_once_it_runs", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (config, new) = (folder.path().join("config.yaml"), folder.path().join("new.yaml"));
    assert!(Command::new("mkfifo").arg(&config).status().unwrap().success());
    std::fs::write(&new, "rules:\n  embedded: false\n").unwrap();
    let daemon = Daemon::start_while(folder, &["rules.watch=false"], |pid| {
        // Open once it reads there, and empty until this is closed.
        let pipe = std::fs::OpenOptions::new().write(true).open(&config).unwrap();
        std::fs::rename(&new, &config).unwrap();
        // SAFETY: the child was not waited for, so the id is its own.
        unsafe { libc::kill(pid as i32, libc::SIGHUP) };
        drop(pipe);
    });
    let reloaded = daemon.wait_for(|record| record["kind"] == "rules" && record["result"] == "reloaded");
    assert_eq!(reloaded["rules"], 0);
    assert!(daemon.stop().0.success());
}

#[test]
fn changed_configuration_is_in_force_without_a_restart_or_it_is_said_what_needs_one() {
    if let Some(reason) = cannot_trace() {
        skip!("changed_configuration_is_in_force_without_a_restart_or_it_is_said_what_needs_one", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let record = |name: &str| format!("log:\n  record: evt.kind = exec and proc.name = {name}\n");
    std::fs::write(&config, record("true")).unwrap();
    let daemon = Daemon::start_in(folder, &[]);
    let container = Container::start("settings").unwrap();
    let execs = |name: &str| {
        let of =
            |record: &&Value| is_event(record, "exec", container.id()) && record["event"]["args"][0] == name;
        records(&daemon.log()).iter().filter(of).count()
    };
    let changes = |settings: &str, n: usize| {
        std::fs::write(&config, settings).unwrap();
        wait_for(|| {
            let found = records(&daemon.log());
            let of = |record: &&Value| record["kind"] == "config" && record["changed"].is_array();
            found.iter().filter(of).nth(n).cloned()
        })
        .unwrap_or_else(|| panic!("{settings} was not taken in"))
    };
    let runs = |name: &str| container.exec(&[name]).unwrap();
    let is_recorded = |name: &str, n: usize| {
        runs(name);
        wait_for(|| (execs(name) == n).then_some(())).unwrap_or_else(|| panic!("{name}: {}", execs(name)));
    };
    is_recorded("true", 1);
    // What is recorded.
    let change = changes(&record("id"), 0);
    assert_eq!(change["changed"], serde_json::json!(["log.record"]));
    assert_eq!(change["at_next_start"], serde_json::json!([]));
    runs("true");
    is_recorded("id", 1);
    // What is watched; and what needs a restart.
    let without = format!(
        "{}  checkpoint_records: 7\nscope:\n  exclude: [container={}]\n",
        record("id"),
        container.id()
    );
    let change = changes(&without, 1);
    assert_eq!(change["at_next_start"], serde_json::json!(["log.checkpoint_records"]));
    assert_eq!(change["scope"]["exclude"][0], format!("container={}", container.id()));
    runs("id");
    // Watched again.
    changes(&record("id"), 2);
    is_recorded("id", 2);
    assert_eq!(execs("true"), 1);
}

/// Runs the daemon with settings that cannot work, and gives what it said.
fn refused(arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, "").unwrap();
    let log = format!("log.dir={}", folder.path().join("log").display());
    let mut command = taffrail(&["run", "--config", config.to_str().unwrap(), "-o", &log]);
    let Output { status, stderr, .. } = command.args(arguments).output().unwrap();
    (status.code().unwrap_or(-1), String::from_utf8(stderr).unwrap())
}

#[test]
fn what_it_cannot_do_it_says_with_a_hint_and_the_right_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "- rule: r\n  condition: proc.nmae = x\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, code, says) in [
        (
            vec!["-o", "lgo.dir=x"],
            1,
            vec!["error[C101]: there is no setting `lgo.dir`", "did you mean `log.dir`?"],
        ),
        (vec!["-o", "log.commit_interval_ms=9999"], 1, vec!["error[C104]", "must be 1 to 150"]),
        (
            vec!["-o", &format!("rules.files=[{file}]")],
            1,
            vec!["error[R201]", "did you mean `proc.name`?", "error[R304]", "`desc` is missing"],
        ),
        (vec!["-o", "rules.files=[/never/there]"], 2, vec!["/never/there: No such file or directory"]),
        (
            vec!["-o", "rules.disabled=[File outside of the container opend]", "-o", "log.dri=x"],
            1,
            vec!["error[C101]", "error[C109]", "did you mean `File outside of the container opened`?"],
        ),
        (
            vec!["-o", &format!("log.dir={file}/below")],
            2,
            vec!["cannot use the log folder", "hint: choose another folder"],
        ),
        (vec!["--config", "/never/there"], 2, vec![]),
    ] {
        let (found, stderr) = refused(&arguments);
        assert_eq!(found, code, "{arguments:?}: {stderr}");
        for text in says {
            assert!(stderr.contains(text), "{arguments:?}: no `{text}` in\n{stderr}");
        }
    }
}

#[test]
fn second_instance_on_the_same_log_is_refused_and_named() {
    if let Some(reason) = cannot_trace() {
        skip!("second_instance_on_the_same_log_is_refused_and_named", "{reason}");
    }
    let daemon = Daemon::start(&[]);
    let (code, stderr) = refused(&["-o", &format!("log.dir={}", daemon.log().display())]);
    assert_eq!(code, 2);
    assert!(stderr.contains(&format!("another taffrail (pid {})", daemon.pid())), "{stderr}");
    // The first one is not disturbed.
    assert!(daemon.stop().0.success());
}

#[test]
fn without_rights_it_says_which_are_needed() {
    if let Some(reason) = cannot_trace() {
        skip!("without_rights_it_says_which_are_needed", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::create_dir(&log).unwrap();
    let open = |path: &std::path::Path| std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    open(folder.path());
    open(&log);
    let mut command = taffrail(&["run", "-o", &format!("log.dir={}", log.display())]);
    let output = std::os::unix::process::CommandExt::uid(&mut command, 65534).output();
    let Ok(output) = output else {
        skip!("without_rights_it_says_which_are_needed", "the binary is not readable for others")
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("not allowed to load BPF programs") && stderr.contains("hint: run as root"),
        "{stderr}"
    );
}

#[test]
fn without_type_information_it_says_which_kernels_have_it() {
    if let Some(reason) = cannot_trace() {
        skip!("without_type_information_it_says_which_kernels_have_it", "{reason}");
    }
    let folder = tempfile::tempdir().unwrap();
    // In a mount namespace of its own, where the kernel's BTF is hidden.
    let script = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" run -o \"log.dir=$1\"";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(taffrail_tests::daemon::binary())
        .arg(folder.path().join("log"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cannot read the kernel's type information /sys/kernel/btf/vmlinux"), "{stderr}");
    assert!(stderr.contains("CONFIG_DEBUG_INFO_BTF=y"), "{stderr}");
}

#[test]
fn doctor_finds_the_probes_in_order() {
    if let Some(reason) = cannot_trace() {
        skip!("doctor_finds_the_probes_in_order", "{reason}");
    }
    let output = taffrail(&["doctor", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    let findings = report["findings"].as_array().unwrap();
    for what in
        ["exec", "fork", "exit", "syscall_exit", "connect4", "connect6", "BTF", "cgroups", "strong tier"]
    {
        let finding = findings.iter().find(|finding| finding["what"] == what);
        assert_eq!(finding.map(|finding| &finding["verdict"]), Some(&serde_json::json!("ok")), "{what}");
    }
}

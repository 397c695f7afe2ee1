//! The log of a real run: verified, verified again by an independent program, changed, and continued.

use std::process::Command;

use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event, taffrail};
use taffrail_tests::{cannot_trace, skip};

fn verify(folder: &std::path::Path) -> (i32, String) {
    let output = taffrail(&["audit", "verify"]).arg(folder).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn log_of_a_run_verifies_until_a_record_is_changed() {
    if let Some(reason) = cannot_trace() {
        skip!("log_of_a_run_verifies_until_a_record_is_changed", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let log = daemon.log();
    let container = Container::start("log").unwrap();
    container.sh("cat /etc/shadow; true").unwrap();
    daemon.wait_for(|record| record["rule"] == "Password hashes read");
    // While it is being written, too.
    assert_eq!(verify(&log).0, 0);
    let folder = daemon.kill();
    let log = folder.path().join("log");
    // Whole, but for its end.
    assert_eq!(verify(&log).0, 2);

    let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/verify_log.py");
    let status = |log: &std::path::Path| Command::new("python3").arg(oracle).arg(log).status();
    match status(&log) {
        Ok(status) => assert_eq!(status.code(), Some(2)),
        Err(error) => taffrail::testing::skipped(
            "log_of_a_run_verifies_until_a_record_is_changed",
            format_args!("oracle: {error}"),
        ),
    }

    let segment = log.join("00000000000000000001.ndjson");
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replacen("/etc/shadow", "/etc/shadoW", 1)).unwrap();
    let (code, report) = verify(&log);
    assert_eq!(code, 1);
    assert!(report.contains("THE LOG WAS CHANGED"), "{report}");
    if let Ok(status) = status(&log) {
        assert_eq!(status.code(), Some(1));
    }
}

#[test]
fn killed_daemon_loses_nothing_that_was_durable_and_its_log_goes_on() {
    if let Some(reason) = cannot_trace() {
        skip!("killed_daemon_loses_nothing_that_was_durable_and_its_log_goes_on", "{reason}");
    }
    let container = Container::start("kill").unwrap();
    let mut folder = {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), "").unwrap();
        folder
    };
    for round in 0..3 {
        let daemon = Daemon::start_in(folder, &[crate::ALL]);
        let marker = format!("round-{round}");
        container.exec(&["true", &marker]).unwrap();
        daemon.wait_for(|record| {
            is_event(record, "exec", container.id()) && record["event"]["args"][1] == *marker
        });
        folder = daemon.kill();
        let (code, report) = verify(&folder.path().join("log"));
        assert_eq!(code, 2, "{report}");
        assert!(report.contains("the log was not closed"), "{report}");
    }
    let daemon = Daemon::start_in(folder, &[crate::ALL]);
    let (code, report) = verify(&daemon.log());
    assert_eq!(code, 0, "{report}");
    let (_, records) = daemon.stop();
    for round in 0..3 {
        assert!(records.iter().any(|record| record["event"]["args"][1] == format!("round-{round}")));
    }
    let numbers: Vec<u64> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn events_that_do_not_fit_are_counted_to_the_last_one() {
    if let Some(reason) = cannot_trace() {
        skip!("events_that_do_not_fit_are_counted_to_the_last_one", "{reason}");
    }
    // A ring that is too small for the flood (not for what runc opens before), and a daemon that stands still while a container floods it.
    let daemon = Daemon::start(&[crate::ALL, "probes.bulk_ring_bytes=256KiB"]);
    let container = Container::start("flood").unwrap();
    let offered = 6000;
    // The shell is there, and has opened all that it needs, before the daemon stands still.
    let script = format!(
        "/bin/true ready; n=0; while [ ! -e /tmp/go ] && [ $n -lt 1000000 ]; do n=$((n+1)); done; i=0; while [ $i -lt {offered} ]; do : < /etc/passwd; i=$((i+1)); done"
    );
    std::thread::scope(|threads| {
        let shell = threads.spawn(|| container.sh(&script).unwrap());
        daemon.wait_for(|record| {
            is_event(record, "exit", container.id()) && record["process"]["cmdline"] == "/bin/true ready"
        });
        daemon.signal(libc::SIGSTOP);
        std::fs::write(container.root().join("tmp/go"), "").unwrap();
        shell.join().unwrap();
        daemon.signal(libc::SIGCONT);
    });
    let gap =
        daemon.wait_for(|record| record["kind"] == "gap" && record["container"]["id"] == container.id());
    assert_eq!((&gap["what"], &gap["where"]), (&serde_json::json!("open"), &serde_json::json!("ring")));
    let (_, records) = daemon.stop();
    let flood = |record: &&serde_json::Value| {
        is_event(record, "open", container.id())
            && record["event"]["file"] == "/etc/passwd"
            && record["process"]["name"] == "sh"
    };
    let seen = records.iter().filter(flood).count() as u64;
    let lost: u64 = records
        .iter()
        .filter(|record| record["kind"] == "gap" && record["container"]["id"] == container.id())
        .filter_map(|record| record["count"].as_u64())
        .sum();
    assert!(lost > 0);
    assert_eq!(seen + lost, offered, "{seen} seen, {lost} lost");
}

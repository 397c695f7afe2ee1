//! `exit`: how a process ended, and after how long.

use serde_json::json;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

#[test]
fn status_and_signal_are_what_wait_reports() {
    if let Some(reason) = cannot_trace() {
        skip!("status_and_signal_are_what_wait_reports", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("exit").unwrap();
    for (script, code, signal) in
        [("exit 0", 0, 0), ("exit 42", 42, 0), ("kill -9 $$", 0, 9), ("kill -15 $$", 0, 15)]
    {
        container.exec(&["sh", "-c", script]).unwrap();
        let event = daemon.wait_for(|record| {
            is_event(record, "exit", container.id())
                && record["process"]["cmdline"] == format!("sh -c {script}")
        });
        assert_eq!(
            (&event["event"]["code"], &event["event"]["signal"]),
            (&json!(code), &json!(signal)),
            "{script}"
        );
        assert_eq!(event["event"]["core_dumped"], false);
    }
}

#[test]
fn duration_is_the_life_of_the_process() {
    if let Some(reason) = cannot_trace() {
        skip!("duration_is_the_life_of_the_process", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("life").unwrap();
    container.exec(&["sleep", "0.2"]).unwrap();
    let event = daemon.wait_for(|record| {
        is_event(record, "exit", container.id()) && record["process"]["cmdline"] == "sleep 0.2"
    });
    let seconds = event["event"]["duration_ns"].as_u64().unwrap() as f64 / 1e9;
    assert!((0.2..10.0).contains(&seconds), "{seconds}");
}

#[test]
fn each_process_ends_once_however_many_threads_it_had() {
    if let Some(reason) = cannot_trace() {
        skip!("each_process_ends_once_however_many_threads_it_had", "{reason}");
    }
    let daemon = Daemon::start(&["log.record=evt.kind = exit and proc.name = manythreads"]);
    // Threads that all end at about the same time, with the process.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("manythreads");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for _ in 0..20 {
        let status = std::process::Command::new(&program)
            .args(["--exact", "exit::helper_with_many_threads"])
            .env("TAFFRAIL_HELPER", "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
    let (_, records) = daemon.stop();
    let mut keys: Vec<&str> = records.iter().filter_map(|record| record["process"]["key"].as_str()).collect();
    assert_eq!(keys.len(), 20);
    keys.dedup();
    assert_eq!(keys.len(), 20);
}

/// Not a test of its own: what the test above runs as another process.
#[test]
fn helper_with_many_threads() {
    if std::env::var_os("TAFFRAIL_HELPER").is_some() {
        let threads: Vec<_> = (0..16).map(|_| std::thread::spawn(|| ())).collect();
        drop(threads);
    }
}

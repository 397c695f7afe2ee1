//! From one daemon to the next: what happens between them is seen by the probes that the first one left at work.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event, records, taffrail};
use taffrail_tests::pins::Pins;
use taffrail_tests::{cannot_trace, skip};

const RECORD: &str = "log.record=container.id != host and evt.kind = open and fd.name startswith /tmp/m-";
const MARKERS: usize = 300;

/// How often each marker is in the log.
fn markers(records: &[Value], container: &Container) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    for record in records.iter().filter(|record| is_event(record, "open", container.id())) {
        *seen.entry(record["event"]["file"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    seen
}

/// So many opens are admitted to be missing.
fn admitted(records: &[Value]) -> u64 {
    let gaps = records.iter().filter(|record| record["kind"] == "gap" && record["what"] == "open");
    gaps.filter_map(|gap| gap["count"].as_u64()).sum()
}

/// A container makes markers without a pause, while one daemon is ended by that signal and another one is started.
fn restart_under_markers(name: &str, signal: i32) -> (Vec<Value>, BTreeMap<String, u64>) {
    let pins = Pins::mount();
    let settings = [RECORD, &pins.setting(), "rules.embedded=false"];
    let daemon = Daemon::start(&settings);
    let container = Container::start(name).unwrap();
    let records = std::thread::scope(|threads| {
        let marking = threads.spawn(|| {
            let script =
                format!("i=0; while [ $i -lt {MARKERS} ]; do : >/tmp/m-$i; i=$((i+1)); cat /dev/null; done");
            container.sh(&script).unwrap();
        });
        daemon.wait_for(|record| record["event"]["file"] == "/tmp/m-20");
        let folder = daemon.end(signal);
        assert_eq!(pins.names().len(), 1);
        let daemon = Daemon::start_in(folder, &settings);
        marking.join().unwrap();
        daemon.wait_for(|record| record["event"]["file"] == format!("/tmp/m-{}", MARKERS - 1));
        let (status, records) = daemon.stop();
        assert!(status.success());
        records
    });
    let seen = markers(&records, &container);
    assert!(seen.values().all(|times| *times == 1), "told more than once: {seen:?}");
    let restart = records.iter().find(|record| record["kind"] == "restart").unwrap();
    assert_eq!((&restart["watched"], restart.get("problems")), (&json!(true), None), "{restart}");
    assert!(restart["events"].as_u64().unwrap() > 0);
    (records, seen)
}

#[test]
fn what_happens_between_a_killed_daemon_and_the_next_is_told_or_counted() {
    if let Some(reason) = cannot_trace() {
        skip!("what_happens_between_a_killed_daemon_and_the_next_is_told_or_counted", "{reason}");
    }
    let (records, seen) = restart_under_markers("killed", libc::SIGKILL);
    let missing = MARKERS as u64 - seen.len() as u64;
    assert!(missing <= admitted(&records), "{missing} missing, {} admitted", admitted(&records));
    // What the daemon had read and not yet made durable, and no more: of each marker one open is recorded, some others are not.
    assert!(missing <= MARKERS as u64 / 4, "{missing} missing");
}

#[test]
fn nothing_is_missing_between_a_daemon_that_stops_and_the_next() {
    if let Some(reason) = cannot_trace() {
        skip!("nothing_is_missing_between_a_daemon_that_stops_and_the_next", "{reason}");
    }
    let (records, seen) = restart_under_markers("stopped", libc::SIGTERM);
    let gaps: Vec<_> =
        records.iter().filter(|record| record["kind"] == "gap" && record["where"] != "probe").collect();
    assert_eq!((seen.len(), gaps.len()), (MARKERS, 0), "{gaps:?}");
}

#[test]
fn unload_takes_probes_off_and_strange_pins_stop_no_start() {
    if let Some(reason) = cannot_trace() {
        skip!("unload_takes_probes_off_and_strange_pins_stop_no_start", "{reason}");
    }
    let pins = Pins::mount();
    let settings = ["rules.embedded=false", &pins.setting()];
    let folder = Daemon::start(&settings).kill();
    assert_eq!(pins.names().len(), 1);
    let unload = || taffrail(&["unload", "-o", &pins.setting()]).output().unwrap();
    let output = unload();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(pins.names().len(), 0);
    // The log may be a new one: what is left at work is taken off all the same.
    drop(Daemon::start(&settings).kill());
    let (_, told) = Daemon::start(&settings).stop();
    let restart = told.iter().find(|record| record["kind"] == "restart").unwrap();
    assert_eq!((&restart["watched"], pins.names().len()), (&json!(true), 1));
    assert!(unload().status.success());
    // Of another version, of nobody, and one without anything in it that looks like ours.
    for name in ["000007-0123456789abcdef", "other"] {
        std::fs::create_dir(pins.path().join(name)).unwrap();
    }
    let (_, told) = Daemon::start_in(folder, &settings).stop();
    let restart = told.iter().find(|record| record["kind"] == "restart").unwrap();
    assert_eq!(restart["watched"], false);
    assert!(restart["from_boot_ns"].as_u64().unwrap() < restart["to_boot_ns"].as_u64().unwrap());
    assert_eq!(restart["problems"].as_array().unwrap().len(), 1, "{restart}");
    assert_eq!(pins.names().len(), 2, "its own, and what is not ours: {:?}", pins.names());
    assert!(unload().status.success());
    assert_eq!(pins.names(), ["other"]);
}

#[test]
fn time_without_probes_is_told_with_its_bounds() {
    if let Some(reason) = cannot_trace() {
        skip!("time_without_probes_is_told_with_its_bounds", "{reason}");
    }
    let daemon = Daemon::start(&["rules.embedded=false"]);
    let log = daemon.log();
    let folder = daemon.end(libc::SIGTERM);
    let last = records(&log).last().unwrap()["boot_ns"].as_u64().unwrap();
    let (_, told) = Daemon::start_in(folder, &["rules.embedded=false"]).stop();
    let restart = told.iter().find(|record| record["kind"] == "restart").unwrap();
    assert_eq!((&restart["watched"], &restart["from_boot_ns"]), (&json!(false), &json!(last)));
    assert!(restart["to_boot_ns"].as_u64().unwrap() > last);
}

#[test]
fn second_daemon_with_the_same_pins_does_not_start_and_takes_nothing_from_the_first() {
    const TEST: &str = "second_daemon_with_the_same_pins_does_not_start_and_takes_nothing_from_the_first";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let pins = Pins::mount();
    let settings = [RECORD, &pins.setting(), "rules.embedded=false"];
    let daemon = Daemon::start(&settings);
    let left = pins.names();
    let other = tempfile::tempdir().unwrap();
    let log = format!("log.dir={}", other.path().join("log").display());
    for command in ["run", "unload"] {
        let output = taffrail(&[command, "-o", &pins.setting(), "-o", &log]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), said.contains("another daemon has that folder")),
            (Some(2), true),
            "{said}"
        );
        assert_eq!(pins.names(), left);
    }
    let container = Container::start("second").unwrap();
    container.sh(": >/tmp/m-1").unwrap();
    daemon.wait_for(|record| record["event"]["file"] == "/tmp/m-1");
}

#[test]
fn start_that_was_ended_before_its_probes_were_pinned_has_watched_nothing() {
    if let Some(reason) = cannot_trace() {
        skip!("start_that_was_ended_before_its_probes_were_pinned_has_watched_nothing", "{reason}");
    }
    let pins = Pins::mount();
    let settings = ["rules.embedded=false", &pins.setting()];
    let daemon = Daemon::start(&settings);
    let log = daemon.log();
    let folder = daemon.end(libc::SIGTERM);
    let last = records(&log).last().unwrap()["boot_ns"].as_u64().unwrap();
    // As such a start leaves it.
    let generation = pins.path().join(&pins.names()[0]);
    for entry in generation.read_dir().unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_str().unwrap().starts_with("link-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let (_, told) = Daemon::start_in(folder, &settings).stop();
    let restart = told.iter().find(|record| record["kind"] == "restart").unwrap();
    assert_eq!((&restart["watched"], &restart["from_boot_ns"]), (&json!(false), &json!(last)));
}

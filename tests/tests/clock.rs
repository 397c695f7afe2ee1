//! A wall clock that is set, far ahead, far back and by a little: records stay in their order, times are those of the clock as
//! it was, and nothing stops. Runs in VMs only (`cargo xtask vm test`), where the clock is nobody else's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use taffrail_tests::daemon::{Daemon, taffrail, wait_for};
use taffrail_tests::{cannot_load, skip};

const DAY: i64 = 86_400;
const SECOND_NS: i64 = 1_000_000_000;

/// Where the clock is set to, one step after the other, in ns.
const STEPS: [i64; 4] =
    [DAY * SECOND_NS, -DAY * SECOND_NS - 3_600 * SECOND_NS, SECOND_NS / 2, 3_600 * SECOND_NS];

/// Sets the wall clock ahead, or back.
fn step(by_ns: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64 + by_ns;
    let time = libc::timespec { tv_sec: now / SECOND_NS, tv_nsec: now % SECOND_NS };
    // SAFETY: the time lives.
    assert_eq!(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }, 0);
}

/// Makes an event, and gives its record and how far its time is from the wall clock's.
fn mark(daemon: &Daemon, name: &str) -> (Value, Duration) {
    let path = format!("/tmp/clock-{name}");
    let now = jiff::Timestamp::now();
    std::fs::write(&path, "").unwrap();
    let record = daemon.wait_for(|record| record["event"]["file"] == *path);
    let time: jiff::Timestamp = record["time"].as_str().unwrap().parse().unwrap();
    (record, now.duration_until(time).unsigned_abs())
}

#[test]
fn wall_clock_that_is_set_changes_times_and_nothing_else() {
    const TEST: &str = "wall_clock_that_is_set_changes_times_and_nothing_else";
    if std::env::var_os("TAFFRAIL_VM").is_none() {
        skip!(TEST, "it sets the clock of the machine: only in VMs");
    }
    if let Some(reason) = cannot_load() {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&[
        "scope.host=true",
        "log.record=evt.kind = open and fd.name startswith /tmp/clock-",
        "log.checkpoint_interval_s=1",
        "log.heartbeat_s=2",
        "log.key_interval_s=5",
        "log.segment_age_s=4",
        "log.compress=false",
        "rules.embedded=false",
    ]);
    let mut marks = vec![mark(&daemon, "start")];
    for (number, by_ns) in STEPS.into_iter().enumerate() {
        step(by_ns);
        // Until that is noticed, times are those of the clock as it was.
        let steps = || {
            let records = taffrail_tests::daemon::records(&daemon.log());
            records.into_iter().filter(|record| record["kind"] == "clock").collect::<Vec<_>>()
        };
        let told =
            wait_for(|| steps().get(number).cloned()).unwrap_or_else(|| panic!("{by_ns}: {}", daemon.said()));
        let error_ns = told["step_ns"].as_i64().unwrap() - by_ns;
        assert!(error_ns.abs() < SECOND_NS / 4, "{by_ns}: {told}");
        marks.push(mark(&daemon, &number.to_string()));
        // It goes on signing by its own time: checkpoints, keys and segments come as before.
        let after = marks.last().unwrap().0["seq"].as_u64().unwrap();
        for kind in ["checkpoint", "key", "segment"] {
            daemon.wait_for(|record| record["kind"] == kind && record["seq"].as_u64().unwrap() > after);
        }
        let mut status = taffrail(&["status", "--ready"]);
        status.arg("--config").arg(daemon.config());
        status.args(["-o", &format!("log.dir={}", daemon.log().display())]);
        assert!(status.status().unwrap().success(), "after a step of {by_ns} ns it is not ready");
    }
    for (record, off) in &marks {
        assert!(*off < Duration::from_secs(2), "{off:?} off: {record}");
    }
    let log = daemon.log();
    assert_eq!(taffrail(&["audit", "verify"]).arg(&log).status().unwrap().code(), Some(0));
    let (status, records) = daemon.stop();
    assert!(status.success());
    let numbers: Vec<u64> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let boots = marks.iter().map(|(record, _)| (record["seq"].as_u64(), record["boot_ns"].as_u64()));
    assert!(boots.is_sorted(), "records are in the order of events");
    assert!(
        !records
            .iter()
            .any(|record| ["degraded", "retention", "gap"].iter().any(|kind| record["kind"] == *kind))
    );
}

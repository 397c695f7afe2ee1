//! A daemon that gets no CPU time, by a limit or since it is frozen, while a container floods.

use taffrail_tests::act::Act;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event, told_as_lost};
use taffrail_tests::fence::Fence;
use taffrail_tests::{cannot_trace, skip};

/// How many files the container opens.
const FLOOD: u64 = 40_000;
/// A file that nothing else opens.
const MARKER: &str = "/proc/sys/kernel/ostype";

/// Holds the daemon back while a container floods, and lets it go: each open is seen or told as lost.
fn flood(fence: &Fence, hold: impl Fn(&Fence), release: impl Fn(&Fence)) {
    let [container, other] = ["standstill", "other"].map(|name| Container::start(name).unwrap());
    let mut flood = Act::prepare(&container, &["open", &FLOOD.to_string(), MARKER]);
    let daemon = Daemon::start(&[crate::ALL]);
    fence.take(daemon.pid());
    hold(fence);
    flood.go();
    flood.end();
    release(fence);
    // It is itself again.
    other.sh("/bin/true afterwards").unwrap();
    daemon.wait_for(|record| record["event"]["args"][1] == "afterwards");
    let log = daemon.log();
    assert_eq!(crate::verify(&log).0, Some(0));
    let (status, records) = daemon.stop();
    assert!(status.success());
    let is_of_flood = |record: &&serde_json::Value| {
        is_event(record, "open", container.id()) && record["event"]["file"] == MARKER
    };
    let seen = records.iter().filter(is_of_flood).count() as u64;
    let lost = told_as_lost(&records, "open", container.id());
    assert_eq!(seen + lost, FLOOD, "{seen} seen, {lost} lost");
    assert!(lost > 0, "nothing was lost: that tests nothing");
}

#[test]
fn nothing_is_lost_unaccounted_when_the_daemon_gets_no_cpu_time() {
    const TEST: &str = "nothing_is_lost_unaccounted_when_the_daemon_gets_no_cpu_time";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    match Fence::new("cpu") {
        Ok(fence) => flood(&fence, |fence| fence.cpu_percent(2), Fence::cpu_free),
        Err(error) => skip!(TEST, "{error}"),
    }
}

#[test]
fn nothing_is_lost_unaccounted_when_the_daemon_is_frozen() {
    const TEST: &str = "nothing_is_lost_unaccounted_when_the_daemon_is_frozen";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    match Fence::new("freezer") {
        Ok(fence) => flood(&fence, |fence| fence.freeze(true), |fence| fence.freeze(false)),
        Err(error) => skip!(TEST, "{error}"),
    }
}

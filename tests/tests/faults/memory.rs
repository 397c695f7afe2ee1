//! Memory: the daemon keeps within the chart's limit whatever containers do, and if the kernel kills it nevertheless the next
//! one takes over.

use serde_json::json;
use taffrail_tests::act::Act;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, records, wait_for};
use taffrail_tests::fence::Fence;
use taffrail_tests::pins::Pins;
use taffrail_tests::{cannot_trace, raw, skip};

/// The chart's limit.
const LIMIT: u64 = 512 << 20;
/// How much of it the daemon may have as its own when a container does all it can.
const OWN_MAX: u64 = 224 << 20;

/// A program that ends at once, at the end of a path.
fn program(folder: &tempfile::TempDir) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join("program");
    std::fs::write(&path, raw::program()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Memory of a process that is its own.
fn own_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn processes_with_long_arguments_do_not_take_more_memory_than_the_chart_allows() {
    const TEST: &str = "processes_with_long_arguments_do_not_take_more_memory_than_the_chart_allows";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let fence = match Fence::new("memory") {
        Ok(fence) => fence,
        Err(error) => skip!(TEST, "{error}"),
    };
    fence.memory_bytes(LIMIT);
    let folder = tempfile::tempdir().unwrap();
    let container = Container::start("long").unwrap();
    // What is not recorded is remembered all the same.
    let record = "log.record=evt.kind = exec and proc.args startswith round-";
    let daemon = Daemon::start(&[record, "rules.embedded=false"]);
    fence.take(daemon.pid());
    // Each takes 16 KB: all of them would be 320 MB.
    let mut most = 0;
    for round in 0..10 {
        Act::run(&container, &["exec", "2000", &program(&folder)]);
        // It has come so far, however little time it gets.
        let mark = format!("round-{round}");
        let is_there = wait_for(|| {
            container.sh(&format!("/bin/true {mark}")).unwrap();
            records(&daemon.log()).iter().any(|record| record["event"]["args"][1] == mark).then_some(())
        });
        is_there.unwrap_or_else(|| panic!("no {mark}"));
        most = most.max(own_bytes(daemon.pid()));
    }
    eprintln!("{} MiB at most", most >> 20);
    assert!(most < OWN_MAX, "{} MiB", most >> 20);
    let (status, records) = daemon.stop();
    assert!(status.success());
    let lost: u64 =
        records.iter().filter(|of| of["kind"] == "gap").filter_map(|of| of["count"].as_u64()).sum();
    assert!(lost < 5_000, "{lost} events were lost: that tests little");
}

#[test]
fn daemon_that_is_killed_for_memory_is_followed_by_one_that_tells_what_is_missing() {
    const TEST: &str = "daemon_that_is_killed_for_memory_is_followed_by_one_that_tells_what_is_missing";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let fence = match Fence::new("memory") {
        Ok(fence) => fence,
        Err(error) => skip!(TEST, "{error}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let pins = Pins::mount();
    let record = "log.record=container.id != host and evt.kind = open and fd.name startswith /tmp/m-";
    let settings = [record, &pins.setting(), "rules.embedded=false"];
    let container = Container::start("killed").unwrap();
    let mark = |from: u32, to: u32| {
        container.sh(&format!("for n in $(seq {from} {to}); do : >/tmp/m-$n; done")).unwrap();
    };
    let daemon = Daemon::start(&settings);
    mark(1, 100);
    daemon.wait_for(|record| record["event"]["file"] == "/tmp/m-100");
    // What it has is not counted there; what it takes from now on is.
    fence.memory_bytes(4 << 20);
    fence.take(daemon.pid());
    let is_dead = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    };
    let killed = wait_for(|| {
        Act::run(&container, &["exec", "500", &program(&folder)]);
        is_dead(daemon.pid()).then_some(())
    });
    killed.expect("the kernel kills it");
    mark(101, 200);
    let daemon = Daemon::start_in(daemon.kill(), &settings);
    mark(201, 300);
    daemon.wait_for(|record| record["event"]["file"] == "/tmp/m-300");
    let (code, report) = crate::verify(&daemon.log());
    assert_eq!(code, Some(0), "{report}");
    let (status, records) = daemon.stop();
    assert!(status.success());
    let restart = records.iter().find(|record| record["kind"] == "restart").unwrap();
    assert_eq!(restart["watched"], json!(true), "{restart}");
    assert!(records.iter().any(|record| record["kind"] == "recovery"));
    let seen = |from: u32, to: u32| {
        let is_there =
            |n: &u32| records.iter().any(|record| record["event"]["file"] == format!("/tmp/m-{n}"));
        (from..=to).filter(is_there).count() as u64
    };
    // Only what happened when it was held back and gone may be missing.
    assert_eq!((seen(1, 100), seen(201, 300)), (100, 100));
    let gaps = records.iter().filter(|record| record["kind"] == "gap" && record["what"] == "open");
    let admitted: u64 = gaps.filter_map(|gap| gap["count"].as_u64()).sum();
    assert!(seen(101, 200) + admitted >= 100, "{} seen, {admitted} admitted", seen(101, 200));
}

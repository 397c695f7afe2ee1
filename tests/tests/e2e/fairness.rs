//! A container that floods loses only its own events, and loses none without its being told.

use std::time::{Duration, Instant};

use serde_json::Value;
use taffrail_tests::act::Act;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event, told_as_lost, wait_for};
use taffrail_tests::{cannot_trace, skip};

/// How many programs the quiet container runs, files it writes and connections it tries.
const QUIET: u64 = 25;

fn be_quiet(container: &Container) {
    let script = format!(
        "i=0; while [ $i -lt {QUIET} ]; do /bin/true mark-$i; echo x > /tmp/mark-$i; nc -w 1 127.0.0.1 7; i=$((i+1)); done; true"
    );
    let output = container.sh(&script).unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Nothing that the quiet container did is missing.
#[track_caller]
fn assert_all_of_the_quiet_one(records: &[Value], container: &Container) {
    let of = |kind: &str| {
        records.iter().filter(|record| is_event(record, kind, container.id())).collect::<Vec<_>>()
    };
    for n in 0..QUIET {
        let (argument, file) = (format!("mark-{n}"), format!("/tmp/mark-{n}"));
        let execs = of("exec").iter().filter(|record| record["event"]["args"][1] == *argument).count();
        let opens = of("open").iter().filter(|record| record["event"]["file"] == *file).count();
        assert_eq!((execs, opens), (1, 1), "{n}");
    }
    let connects = of("connect").iter().filter(|record| record["event"]["remote_port"] == 7).count();
    assert_eq!(connects as u64, QUIET);
    let mut gaps = records.iter().filter(|record| record["kind"] == "gap");
    assert_eq!(gaps.find(|gap| gap["container"]["id"] == container.id()), None);
}

/// How the daemon is to be while a container floods.
struct Trial {
    /// What the loud container does, the kind of event that it is, and how often.
    flood: (&'static str, &'static str, u64),
    settings: &'static [&'static str],
    /// How long the daemon stands still, from just before the flood on.
    stopped: Duration,
}

impl Trial {
    /// One container floods while another does this and that. Returns how many events of the flood were seen and
    /// how many are told to be lost.
    fn run(&self) -> (u64, u64) {
        let (what, kind, count) = self.flood;
        let (loud, quiet) = (Container::start("loud").unwrap(), Container::start("quiet").unwrap());
        // All that it takes to start these happens before anybody watches.
        let mut flood = Act::prepare(&loud, &[what, &count.to_string(), MARKER]);
        // All on one core: the daemon has the others.
        flood.pin();
        let daemon = Daemon::start(&[&[crate::ALL], self.settings].concat());
        let begin = Instant::now();
        if !self.stopped.is_zero() {
            daemon.signal(libc::SIGSTOP);
        }
        flood.go();
        be_quiet(&quiet);
        wait_for(|| (begin.elapsed() >= self.stopped).then_some(()));
        daemon.signal(libc::SIGCONT);
        flood.end();
        let (_, records) = daemon.stop();
        assert_all_of_the_quiet_one(&records, &quiet);
        let of_flood = |record: &&Value| {
            is_event(record, kind, loud.id())
                && record["process"]["name"] == "act"
                && (kind != "open" || record["event"]["file"] == MARKER)
        };
        let seen = records.iter().filter(of_flood).count() as u64;
        (seen, told_as_lost(&records, kind, loud.id()))
    }
}

/// A file that nothing else opens.
const MARKER: &str = "/proc/sys/kernel/ostype";

/// How many events a flood has, and `TAFFRAIL_FLOOD` times as many where that is set.
fn many(count: u64) -> u64 {
    let times = std::env::var("TAFFRAIL_FLOOD").ok().and_then(|times| times.parse().ok());
    count * times.unwrap_or(1)
}

#[track_caller]
fn assert_all_is_accounted_for(trial: &Trial, loses: bool) {
    let (seen, lost) = trial.run();
    eprintln!("{:?}: {seen} seen, {lost} lost", trial.flood);
    assert_eq!(seen + lost, trial.flood.2, "{seen} seen, {lost} lost");
    assert!(!loses || lost > 0, "nothing was lost: that tests nothing");
}

#[test]
fn flood_into_a_small_ring_costs_others_nothing() {
    if let Some(reason) = cannot_trace() {
        skip!("flood_into_a_small_ring_costs_others_nothing", "{reason}");
    }
    let settings = &["probes.bulk_ring_bytes=1MiB"];
    let trial = Trial { flood: ("open", "open", many(20_000)), settings, stopped: Duration::ZERO };
    assert_all_is_accounted_for(&trial, false);
}

#[test]
fn flood_while_nothing_is_read_leaves_room_for_others() {
    if let Some(reason) = cannot_trace() {
        skip!("flood_while_nothing_is_read_leaves_room_for_others", "{reason}");
    }
    let stopped = Duration::from_secs(2);
    let trial = Trial { flood: ("open", "open", many(50_000)), settings: &[], stopped };
    assert_all_is_accounted_for(&trial, true);
}

#[test]
fn fork_bomb_leaves_room_for_the_processes_of_others() {
    if let Some(reason) = cannot_trace() {
        skip!("fork_bomb_leaves_room_for_the_processes_of_others", "{reason}");
    }
    let stopped = Duration::from_secs(2);
    let trial = Trial { flood: ("fork", "fork", many(15_000)), settings: &[], stopped };
    assert_all_is_accounted_for(&trial, true);
}

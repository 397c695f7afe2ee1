//! One file per kind of event: what processes in a container do, and what the log then says of it, to the exact value.
//! A real daemon, real actions in a sandbox that needs no runtime, so that the same tests run on other kernels. After
//! the actions the daemon is stopped: what is not in its log by then was not seen, and events that must not be are
//! looked for in a log that is complete.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accept;
mod access;
mod bind;
mod bpf;
mod cgroup;
mod cgroup_move;
mod change;
mod compat;
mod cred;
mod dup;
mod io_uring;
mod kernel;
mod key;
mod listen;
mod memfd;
mod memory;
mod module;
mod mount;
mod namespace;
mod object;
mod setting;
mod signal;
mod socket;
mod syscall;
mod write;

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use taffrail_tests::daemon::Daemon;
use taffrail_tests::sandbox::{self, Options, Sandbox};

/// Records every event in containers, without alerts.
const ALL: &[&str] = &["log.record=container.id != host", "rules.embedded=false"];

/// What became of a body, and what was seen of it.
pub struct Seen<T> {
    /// What the body returned.
    pub value: T,
    /// The process that ran it, by the host's count.
    pub pid: u32,
    /// The container's id.
    pub container: String,
    /// All records of the container but gaps.
    pub records: Vec<Value>,
    /// The probes that were attached.
    attached: Vec<Value>,
    /// Runs of probes that the kernel skipped meanwhile, on the whole machine.
    pub skipped: u64,
}

/// Runs a body in a container under a daemon that records all of it. Where that cannot be done, says so and gives
/// `None`.
pub fn watch<T: Serialize + DeserializeOwned>(
    test: &str,
    body: impl FnOnce() -> io::Result<T>,
) -> Option<Seen<T>> {
    let (daemon, sandbox) = set(test, ALL, Options { network: true })?;
    finish(test, daemon, &sandbox, body)
}

/// A daemon with these settings, and a container that it knows.
pub fn set(test: &str, settings: &[&str], options: Options) -> Option<(Daemon, Sandbox)> {
    if let Some(reason) = taffrail_tests::cannot_load().or_else(sandbox::unavailable) {
        taffrail::testing::skipped(test, reason);
        return None;
    }
    let daemon = Daemon::start(settings);
    let sandbox = Sandbox::with(options).unwrap();
    Some((daemon, sandbox))
}

/// Runs the body, stops the daemon, and gives what was recorded of the container.
pub fn finish<T: Serialize + DeserializeOwned>(
    test: &str,
    daemon: Daemon,
    sandbox: &Sandbox,
    body: impl FnOnce() -> io::Result<T>,
) -> Option<Seen<T>> {
    let ran = match sandbox.run(body) {
        Ok(ran) => ran,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            taffrail::testing::skipped(test, error);
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let (status, mut records) = daemon.stop();
    assert!(status.success());
    // Kernels that preempt programs (from 6.13 on) run none twice at a time on one CPU, whoever the second run is for.
    let (gaps, events): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record["kind"] == "gap");
    let skipped =
        gaps.iter().filter(|gap| gap["where"] == "probe").filter_map(|gap| gap["count"].as_u64()).sum();
    let lost = gaps.iter().find(|gap| gap["where"] != "probe");
    assert!(lost.is_none(), "events were lost: {lost:?}");
    records = events;
    let probes = records.iter().filter(|record| record["kind"] == "probes");
    let probes = probes.filter_map(|record| record["probes"].as_array()).flatten();
    let attached = probes.filter(|probe| probe["state"] == "attached").cloned().collect();
    records.retain(|record| record["container"]["id"] == sandbox.id());
    Some(Seen {
        value: ran.value,
        pid: ran.pid,
        container: sandbox.id().to_owned(),
        records,
        attached,
        skipped,
    })
}

/// A call's object by its names.
pub struct Named<'a> {
    /// What the caller gave.
    pub given: &'a str,
    /// The folder that this is relative to.
    pub base: Option<&'a str>,
    /// The object's path.
    pub path: &'a str,
}

impl<T> Seen<T> {
    /// The records of a kind whose event has all that `wanted` has.
    pub fn all(&self, kind: &str, wanted: &Value) -> Vec<&Value> {
        let of_kind = self.records.iter().filter(|record| record["event"]["kind"] == kind);
        of_kind.filter(|record| has(&record["event"], wanted)).collect()
    }

    /// The only record of a kind whose event has all that `wanted` has.
    #[track_caller]
    pub fn one(&self, kind: &str, wanted: Value) -> &Value {
        let found = self.all(kind, &wanted);
        let (number, skipped) = (found.len(), self.skipped);
        assert!(number == 1, "{number} of {kind} {wanted}, {skipped} runs skipped, in\n{}", self.dump(kind));
        found[0]
    }

    /// Asserts that there is none.
    #[track_caller]
    pub fn none(&self, kind: &str, wanted: Value) {
        let found = self.all(kind, &wanted);
        assert!(found.is_empty(), "{kind} {wanted} is there: {}", found[0]);
    }

    /// Whether a probe was attached, with all that it is for.
    pub fn is_attached(&self, probe: &str) -> bool {
        // Where the kernel has no `bpf_loop` it is another program.
        let names = [probe.to_owned(), format!("{probe}_bounded")];
        self.attached.iter().any(|attached| names.iter().any(|name| attached["probe"] == name.as_str()))
    }

    /// Asserts how a call's object is told, under `key` (`file` or `target`): by its path, as the kernel resolved it; or,
    /// and never where `probe` was attached, marked: as the caller gave it, with the folder that it is in.
    #[track_caller]
    pub fn assert_named(&self, record: &Value, probe: &str, key: &str, name: &Named<'_>) {
        let event = &record["event"];
        let is_marked = is_unverified(event, key);
        assert!(!(is_marked && self.is_attached(probe)), "`{probe}` was attached: {record}");
        let base = if key == "file" { "base".to_owned() } else { format!("{key}_base") };
        let expected = match is_marked {
            true => (json!(name.given), name.base.map_or(Value::Null, Value::from)),
            false => (json!(name.path), Value::Null),
        };
        assert_eq!((event[key].clone(), event[base].clone()), expected, "{record}");
    }

    fn dump(&self, kind: &str) -> String {
        let of_kind = self.records.iter().filter(|record| record["event"]["kind"] == kind);
        of_kind.map(|record| format!("{} {}\n", record["event"], record["target"])).collect()
    }
}

/// Whether a value has all members of another, and the same values in them.
fn has(value: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(members) => members.iter().all(|(name, wanted)| has(&value[name], wanted)),
        wanted => value == wanted,
    }
}

/// Whether a name of an event is only what the caller gave.
pub fn is_unverified(event: &Value, key: &str) -> bool {
    let flags = event[format!("{key}_flags")].as_array();
    flags.is_some_and(|flags| flags.iter().any(|flag| flag == "unverified"))
}

/// What a call returned, as the kernel says it: a negative errno if it failed.
pub fn outcome(result: io::Result<i64>) -> i64 {
    result.unwrap_or_else(|error| -i64::from(error.raw_os_error().unwrap()))
}

/// A child that waits until it is killed: its process id.
pub fn idle_child() -> io::Result<i32> {
    sandbox::fork(|| {
        loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        }
    })
}

/// Kills a child and waits for it.
pub fn end(child: i32) {
    let mut status = 0;
    // SAFETY: a child that was not waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    // SAFETY: as above.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
}

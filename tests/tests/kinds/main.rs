//! One file per kind of event: what processes in a container do, and what the log then says of it, to the exact value.
//! A real daemon, real actions in a sandbox that needs no runtime, so that the same tests run on other kernels. After
//! the actions the daemon is stopped: what is not in its log by then was not seen, and events that must not be are
//! looked for in a log that is complete.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accept;
mod access;
mod bind;
mod bpf;
mod cgroup_move;
mod change;
mod compat;
mod cred;
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
use serde_json::Value;
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
    records.retain(|record| record["container"]["id"] == sandbox.id());
    Some(Seen { value: ran.value, pid: ran.pid, container: sandbox.id().to_owned(), records, skipped })
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

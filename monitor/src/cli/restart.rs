//! What became of the time between two daemons: who watched, and what is missing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use taffrail_common::kind::KINDS;
use taffrail_common::map::Handled;

use super::run::members;
use crate::audit::RecordKind;
use crate::audit::read::{Cursor, Step, last_line};
use crate::clock;
use crate::event;
use crate::pipeline::{Sink, Worker};
use crate::probe::handover::{self, Left};

/// The last record of an earlier daemon.
#[derive(Debug, Deserialize)]
pub struct Last {
    seq: u64,
    boot_ns: u64,
    boot_id: String,
}

impl Last {
    /// What there is in a log; `None` if it is new, or nothing in it can be read, which others tell.
    pub fn of(log: &Path) -> Option<Self> {
        serde_json::from_slice(&last_line(log).ok()??).ok()
    }
}

/// Has the worker deal with what the probes of earlier daemons have seen since, whatever log these wrote, and tells how it
/// went. Those of this one were all attached at that time of the boot clock.
pub fn take_over<S: Sink>(
    last: Option<Last>,
    worker: &mut Worker<S>,
    log: &Path,
    (left, attached_ns): (Vec<Left>, u64),
    mut problems: Vec<String>,
) {
    if last.is_none() && left.is_empty() && problems.is_empty() {
        return;
    }
    let is_watched = handover::is_watched(&left);
    // What was written to another log is not looked for there: too much is told as unfinished, never too little.
    let logged = |handled: &Handled| match &last {
        Some(last) if handled.log == place(log) => logged(log, handled.seq, last.seq),
        _ => [0; KINDS],
    };
    let taken = worker.take_over(left, attached_ns, logged, &mut problems);
    for problem in &problems {
        log::warn!("{problem}");
    }
    let mut body = json!({ "watched": is_watched, "to_boot_ns": attached_ns });
    match last {
        _ if is_watched => {
            body["events"] = taken.events.into();
            body["repeated"] = taken.repeated.into();
            body["from_boot_ns"] = taken.from_boot_ns.into();
        }
        Some(last) if last.boot_id == clock::boot_id() => body["from_boot_ns"] = last.boot_ns.into(),
        Some(last) => body["last_boot_id"] = last.boot_id.into(),
        None => {}
    }
    if !problems.is_empty() {
        body["problems"] = problems.into();
    }
    worker.note(RecordKind::Restart, &members(&body));
}

/// Which folder that is: device and inode.
pub fn place(log: &Path) -> [u64; 2] {
    std::fs::metadata(log).map_or([0; 2], |folder| [folder.dev(), folder.ino()])
}

/// How many events of each kind the records behind one number and up to another tell of.
fn logged(log: &Path, behind: u64, until: u64) -> [u64; KINDS] {
    #[derive(Deserialize, PartialEq)]
    struct Told {
        boot_ns: u64,
        event: Event,
        process: Process,
    }
    #[derive(Deserialize, PartialEq)]
    struct Event {
        kind: String,
    }
    #[derive(Deserialize, PartialEq)]
    struct Process {
        key: String,
        tid: i64,
    }
    let mut counts = [0; KINDS];
    let mut last = None;
    let mut cursor = Cursor::new(log, behind + 1);
    cursor.set_limit(until);
    // What cannot be read is told as unfinished: too much, never too little.
    while let Ok(step) = cursor.next() {
        let line = match step {
            Step::Record { line, .. } => line,
            Step::End => break,
            _ => continue,
        };
        let Ok(told) = serde_json::from_slice::<Told>(line) else { continue };
        // Several rules that match one event are several records, one behind the other.
        if last.as_ref() != Some(&told) {
            let kind = (1..KINDS).find(|kind| event::kind_name(*kind as u16) == told.event.kind);
            if let Some(count) = kind.and_then(|kind| counts.get_mut(kind)) {
                *count += 1;
            }
        }
        last = Some(told);
    }
    counts
}

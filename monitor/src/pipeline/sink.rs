//! What comes out at the end of the pipeline.

use crate::audit::RecordKind;
use crate::detect::alert::Verdict;
use crate::enrich::Subject;
use crate::enrich::container::Container;
use crate::event::json::write_whole_container;
use crate::probe::flight::Flight;
use crate::probe::handover::Progress;
use crate::rules::Filter;
use crate::syscalls::{self, Counts};

/// Takes what comes out at the end.
pub trait Sink {
    /// An event, and what it led to.
    fn event(&mut self, subject: &Subject<'_>, verdict: Verdict<'_>);
    /// Events that were lost.
    fn gap(&mut self, gap: &Gap<'_>);
    /// How often a container made each system call.
    fn counts(&mut self, counts: Counts, time_ns: u64) {
        let mut body = Vec::new();
        counts.write_json(&mut body);
        self.note(RecordKind::Syscalls, counts.to_boot_ns, time_ns, &body);
    }
    /// The last system calls of a container.
    fn flight(&mut self, flight: Flight, boot_ns: u64, time_ns: u64) {
        for body in syscalls::flight_records(&flight) {
            self.note(RecordKind::Flight, boot_ns, time_ns, &body);
        }
    }
    /// What a container is called and was given is known now, or nobody can tell; `problems` are files of its runtime
    /// that were of no use.
    fn container(&mut self, container: &Container, problems: &[String], boot_ns: u64, time_ns: u64) {
        let mut body = Vec::new();
        write_whole_container(container, problems, &mut body);
        self.note(RecordKind::Container, boot_ns, time_ns, &body);
    }
    /// How far the log is with what came out; nowhere, if there is none.
    fn progress(&self) -> Progress {
        Progress::default()
    }
    /// From here on these events are recorded besides alerts, and of the host's own if so.
    fn choose(&mut self, _record: Filter, _host: bool) {}
    /// Anything else that belongs in the log; `body` is JSON members.
    fn note(&mut self, kind: RecordKind, boot_ns: u64, time_ns: u64, body: &[u8]);
}

/// Events that were lost, and all that is known about them.
pub struct Gap<'a> {
    /// `ring` (it had no room), `decode` (a record was damaged), `probe` (the kernel skipped a program), `scope` (a
    /// process is outside of its container's cgroup, and there was no room to follow it), `counts` (the table of
    /// counted system calls was full, or it is not known whose they are).
    pub place: &'static str,
    /// The kind of event, or the probe's name.
    pub what: &'a str,
    /// Whose they are, if known.
    pub container: Option<&'a Container>,
    /// Cgroup id, if known.
    pub cgroup_id: Option<u64>,
    /// How many.
    pub count: u64,
    /// They were lost after this time of the boot clock …
    pub from_boot_ns: u64,
    /// … and before this.
    pub to_boot_ns: u64,
    /// `to_boot_ns` by the wall clock.
    pub time_ns: u64,
}

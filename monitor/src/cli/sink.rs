//! Where the daemon's pipeline ends: in the audit log.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::audit::{Entry, Log, RecordKind};
use crate::clock::{self, Clock};
use crate::detect::alert::{Alert, Verdict};
use crate::enrich::Subject;
use crate::event::json::{Members, write_container, write_subject};
use crate::pipeline::{Gap, Sink};
use crate::probe::handover::Progress;
use crate::rules::Filter;
use crate::vitals::Vitals;

/// Writes into the audit log.
pub struct LogSink {
    /// The log.
    pub log: Log,
    /// How many entries it was handed.
    pub sent: u64,
    /// The log's folder.
    pub place: [u64; 2],
    /// Which events are recorded besides alerts.
    pub record: Filter,
    /// System calls that are recorded besides.
    pub calls: Vec<String>,
    /// Whether those of the host are, too.
    pub host: bool,
    /// How the daemon is.
    pub vitals: Arc<Vitals>,
    /// Room for a record's members.
    pub body: Vec<u8>,
}

impl LogSink {
    fn records(&self, subject: &Subject<'_>) -> bool {
        let is_chosen = || {
            let name = subject.event.model().type_name();
            (subject.container.is_some() || self.host) && self.calls.iter().any(|call| call == name)
        };
        self.record.matches(subject) || is_chosen()
    }

    fn append(&mut self, kind: RecordKind, subject: &Subject<'_>) {
        let boot_ns = subject.event.header().boot_ns;
        self.sent += 1;
        self.log.append(Entry { kind, time_ns: subject.time_ns, boot_ns, body: &self.body });
    }

    /// The last record, and all of it on disk.
    pub fn stop(mut self) -> Result<(), ExitCode> {
        let boot_ns = clock::boot_ns();
        self.note(RecordKind::Stop, boot_ns, Clock::now().realtime_ns(boot_ns), b"");
        self.log.close().map_err(|error| {
            super::complain(&error, Some("look at the disk of the log folder"));
            ExitCode::from(super::FAILED)
        })
    }
}

impl Sink for LogSink {
    fn event(&mut self, subject: &Subject<'_>, verdict: Verdict<'_>) {
        let mut alerted = false;
        for alert in verdict.alerts() {
            alerted = true;
            self.vitals.matched(alert.rule, 1, 0);
            self.body.clear();
            write_alert(&alert, subject, &mut self.body);
            self.append(RecordKind::Alert, subject);
        }
        let suppressed: Vec<&str> = verdict
            .suppressed()
            .inspect(|rule| self.vitals.matched(rule, 0, 1))
            .map(|rule| rule.name.as_str())
            .collect();
        // An event that raised no alert since there were too many is in the log all the same.
        if !alerted && (!suppressed.is_empty() || self.records(subject)) {
            self.body.clear();
            if !suppressed.is_empty() {
                let names = serde_json::Value::from(suppressed);
                Members::within(&mut self.body).raw("suppressed", format_args!("{names}"));
                self.body.push(b',');
            }
            write_subject(subject, &mut self.body);
            self.append(RecordKind::Event, subject);
        }
    }

    fn gap(&mut self, gap: &Gap<'_>) {
        let body = gap_body(gap);
        self.note(RecordKind::Gap, gap.to_boot_ns, gap.time_ns, &body);
    }

    fn choose(&mut self, record: Filter, host: bool) {
        (self.record, self.host) = (record, host);
    }

    fn note(&mut self, kind: RecordKind, boot_ns: u64, time_ns: u64, body: &[u8]) {
        self.sent += 1;
        self.log.append(Entry { kind, time_ns, boot_ns, body });
    }

    fn progress(&self) -> Progress {
        let stats = self.log.stats();
        // In this order: of what is settled the records are there.
        let settled = stats.settled.load(Ordering::Acquire);
        let seq = stats.durable_seq.load(Ordering::Acquire);
        Progress { sent: self.sent, settled, seq, log: self.place }
    }
}

/// An alert's members: the rule, its text, its evidence, and the whole event.
pub fn write_alert(alert: &Alert<'_>, subject: &Subject<'_>, body: &mut Vec<u8>) {
    let rule = alert.rule;
    let mut output = String::new();
    alert.render(subject, &mut output);
    let mut members = Members::within(body);
    members.text("rule", rule.name.as_bytes());
    members.text("priority", rule.priority.name().as_bytes());
    members.text("output", output.trim().as_bytes());
    let tags = serde_json::Value::from(rule.tags.clone());
    members.raw("tags", format_args!("{tags}"));
    if let Some(origin) = &rule.origin {
        origin.write_json(&mut members);
    }
    alert.write_json(subject, &mut members);
    body.push(b',');
    write_subject(subject, body);
}

/// A gap's members.
pub fn gap_body(gap: &Gap<'_>) -> Vec<u8> {
    let Gap { place, what, container, cgroup_id, count, from_boot_ns, to_boot_ns, time_ns: _ } = gap;
    let mut body = Vec::new();
    let mut members = Members::within(&mut body);
    members.text("where", place.as_bytes());
    members.text("what", what.as_bytes());
    members.number("count", *count as i64);
    members.number("from_boot_ns", *from_boot_ns as i64);
    members.number("to_boot_ns", *to_boot_ns as i64);
    if let Some(id) = cgroup_id {
        members.number("cgroup_id", *id as i64);
    }
    body.push(b',');
    write_container(*container, &mut body);
    body
}

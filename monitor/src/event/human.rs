//! One line per event for people: `taffrail trace`. All that comes from the event is escaped.

use std::fmt::Write as _;

use super::table::container_id;
use super::text::escape;
use crate::enrich::Subject;

/// Appends the event's line without its newline.
pub fn write_line(subject: &Subject<'_>, out: &mut String) {
    let time = crate::clock::rfc3339(subject.time_ns);
    // `2026-11-24T12:00:00.123456789Z`: the time of day to the microsecond.
    let time = time.as_bytes().get(11..26).unwrap_or_default();
    escape(time, out);
    out.push(' ');
    let id = String::from_utf8_lossy(container_id(subject));
    let _ = write!(out, "{:<12.12} ", super::text::escaped(id.as_bytes()));
    escape(subject.process.name(), out);
    let _ = write!(out, "[{}] {} ", subject.process.key.tgid, subject.event.kind());
    subject.event.model().write_line(subject, out);
}

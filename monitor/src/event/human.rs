//! One line per event for people: `taffrail trace`. All that comes from the event is escaped.

use std::fmt::Write as _;

use super::table::{container_id, protocol, writes};
use super::text::escape;
use super::{Connect, Event, Open, errno};
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
    match subject.event {
        Event::Exec(exec) => {
            escape(exec.exe, out);
            out.push_str(": ");
            escape(&subject.process.image.cmdline, out);
        }
        Event::Fork(fork) => {
            let _ = write!(out, "child {}", fork.child_tgid);
        }
        Event::Exit(exit) => {
            let status = exit.wait_status;
            let ms = exit.header.boot_ns.saturating_sub(exit.header.start_ns) / 1_000_000;
            match status & 0x7f {
                0 => write!(out, "status {} after {ms} ms", status >> 8 & 0xff),
                signal => write!(out, "signal {signal} after {ms} ms"),
            }
            .unwrap_or_default();
        }
        Event::Open(open) => write_open(open, out),
        Event::Connect(connect) => write_connect(connect, out),
    }
}

fn write_open(open: &Open<'_>, out: &mut String) {
    let flags = open.record.flags;
    out.push_str(if flags != u32::MAX && writes(flags) { "write " } else { "read " });
    if !open.base.is_empty() {
        escape(open.base, out);
        out.push_str(" + ");
    }
    escape(open.file, out);
    write_result(open.record.result, out);
}

fn write_connect(connect: &Connect<'_>, out: &mut String) {
    match (connect.remote(), connect.path) {
        (Some(remote), _) => {
            let _ = write!(out, "{} {remote}", protocol(connect).unwrap_or("other"));
        }
        (None, []) => {
            let _ = write!(out, "family {}", connect.record.family);
        }
        (None, path) => {
            out.push_str("unix ");
            escape(path, out);
        }
    }
    write_result(connect.record.result, out);
}

fn write_result(result: i32, out: &mut String) {
    if result >= 0 {
        return;
    }
    match errno::name(result.unsigned_abs()) {
        Some(name) => {
            let _ = write!(out, " = {name}");
        }
        None => {
            let _ = write!(out, " = {result}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_of_any_number_is_written() {
        for (result, written) in
            [(3, ""), (-2, " = ENOENT"), (-4000, " = -4000"), (i32::MIN, " = -2147483648")]
        {
            let mut out = String::new();
            write_result(result, &mut out);
            assert_eq!(out, written);
        }
    }
}

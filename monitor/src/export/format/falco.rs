//! Falco's JSON output, as its side-car and all that read it expect it: `rule`, `priority`, `output`, `output_fields`,
//! `time`, `source`, `hostname`, `tags`. Records that are no alerts have a rule named after them.

use serde_json_borrow::Value;

use super::{Format, members};
use crate::event::text::json_string;
use crate::export::convert::{Out, write_text, write_value};
use crate::export::cut::Cut;
use crate::export::record::Record;
use crate::export::table::Column;

pub const FORMAT: Format = Format {
    name: "falco",
    about: "What Falco writes with `json_output`, with all fields that the event has in `output_fields`.",
    encode,
    is_json: true,
};

fn encode(record: &Record<'_>, cut: &Cut, out: &mut Vec<u8>) {
    let text = |name: &str, value: &str, out: &mut Vec<u8>| {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        write_text(value, cut, out);
    };
    out.extend_from_slice(b"{\"hostname\":");
    write_text(record.node(), cut, out);
    text("output", &output(record), out);
    text("priority", record.severity.name(), out);
    match record.text("", "rule") {
        Some(rule) => text("rule", rule, out),
        None => text("rule", &format!("Taffrail {}: {}", record.kind(), record.action()), out),
    }
    text("source", "syscall", out);
    text("time", record.text("", "time").unwrap_or_default(), out);
    text("uuid", &record.id(), out);
    out.extend_from_slice(b",\"tags\":");
    match record.get("", "tags") {
        Some(tags) => write_value(tags, cut, out),
        None => out.extend_from_slice(b"[]"),
    }
    out.extend_from_slice(b",\"output_fields\":{\"evt.time\":");
    Out::Number(record.time_ns).write_json(cut, out);
    if record.get("", "container").is_some_and(Value::is_null) {
        out.extend_from_slice(b",\"container.id\":\"host\"");
    }
    for member in members(record, Column::Falco, cut, |_| true) {
        out.push(b',');
        json_string(member.name.as_bytes(), out);
        out.push(b':');
        member.value.write_json(cut, out);
    }
    out.extend_from_slice(b"}}");
}

/// Falco puts time and priority before the rule's text.
fn output(record: &Record<'_>) -> String {
    let time = record.text("", "time").unwrap_or_default();
    format!("{time}: {} {}", record.severity.name(), record.message())
}

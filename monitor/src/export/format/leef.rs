//! IBM's Log Event Extended Format 2.0, its attributes apart by tabs. LEEF has no escapes; values are printable, as on
//! the terminal ([`escaped`]), so that none holds a tab or line end, and whoever reads them back knows what they were.

use super::{Format, members};
use crate::event::text::escaped;
use crate::export::cut::Cut;
use crate::export::record::Record;
use crate::export::table::Column;

pub const FORMAT: Format = Format {
    name: "leef",
    about: "IBM's Log Event Extended Format 2.0, apart by tabs, in one line.",
    encode,
    is_json: false,
};

fn encode(record: &Record<'_>, cut: &Cut, out: &mut Vec<u8>) {
    let kind = record.any_kind();
    let id = record.text("", "rule").unwrap_or(kind);
    out.extend_from_slice(concat!("LEEF:2.0|Taffrail|Monitor|", env!("CARGO_PKG_VERSION"), "|").as_bytes());
    // The header has no escape for its separator either.
    out.extend_from_slice(escaped(cut.text(id).as_bytes()).replace('|', "\\x7c").as_bytes());
    // The separator, as the standard writes one that cannot be printed.
    out.extend_from_slice(b"|x09|");
    let outcome = record.outcome().name();
    let time = record.text("", "time").and_then(|time| time.get(..23)).unwrap_or_default();
    out.extend_from_slice(
        format!("devTime={time}Z\tdevTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSX\tcat={kind}\tsev={}\trecordId={}\toutcome={outcome}", record.severity.of_ten().max(1), record.id()).as_bytes(),
    );
    pair("identHostName", record.node(), cut, out);
    if record.text("", "output").is_none() {
        pair("msg", &record.message(), cut, out);
    }
    if let Some(error) = record.error() {
        pair("reason", error, cut, out);
    }
    for member in members(record, Column::Leef, cut, |name| name != "reason") {
        if let Some(value) = member.value.flat(cut) {
            pair(&member.name, &value, cut, out);
        }
    }
}

fn pair(key: &str, value: &str, cut: &Cut, out: &mut Vec<u8>) {
    out.push(b'\t');
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(escaped(cut.text(value).as_bytes()).as_bytes());
}

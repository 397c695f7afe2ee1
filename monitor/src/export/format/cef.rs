//! ArcSight's Common Event Format, version 0 of its header (implementation standard, revision 26). Values are
//! printable first, as on the terminal ([`escaped`]): CEF knows no escape for other control characters than line ends.
//! Then `\` and `=` have a backslash before them, and in the header `\` and `|`. Texts end where CEF's dictionary
//! says that they must.

use super::{Format, members};
use crate::event::text::escaped;
use crate::export::cut::Cut;
use crate::export::record::Record;
use crate::export::table::Column;

pub const FORMAT: Format = Format {
    name: "cef",
    about: "ArcSight's Common Event Format (`CEF:0`), in one line.",
    encode,
    is_json: false,
};

/// Longest texts of CEF's keys, in bytes, of those that are not 1023.
const LENGTHS: &[(&str, usize)] = &[
    ("act", 63),
    ("cs1", 4000),
    ("cs2", 4000),
    ("cs3", 4000),
    ("cs4", 4000),
    ("cs5", 4000),
    ("cs6", 4000),
    ("destinationDnsDomain", 255),
    ("proto", 31),
];

/// What the free keys hold.
const LABELS: &[(&str, &str)] = &[
    ("cs1", "containerId"),
    ("cs2", "containerImage"),
    ("cs3", "podName"),
    ("cs4", "commandLine"),
    ("cs5", "executable"),
    ("cs6", "tags"),
    ("c6a2", "Source IPv6 Address"),
    ("c6a3", "Destination IPv6 Address"),
];

fn encode(record: &Record<'_>, cut: &Cut, out: &mut Vec<u8>) {
    let name = record.text("", "rule").unwrap_or_else(|| record.action());
    out.extend_from_slice(concat!("CEF:0|Taffrail|Monitor|", env!("CARGO_PKG_VERSION")).as_bytes());
    for field in [record.any_kind(), name] {
        out.push(b'|');
        escape(&bounded(field, 512, cut), b'|', out);
    }
    out.extend_from_slice(format!("|{}|", record.severity.of_ten()).as_bytes());
    let outcome = record.outcome().name();
    out.extend_from_slice(
        format!("rt={} externalId={} outcome={outcome} dvchost=", record.time_ns / 1_000_000, record.id())
            .as_bytes(),
    );
    escape(&bounded(record.node(), 100, cut), b'=', out);
    if record.text("", "output").is_none() {
        pair("msg", &record.message(), cut, out);
    }
    if let Some(error) = record.error() {
        pair("reason", error, cut, out);
    }
    let mut written: Vec<String> = Vec::new();
    for member in members(record, Column::Cef, cut, |_| true) {
        // A second one of a key would hide the first.
        if written.iter().any(|name| *name == member.name) || member.name == "reason" {
            continue;
        }
        let Some(value) = member.value.flat(cut) else { continue };
        pair(&member.name, &value, cut, out);
        if let Some((key, label)) = LABELS.iter().find(|(key, _)| *key == member.name) {
            pair(&format!("{key}Label"), label, cut, out);
        }
        written.push(member.name.into_owned());
    }
}

/// Appends a key and its value. Keys of our own are letters and digits, whoever chose the member's name.
fn pair(key: &str, value: &str, cut: &Cut, out: &mut Vec<u8>) {
    let max = LENGTHS.iter().find(|(known, _)| *known == key).map_or(1023, |(_, max)| *max);
    out.push(b' ');
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    escape(&bounded(value, max, cut), b'=', out);
}

/// The text, printable, in at most so many bytes, mark included.
fn bounded(text: &str, max: usize, cut: &Cut) -> String {
    let printable = escaped(text.as_bytes());
    if printable.len() <= max.min(cut.text_max) {
        return printable;
    }
    const MARK: usize = "…[18446744073709551615 bytes]".len();
    let cut = Cut { text_max: max.saturating_sub(MARK).min(cut.text_max), ..*cut };
    let mark = format!("…[{} bytes]", text.len());
    format!("{}{mark}", &printable[..printable.floor_char_boundary(cut.text_max)])
}

fn escape(text: &str, separator: u8, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if byte == b'\\' || byte == separator {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

//! Native JSON: the line of the log, byte for byte, so that its chain can be verified wherever it arrives. Only a
//! record that is too large for the receiver is written anew, cut, with `cut_bytes`: how long the line was.

use std::io::Write as _;

use super::Format;
use crate::export::convert::{write_text, write_value};
use crate::export::cut::Cut;
use crate::export::record::Record;

pub const FORMAT: Format = Format {
    name: "json",
    about: "The record as the log has it, byte for byte ([audit log](../audit-log.md)).",
    encode,
    is_json: true,
};

fn encode(record: &Record<'_>, cut: &Cut, out: &mut Vec<u8>) {
    if *cut == Cut::NOTHING {
        out.extend_from_slice(record.line);
        return;
    }
    // Writing to memory cannot fail.
    let _ = write!(out, "{{\"cut_bytes\":{}", record.line.len());
    for (name, value) in record.members() {
        out.push(b',');
        write_text(name, cut, out);
        out.push(b':');
        write_value(value, cut, out);
    }
    out.push(b'}');
}

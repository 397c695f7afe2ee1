//! Formats: from a record to the bytes that a receiver understands. Pure functions: no I/O, no state. A format is one
//! file here and one line in [`FORMATS`].

use serde_json_borrow::Value;

use super::convert::{self, Out};
use super::cut::Cut;
use super::record::Record;
use super::table::{self, Column};

mod cef;
mod ecs;
mod falco;
mod json;
mod leef;
mod nest;
mod ocsf;
mod otlp;
#[cfg(test)]
pub mod tests;

/// A format.
pub struct Format {
    /// Its name in the configuration.
    pub name: &'static str,
    /// What it is, and whose definition it follows.
    pub about: &'static str,
    /// Appends the record, so much of it.
    encode: fn(&Record<'_>, &Cut, &mut Vec<u8>),
    /// Whether it is one JSON object: else it is one line of text, or protobuf.
    pub is_json: bool,
}

/// All formats.
pub static FORMATS: &[Format] =
    &[json::FORMAT, ocsf::FORMAT, ecs::FORMAT, falco::FORMAT, cef::FORMAT, leef::FORMAT, otlp::FORMAT];

impl Format {
    /// By name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// Appends the record in at most `max` bytes. What is too long is cut, longest texts first. Returns whether it
    /// fits; if not, nothing is appended.
    pub fn encode(&self, record: &Record<'_>, max: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        for cut in &Cut::STEPS {
            (self.encode)(record, cut, out);
            if out.len() - start <= max {
                return true;
            }
            out.truncate(start);
        }
        false
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A member under the name that a format has for it.
struct Member<'r> {
    name: std::borrow::Cow<'static, str>,
    value: Out<'r>,
}

impl<'r> Member<'r> {
    fn new(name: &'static str, value: impl Into<Out<'r>>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// All members of a record under a format's names; `has_place` says whether there is a place for a name.
fn members<'r>(
    record: &'r Record<'_>,
    column: Column,
    cut: &Cut,
    has_place: impl Fn(&str) -> bool,
) -> Vec<Member<'r>> {
    let inward = record.is_inward();
    let mut members = Vec::with_capacity(96);
    record.each(|section, name, value| {
        let value: &'r Value<'r> = value;
        let Some(cell) = table::cell(column, section, name) else {
            if cut.keeps_own && !value.is_null() {
                members
                    .push(Member { name: column.own_name(section, name).into(), value: own(column, value) });
            }
            return;
        };
        if cell.is_told_elsewhere || value.is_null() {
            return;
        }
        let before = members.len();
        for target in &cell.targets {
            let name = if inward { target.inward } else { target.outward };
            if has_place(name)
                && let Some(value) = target.convert.apply(value)
            {
                members.push(Member { name: name.into(), value });
            }
        }
        if (members.len() == before || cell.is_own_too) && cut.keeps_own {
            members.push(Member { name: cell.own_name.as_str().into(), value: own(column, value) });
        }
    });
    members
}

/// A value under our own name. In ECS an object is a list of pairs: attackers choose the names in it, and an index
/// takes only so many fields, each of one type for ever.
fn own<'r>(column: Column, value: &'r Value<'r>) -> Out<'r> {
    let pairs = if column == Column::Ecs { convert::pairs(value) } else { None };
    pairs.unwrap_or(Out::Json(value))
}

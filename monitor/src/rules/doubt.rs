//! What is legal in a condition, but can hardly be meant: values that a field never has, two values at once, rules
//! about everything. [`super::typed`] has what a single value shows.

use taffrail_common::call::CALLS;
use taffrail_common::kind::KINDS;

use super::ast::Op;
use super::kinds::kinds_of;
use super::typed::{Item, Left};
use crate::diagnostic::{Diagnostic, Span};
use crate::event::field::{Field, KindSet, Type};
use crate::event::kind_name;
use crate::probe::hook::ALL_KINDS;

/// Most values of one list that a warning is told of.
pub const TOLD_MAX: usize = 5;

/// That a field has one of these values.
#[derive(Debug)]
pub struct Claim {
    field: &'static Field,
    index: Option<u32>,
    values: Vec<String>,
    place: Span,
}

/// The claims of parts that all have to hold; warns if two of them cannot.
pub fn agreeing(claims: impl Iterator<Item = Claim>, warn: &mut dyn FnMut(Diagnostic)) -> Vec<Claim> {
    let mut agreeing: Vec<Claim> = Vec::new();
    for claim in claims {
        let same = |other: &&mut Claim| (other.field, other.index) == (claim.field, claim.index);
        let Some(other) = agreeing.iter_mut().find(same) else {
            if agreeing.len() < CLAIMS_KEPT {
                agreeing.push(claim);
            }
            continue;
        };
        if other.values.iter().any(|value| claim.values.contains(value)) {
            other.values.retain(|value| claim.values.contains(value));
            continue;
        }
        let message = format!("`{}` cannot be both", claim.field.name);
        let warning = Diagnostic::warning("R214", message).label(claim.place.clone(), "this");
        let warning = warning.label(other.place.clone(), "and this");
        *other = claim;
        warn(warning.hint("this never holds; `or` may be meant"));
    }
    agreeing
}

/// Warns of values that a field never has.
pub fn check_values(typed: &Left<'_>, field: &Field, items: &[Item<'_>]) -> Vec<Diagnostic> {
    if !matches!(typed.op, Op::Eq | Op::Ne | Op::In | Op::Intersects) {
        return Vec::new();
    }
    let never = |item: &Item<'_>| {
        let text = item.word.text.as_str();
        let warning = |code, message: String| Some(Diagnostic::warning(code, message));
        match field.name {
            "evt.type" | "evt.kind" if kinds_of(field, text) == 0 => {
                let names = (1..KINDS as u16).map(kind_name).chain(CALLS.iter().map(|row| row.name));
                let warning = warning("R213", format!("there is no event `{text}`"));
                warning.map(|warning| warning.did_you_mean(text, names))
            }
            "evt.dir" if text != "<" => {
                warning("R214", "all events are told when they are over: `evt.dir` is always `<`".to_owned())
            }
            name if COMMAND_NAMES.contains(&name) && text.len() > COMMAND_NAME_MAX => {
                let cut = &text[..text.floor_char_boundary(COMMAND_NAME_MAX)];
                let message = format!("`{name}` has at most {COMMAND_NAME_MAX} bytes");
                warning("R214", message).map(|warning| warning.hint(format!("write `{cut}`")))
            }
            name if text.is_empty() && NEVER_EMPTY.contains(&name) => {
                let warning = warning("R214", format!("`{name}` is never empty"));
                warning.map(|warning| warning.hint(format!("write `not {name} exists`")))
            }
            _ => None,
        }
    };
    let told = items.iter().filter_map(|item| Some(item.label(never(item)?, "never this")));
    told.take(TOLD_MAX).map(|warning| warning.label(typed.place.clone(), "of this field")).collect()
}

/// Fields that are command names, which the kernel cuts.
const COMMAND_NAMES: [&str; 6] =
    ["proc.name", "proc.pname", "proc.aname", "proc.sname", "thread.name", "target.name"];

/// Longest command name, in bytes (`TASK_COMM_LEN` without its NUL).
const COMMAND_NAME_MAX: usize = 15;

/// Fields that have no value where others would have an empty one.
const NEVER_EMPTY: [&str; 8] = [
    "fd.name",
    "fs.path.name",
    "proc.exepath",
    "proc.pexepath",
    "proc.cwd",
    "proc.exe",
    "container.id",
    "evt.type",
];

/// Most claims of one part, and most values of one claim, that are looked at.
const CLAIMS_KEPT: usize = 32;

/// The claim that a test for some values makes.
pub fn claim(
    typed: &Left<'_>,
    field: &'static Field,
    index: Option<u32>,
    items: &[Item<'_>],
) -> Option<Claim> {
    // Addresses can be written in several ways, and the names of events are looked at otherwise.
    let is_comparable = matches!(field.ty, Type::Text | Type::Path | Type::TextList | Type::Bool)
        && !matches!(field.name, "evt.type" | "evt.kind");
    (is_comparable && (1..=CLAIMS_KEPT).contains(&items.len())).then(|| Claim {
        field,
        index,
        values: items.iter().map(|item| item.word.text.clone()).collect(),
        place: typed.place.clone(),
    })
}

/// A rule that looks at all events: the kernel then has to tell all of them.
pub fn unlimited(kinds: KindSet, rule: &str, place: Span) -> Option<Diagnostic> {
    (kinds == ALL_KINDS).then(|| {
        Diagnostic::warning("R218", format!("rule `{rule}` says of no event that it is none of its own"))
            .label(place, "all kinds of event have to be looked at")
            .hint("add what it is about, such as `evt.kind = exec and …`")
    })
}

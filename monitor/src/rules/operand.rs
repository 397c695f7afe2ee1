//! What conditions compare if that is more than a field's values one by one: what transformers make of them, two
//! fields with each other, and lists of which all values count.
//!
//! Values are made in a room that each thread has once, so that nothing is allocated for an event. What a transformer
//! makes is cut at [`TEXT_MAX`] bytes, which is more than a text of an event has; only joined ones can be longer.

use std::cell::Cell;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

use super::ast::Op;
use super::kinds::needs;
use super::matcher::{Matcher, ends_folded, field_cost, starts_folded};
use super::pattern::glob;
use crate::event::field::{Field, Inline, KindSet, Value, Values};

/// Longest text that a transformer makes, in bytes.
pub const TEXT_MAX: usize = 8 << 10;

/// Most transformers within each other, on one side of a test.
pub const DEPTH_MAX: usize = 8;

/// Room for both sides, and for what comparing needs.
const ROOM: usize = (2 * DEPTH_MAX + 2) * TEXT_MAX;

/// A test whose left side is made, or whose right side is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Derived {
    /// What is tested.
    pub left: Source,
    /// Whether it has to hold for all values of a list; else for one.
    pub every: bool,
    /// What a value is compared with.
    pub right: Against,
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Against {
    /// Constants.
    Matcher(Matcher),
    /// A value of the same event: one of them, if there are several.
    Source(Op, Source),
}

/// What makes values of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A field, and the number in brackets.
    Field(&'static Field, Option<u32>),
    /// A value that a field has by name.
    Keyed(&'static Field, Box<[u8]>),
    /// A constant text.
    Text(Box<[u8]>),
    /// Lower case (ASCII).
    Lower(Box<Source>),
    /// Upper case (ASCII).
    Upper(Box<Source>),
    /// What base64 means; no value if it is none.
    Decoded(Box<Source>),
    /// What follows the last slash.
    LastPart(Box<Source>),
    /// A text's length in bytes.
    Length(Box<Source>),
    /// The number of values; no value if there are none.
    Count(Box<Source>),
    /// A number, address or truth as text.
    Printed(Box<Source>),
    /// All values of all parts, with a text between them; no value if a part has none.
    Joined(Box<[u8]>, Box<[Source]>),
    /// The options in a list of arguments, and their values.
    Options(Box<Options>),
}

/// Which options a list of arguments can have, as `getopt` of POSIX does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// The arguments.
    pub arguments: Source,
    /// The letters that are options.
    pub letters: Box<[u8]>,
    /// Those of them that are followed by a value.
    pub with_value: Box<[u8]>,
    /// The only option whose value counts: the last one there is, its letter if it has none. Without it all options and
    /// values are a list, with `?` for an unknown one.
    pub wanted: Option<u8>,
}

impl Derived {
    /// Whether it holds for an event.
    pub fn holds(&self, values: &impl Values) -> bool {
        with_room(|room| self.holds_in(values, room))
    }

    fn holds_in(&self, values: &dyn Values, room: &mut [u8]) -> bool {
        let mut is_so = |value: Value<'_>, room: &mut [u8]| match &self.right {
            Against::Matcher(matcher) => matcher.matches(&value),
            Against::Source(op, right) => {
                right.each(values, room, &mut |other, room| compare(*op, &value, &other, room))
            }
        };
        if !self.every {
            return self.left.each(values, room, &mut is_so);
        }
        let mut seen = false;
        let refuted = self.left.each(values, room, &mut |value, room| {
            seen = true;
            !is_so(value, room)
        });
        seen && !refuted
    }

    /// About how long it takes.
    pub fn cost(&self) -> u32 {
        self.left.cost()
            + match &self.right {
                Against::Matcher(matcher) => matcher.cost(),
                Against::Source(_, right) => 2 + right.cost(),
            }
    }
}

/// Lends the room of this thread.
fn with_room<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static ROOM_OF_THREAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut room = ROOM_OF_THREAD.take();
    room.resize(ROOM, 0);
    let done = work(&mut room);
    ROOM_OF_THREAD.set(room);
    done
}

/// Calls the test with each value and the room that is left, until it returns true; returns whether it did.
type Test<'t> = &'t mut dyn FnMut(Value<'_>, &mut [u8]) -> bool;

impl Source {
    /// What has to be watched for it, beside the events that have it.
    pub fn needs(&self) -> KindSet {
        match self {
            Source::Field(field, _) | Source::Keyed(field, _) => needs(field),
            Source::Text(_) => 0,
            Source::Lower(inner)
            | Source::Upper(inner)
            | Source::Decoded(inner)
            | Source::LastPart(inner)
            | Source::Length(inner)
            | Source::Count(inner)
            | Source::Printed(inner) => inner.needs(),
            Source::Joined(_, parts) => parts.iter().fold(0, |all, part| all | part.needs()),
            Source::Options(options) => options.arguments.needs(),
        }
    }

    /// Shows each value.
    pub fn for_each(&self, values: &impl Values, show: &mut dyn FnMut(Value<'_>)) {
        with_room(|room| {
            self.each(values, room, &mut |value, _| {
                show(value);
                false
            })
        });
    }

    /// Calls the test with each value until it returns true; returns whether it did.
    fn each(&self, values: &dyn Values, room: &mut [u8], test: Test<'_>) -> bool {
        match self {
            Source::Field(field, index) => values.any(field, *index, &mut |value| test(value, room)),
            Source::Keyed(field, key) => values.keyed(field, key).is_some_and(|value| test(value, room)),
            Source::Text(text) => test(Value::Text(text), room),
            Source::Lower(inner) => inner.each_text(values, room, test, |text, made| {
                let made = copy(text, made);
                made.make_ascii_lowercase();
                Some(made.len())
            }),
            Source::Upper(inner) => inner.each_text(values, room, test, |text, made| {
                let made = copy(text, made);
                made.make_ascii_uppercase();
                Some(made.len())
            }),
            Source::Decoded(inner) => inner.each_text(values, room, test, decode),
            Source::LastPart(inner) => inner.each(values, room, &mut |value, room| {
                let Some(text) = value.text() else { return false };
                let start = memchr::memrchr(b'/', text).map_or(0, |slash| slash + 1);
                test(Value::Text(&text[start..]), room)
            }),
            Source::Length(inner) => inner.each(values, room, &mut |value, room| {
                value.text().is_some_and(|text| test(Value::Number(text.len() as i64), room))
            }),
            Source::Count(inner) => {
                let mut count = 0;
                inner.each(values, room, &mut |_, _| {
                    count += 1;
                    false
                });
                count > 0 && test(Value::Number(count), room)
            }
            Source::Printed(inner) => inner.each(values, room, &mut |value, room| match value {
                Value::Text(_) | Value::Inline(_) => test(value, room),
                Value::Number(number) => test(Value::Inline(Inline::format(format_args!("{number}"))), room),
                Value::Bool(bool) => test(Value::Inline(Inline::format(format_args!("{bool}"))), room),
                Value::Address(address) => {
                    test(Value::Inline(Inline::format(format_args!("{address}"))), room)
                }
            }),
            Source::Joined(separator, parts) => {
                let (made, room) = split(room);
                join(separator, parts, values, made, room)
                    .is_some_and(|len| test(Value::Text(&made[..len]), room))
            }
            Source::Options(options) => options.each(values, room, test),
        }
    }

    /// Calls the test with what is made of each text.
    fn each_text(
        &self,
        values: &dyn Values,
        room: &mut [u8],
        test: Test<'_>,
        make: impl Fn(&[u8], &mut [u8]) -> Option<usize>,
    ) -> bool {
        self.each(values, room, &mut |value, room| {
            let Some(text) = value.text() else { return false };
            let (made, room) = split(room);
            make(text, made).is_some_and(|len| test(Value::Text(&made[..len]), room))
        })
    }

    fn cost(&self) -> u32 {
        match self {
            Source::Field(field, index) => field_cost(field, *index),
            Source::Keyed(field, _) => field_cost(field, None),
            Source::Text(_) => 0,
            Source::LastPart(inner) | Source::Length(inner) | Source::Count(inner) => 1 + inner.cost(),
            Source::Lower(inner) | Source::Upper(inner) | Source::Decoded(inner) | Source::Printed(inner) => {
                5 + inner.cost()
            }
            Source::Joined(_, parts) => 5 + parts.iter().map(Source::cost).sum::<u32>(),
            Source::Options(options) => 5 + options.arguments.cost(),
        }
    }
}

impl Options {
    fn each(&self, values: &dyn Values, room: &mut [u8], test: Test<'_>) -> bool {
        let (made, room) = split(room);
        // Where the wanted option's value lies in `made`.
        let mut last: Option<usize> = None;
        // An option whose value is the next argument.
        let mut open: Option<u8> = None;
        let mut holds = false;
        let mut told = |letter: u8, value: Option<&[u8]>, room: &mut [u8]| match self.wanted {
            None => {
                test(Value::Text(&[letter]), room)
                    || value.is_some_and(|value| test(Value::Text(value), room))
            }
            Some(wanted) => {
                if wanted == letter {
                    last = Some(copy(value.unwrap_or(&[letter]), made).len());
                }
                false
            }
        };
        self.arguments.each(values, room, &mut |value, room| {
            let Some(argument) = value.text() else { return true };
            if let Some(letter) = open.take() {
                holds = told(letter, Some(argument), room);
                return holds;
            }
            let cluster = match argument {
                // Long options are none of ours.
                [b'-', b'-', _, ..] => return false,
                [b'-', b'-'] => return true,
                [b'-', cluster @ ..] if !cluster.is_empty() => cluster,
                _ => return true,
            };
            for (place, &letter) in cluster.iter().enumerate() {
                if !self.letters.contains(&letter) {
                    holds = self.wanted.is_none() && told(b'?', None, room);
                } else if !self.with_value.contains(&letter) {
                    holds = told(letter, None, room);
                } else {
                    match &cluster[place + 1..] {
                        [] => open = Some(letter),
                        rest => holds = told(letter, Some(rest), room),
                    }
                    return holds;
                }
                if holds {
                    return true;
                }
            }
            false
        });
        // The value is missing: it is empty.
        if let Some(letter) = open
            && self.wanted.is_none_or(|wanted| wanted == letter)
        {
            return holds || test(Value::Text(&[]), room);
        }
        holds || last.is_some_and(|len| test(Value::Text(&made[..len]), room))
    }
}

/// Joins the values of all parts; the length of what was made, or none if a part has no value.
fn join(
    separator: &[u8],
    parts: &[Source],
    values: &dyn Values,
    made: &mut [u8],
    room: &mut [u8],
) -> Option<usize> {
    let mut len = 0;
    let mut add = |text: &[u8]| len += copy(text, &mut made[len..]).len();
    let mut is_first = true;
    for part in parts {
        let mut seen = false;
        part.each(values, room, &mut |value, _| {
            if !std::mem::take(&mut is_first) {
                add(separator);
            }
            add(value.text().unwrap_or_default());
            seen = true;
            false
        });
        if !seen {
            return None;
        }
    }
    Some(len)
}

/// Decodes base64, with or without padding at its end.
fn decode(text: &[u8], made: &mut [u8]) -> Option<usize> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
    BASE64.decode_slice(text, made).ok()
}

/// Room for one text, and what is left.
fn split(room: &mut [u8]) -> (&mut [u8], &mut [u8]) {
    room.split_at_mut(TEXT_MAX.min(room.len()))
}

/// Copies as much of a text as there is room for.
fn copy<'m>(text: &[u8], made: &'m mut [u8]) -> &'m mut [u8] {
    let len = text.len().min(made.len());
    made[..len].copy_from_slice(&text[..len]);
    &mut made[..len]
}

/// Compares two values of an event.
fn compare(op: Op, left: &Value<'_>, right: &Value<'_>, room: &mut [u8]) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => op.orders(left, right),
        (Value::Bool(left), Value::Bool(right)) => op.orders(left, right),
        (Value::Address(left), Value::Address(right)) => op.orders(left, right),
        (left, right) => match (left.text(), right.text()) {
            (Some(left), Some(right)) => compare_texts(op, left, right, room),
            _ => false,
        },
    }
}

fn compare_texts(op: Op, left: &[u8], right: &[u8], room: &mut [u8]) -> bool {
    match op {
        Op::Contains => memmem::find(left, right).is_some(),
        Op::IContains => {
            // A search in what the caller chose for what the caller chose: only `memmem` is sure to be linear.
            let (made, room) = split(room);
            let (left, right) = (copy(left, made), copy(right, room));
            left.make_ascii_lowercase();
            right.make_ascii_lowercase();
            memmem::find(left, right).is_some()
        }
        Op::StartsWith => left.starts_with(right),
        Op::EndsWith => left.ends_with(right),
        Op::Glob => glob(right, left, false),
        Op::IGlob => glob(right, left, true),
        Op::IEq => left.eq_ignore_ascii_case(right),
        Op::IStartsWith => starts_folded(left, right),
        Op::IEndsWith => ends_folded(left, right),
        op => op.orders(left, right),
    }
}

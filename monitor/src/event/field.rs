//! The schema: every value that a rule, a format or a view can name, with its type and meaning.
//! Rules, output formats and the generated reference all read this one table.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use taffrail_common::kind::KINDS;

pub use super::table::FIELDS;
use crate::enrich::Subject;
use crate::enrich::process::Process;
use crate::probe::hook::ALL_KINDS;

/// What kind of value a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Bytes, mostly text; compared byte by byte.
    Text,
    /// A path: text, for which prefix and glob tests are usual.
    Path,
    /// A signed number.
    Number,
    /// `true` or `false`.
    Bool,
    /// An IPv4 or IPv6 address; a list or `=` may also name a network (`10.0.0.0/8`).
    Address,
    /// Several texts, such as the names of all ancestors: a test holds if it holds for one of them.
    TextList,
}

impl Type {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Text => "text",
            Type::Path => "path",
            Type::Number => "number",
            Type::Bool => "true or false",
            Type::Address => "address",
            Type::TextList => "texts",
        }
    }
}

/// A value of a field: borrowed from the event or the process table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// [`Type::Text`], [`Type::Path`] and, one after the other, the elements of [`Type::TextList`].
    Text(&'a [u8]),
    /// A short text that was put together.
    Inline(Inline),
    /// [`Type::Number`]
    Number(i64),
    /// [`Type::Bool`]
    Bool(bool),
    /// [`Type::Address`]
    Address(IpAddr),
}

impl Value<'_> {
    /// The bytes of a text.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text),
            Value::Inline(inline) => Some(inline.as_bytes()),
            Value::Number(_) | Value::Bool(_) | Value::Address(_) => None,
        }
    }
}

/// A short text without heap memory; what does not fit is cut off.
#[derive(Clone, Copy)]
pub struct Inline {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Inline {
    /// Room for two IPv6 addresses with ports.
    const MAX: usize = 103;

    /// Formats a text.
    pub fn format(arguments: fmt::Arguments<'_>) -> Self {
        let mut inline = Self { len: 0, bytes: [0; Self::MAX] };
        // The only error is a full buffer, which cuts the text.
        let _ = inline.write_fmt(arguments);
        inline
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Write for Inline {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let at = usize::from(self.len);
        let fits = text.len().min(Self::MAX - at);
        self.bytes[at..at + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len = (at + fits) as u8;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl PartialEq for Inline {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// How to get a field's value. `None`: this event has no such value, and a comparison with it is false.
#[derive(Clone, Copy)]
pub enum Get {
    /// One value.
    One(for<'a> fn(&Subject<'a>) -> Option<Value<'a>>),
    /// Values of each ancestor, the parent being number 1: `proc.aname` is any of them, `proc.aname[2]` the
    /// second.
    Ancestors(for<'a> fn(&'a Process) -> Option<Value<'a>>),
    /// Values by their number: without one any of them.
    Indexed(for<'a> fn(&Subject<'a>, u32) -> Option<Value<'a>>),
    /// Several values.
    Many(GetMany),
    /// Values by their name: `container.label[app]` or `container.label.app`.
    Keyed(for<'a> fn(&Subject<'a>, &[u8]) -> Option<Value<'a>>),
    /// No event has a value yet.
    Nothing,
}

/// Calls the test with each value until it returns true; returns whether it did.
pub type GetMany = for<'a> fn(&Subject<'a>, &mut dyn FnMut(Value<'_>) -> bool) -> bool;

/// A set of event kinds: bit n is the kind with id n of `taffrail_common::kind`.
pub type KindSet = u64;

/// One field.
#[derive(Clone, Copy)]
pub struct Field {
    /// Falco's name for it where Falco has one.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// The kinds of event that can have it: none, as long as [`Get::Nothing`] has values of it.
    pub kinds: KindSet,
    /// One sentence: meaning, unit, origin.
    pub doc: &'static str,
    /// How to get it.
    pub get: Get,
}

/// The name that identifies a field; its place in [`FIELDS`] may change.
impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Field {}

impl std::hash::Hash for Field {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// Where values come from: a live event, or the example of a rule's test.
pub trait Values {
    /// The value of a field with one value; `None` if there is none.
    fn one(&self, field: &'static Field, index: Option<u32>) -> Option<Value<'_>>;
    /// Calls `test` with each value of the field until it returns true; returns whether it did.
    fn any(&self, field: &'static Field, index: Option<u32>, test: &mut dyn FnMut(Value<'_>) -> bool)
    -> bool;
    /// The value of that name, of a field that has some by name.
    fn keyed(&self, field: &'static Field, key: &[u8]) -> Option<Value<'_>>;
}

impl Values for Subject<'_> {
    fn one(&self, field: &'static Field, index: Option<u32>) -> Option<Value<'_>> {
        match (field.get, index) {
            (Get::One(get), _) => get(self),
            (Get::Ancestors(get), Some(index)) => get(ancestor(self, index)?),
            (Get::Indexed(get), Some(index)) => get(self, index),
            (Get::Ancestors(_) | Get::Many(_) | Get::Indexed(_) | Get::Keyed(_) | Get::Nothing, _) => None,
        }
    }

    fn keyed(&self, field: &'static Field, key: &[u8]) -> Option<Value<'_>> {
        match field.get {
            Get::Keyed(get) => get(self, key),
            _ => None,
        }
    }

    fn any(
        &self,
        field: &'static Field,
        index: Option<u32>,
        test: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> bool {
        match (field.get, index) {
            (Get::Many(get), _) => get(self, test),
            (Get::Ancestors(get), None) => self.processes.ancestors(self.process).filter_map(get).any(test),
            (Get::Indexed(get), None) => (0..).map_while(|index| get(self, index)).any(test),
            (Get::One(_) | Get::Ancestors(_) | Get::Indexed(_) | Get::Keyed(_) | Get::Nothing, _) => {
                self.one(field, index).is_some_and(test)
            }
        }
    }
}

fn ancestor<'a>(subject: &Subject<'a>, index: u32) -> Option<&'a Process> {
    match index {
        0 => Some(subject.process),
        n => subject.processes.ancestors(subject.process).nth(n as usize - 1),
    }
}

/// The field of that name. A field that has no values yet takes arguments of any form, also behind a dot
/// (`k8s.pod.label.app`).
pub fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name).or_else(|| {
        let is_of = |field: &&Field| {
            let rest = name.strip_prefix(field.name).and_then(|rest| rest.strip_prefix('.'));
            matches!(field.get, Get::Nothing) && rest.is_some_and(|rest| !rest.is_empty())
        };
        FIELDS.iter().filter(is_of).max_by_key(|field| field.name.len())
    })
}

/// The reference page of all fields, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Fields\n\nWhat rules, filters and output templates can name. Generated from \
         `monitor/src/event/table.rs`. Names are Falco's where Falco has one.\n\nA field that an event does not \
         have makes its comparison false.\n\n| field | type | events | meaning |\n|---|---|---|---|\n",
    );
    for Field { name, ty, kinds, doc, get } in FIELDS {
        if matches!(get, Get::Nothing) {
            continue;
        }
        let ty = ty.name();
        let events = if *kinds == ALL_KINDS { "all".to_owned() } else { kind_names(*kinds).join(", ") };
        let _ = writeln!(page, "| `{name}` | {ty} | {events} | {doc} |");
    }
    page.push_str(
        "\n## Not available yet\n\nFalco has these fields. Rules with them load; no event has a value of them, so their \
         tests are false. `taffrail rules check` warns of a rule that can therefore never match.\n\n",
    );
    let names = FIELDS.iter().filter(|field| matches!(field.get, Get::Nothing)).map(|field| field.name);
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    page.push_str(&names.join(", "));
    page.push('\n');
    page
}

/// The names of the kinds in a set.
pub fn kind_names(kinds: KindSet) -> Vec<&'static str> {
    (1..KINDS as u16).filter(|kind| kinds & 1 << kind != 0).map(super::kind_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_page_is_fresh() {
        crate::testing::assert_fresh("docs/reference/fields.md", &reference());
    }

    #[test]
    fn names_are_unique_and_every_field_with_values_has_a_kind_and_a_sentence() {
        let mut names = std::collections::HashSet::new();
        for field in FIELDS {
            assert!(names.insert(field.name), "{} twice", field.name);
            let has_values = !matches!(field.get, Get::Nothing);
            assert!((field.kinds != 0) == has_values && field.kinds & !ALL_KINDS == 0, "{}", field.name);
            assert!(field.doc.ends_with(['.', '…']) && !field.doc.contains('|'), "{}", field.name);
        }
    }

    #[test]
    fn field_without_values_takes_any_argument_behind_a_dot() {
        assert_eq!(find("k8s.ns.label.app").map(|field| field.name), Some("k8s.ns.label"));
        assert_eq!(find("thread.cgroup.cpuacct").map(|field| field.name), Some("thread.cgroup"));
        assert!(find("k8s.ns.label.").is_none());
        assert!(find("proc.name.x").is_none());
    }

    #[test]
    fn inline_text_that_does_not_fit_is_cut() {
        let long = "x".repeat(200);
        assert_eq!(Inline::format(format_args!("{long}")).as_bytes().len(), Inline::MAX);
        assert_eq!(Inline::format(format_args!("{}:{}", 1, 2)).as_bytes(), b"1:2");
    }
}

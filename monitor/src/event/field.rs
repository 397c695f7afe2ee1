//! The schema: every value that a rule, a format or a view can name, with its type and meaning.
//! Rules, output formats and the generated reference all read this one table.

use std::net::IpAddr;

use crate::enrich::Subject;

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

/// A value of a field: borrowed from the event or the process table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// [`Type::Text`], [`Type::Path`] and, one after the other, the elements of [`Type::TextList`].
    Text(&'a [u8]),
    /// [`Type::Number`]
    Number(i64),
    /// [`Type::Bool`]
    Bool(bool),
    /// [`Type::Address`]
    Address(IpAddr),
}

/// How to get a field's value. `None`: this event has no such value, and a comparison with it is false.
#[derive(Clone, Copy)]
pub enum Get {
    /// One value.
    One(for<'a> fn(&Subject<'a>) -> Option<Value<'a>>),
    /// Calls the visitor with each element until it returns true; returns whether it did.
    Many(for<'a> fn(&Subject<'a>, &mut dyn FnMut(Value<'a>) -> bool) -> bool),
    /// One value that depends on the number in brackets: `proc.aname[2]`.
    Indexed(for<'a> fn(&Subject<'a>, u32) -> Option<Value<'a>>),
}

/// A set of event kinds: bit n is the kind with id n of `taffrail_common::kind`.
pub type KindSet = u32;

/// One field.
#[derive(Clone, Copy)]
pub struct Field {
    /// Falco's name for it where Falco has one.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// The kinds of event that can have it.
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

/// Where values come from: a live event, or the example of a rule's test.
pub trait Values {
    /// The value of a field with one value; `None` if there is none.
    fn one(&self, field: &'static Field, index: Option<u32>) -> Option<Value<'_>>;
    /// Calls `test` with each value of the field until it returns true; returns whether it did.
    fn any(&self, field: &'static Field, index: Option<u32>, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool;
}

impl Values for Subject<'_> {
    fn one(&self, field: &'static Field, index: Option<u32>) -> Option<Value<'_>> {
        match field.get {
            Get::One(get) => get(self),
            Get::Indexed(get) => get(self, index?),
            Get::Many(_) => None,
        }
    }

    fn any(&self, field: &'static Field, index: Option<u32>, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        match field.get {
            Get::Many(get) => get(self, test),
            Get::One(_) | Get::Indexed(_) => self.one(field, index).is_some_and(test),
        }
    }
}

/// All fields, by name.
pub static FIELDS: &[Field] = &[];

/// The field of that name.
pub fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

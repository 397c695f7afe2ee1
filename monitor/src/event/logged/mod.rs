//! What [`super::json`] wrote, read back: a record of the log whose values have the names that rules use. [`fields`] is
//! the table of them. A line is whatever somebody put into the file: it is parsed with bounded depth, in memory of a
//! few times its own length, and what is not as it should be has no value.

mod argument;
mod fields;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

pub use fields::{Logged, Where, of_field};

use super::field::{Field, Value, Values};

/// A value of JSON. Texts are bytes, since names of files are.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`, or a number with a fraction, which the log has none of.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; one of 64 bits without a sign is as the same bits with one.
    Number(i64),
    /// A text.
    Text(Cow<'a, [u8]>),
    /// An array.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Object<'a>),
}

/// Members of an object in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Object<'a> {
    /// A member.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }

    /// A member that is an object.
    pub fn object(&self, name: &str) -> Option<&Object<'a>> {
        match self.get(name)? {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A member that is an array.
    pub fn list(&self, name: &str) -> &[Json<'a>] {
        match self.get(name) {
            Some(Json::List(items)) => items,
            _ => &[],
        }
    }

    /// A member that is a text.
    pub fn text(&self, name: &str) -> Option<&[u8]> {
        self.get(name)?.text()
    }

    /// A member that is a text, if it is UTF-8.
    pub fn str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.text(name)?).ok()
    }

    /// A member that is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.number()
    }

    /// A member that is a truth.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Json::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    /// Puts the exact bytes of `x_hex` into `x`, here and within.
    fn restore(&mut self) {
        for (name, value) in &mut self.0 {
            match value {
                // What is called how in there, whoever made the image chose.
                _ if matches!(&**name, "labels" | "annotations" | "pod_labels") => {}
                Json::Object(object) => object.restore(),
                Json::List(items) => items.iter_mut().for_each(|item| {
                    if let Json::Object(object) = item {
                        object.restore();
                    }
                }),
                _ => {}
            }
        }
        for at in 0..self.0.len() {
            let Some(name) = self.0[at].0.strip_suffix("_hex") else { continue };
            let Some(bytes) = self.0[at].1.text().and_then(unhex) else { continue };
            let Some(place) = self.0.iter().position(|(key, _)| key == name) else { continue };
            match &mut self.0[place].1 {
                Json::Text(text) => *text = Cow::Owned(bytes),
                Json::List(items) => {
                    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
                    *items = bytes
                        .split(|byte| *byte == 0)
                        .map(|text| Json::Text(Cow::Owned(text.into())))
                        .collect();
                }
                _ => {}
            }
        }
    }
}

impl Json<'_> {
    /// The bytes of a text.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self) -> Option<i64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let bytes = pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect();
    if rest.is_empty() { bytes } else { None }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// Most members of one object: a container's labels, and a record of all system calls, have fewer.
const MEMBERS_MAX: usize = 8 << 10;

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value as i64))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text.as_bytes())))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.as_bytes().to_vec())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let mut object = Object(Vec::new());
        while let Some(Name(name)) = members.next_key()? {
            if object.0.len() >= MEMBERS_MAX {
                return Err(serde::de::Error::custom("an object has too many members"));
            }
            object.0.push((name, members.next_value()?));
        }
        Ok(Json::Object(object))
    }
}

/// A member's name, borrowed where it can be.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::Text(Cow::Borrowed(text)) => {
                Ok(Self(std::str::from_utf8(text).map_err(serde::de::Error::custom)?.into()))
            }
            Json::Text(Cow::Owned(text)) => {
                Ok(Self(String::from_utf8(text).map_err(serde::de::Error::custom)?.into()))
            }
            _ => Err(serde::de::Error::custom("a name is a text")),
        }
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<'a> {
    /// All its members.
    pub top: Object<'a>,
}

impl<'a> Record<'a> {
    /// Parses a line; `None` if it is no object.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        match serde_json::from_slice(line).ok()? {
            Json::Object(mut top) => {
                top.restore();
                Some(Self { top })
            }
            _ => None,
        }
    }

    /// What it is about: `event`, `alert`, `gap` …
    pub fn kind(&self) -> &str {
        self.top.str("kind").unwrap_or_default()
    }

    /// When, in ns since 1970.
    pub fn time_ns(&self) -> Option<u64> {
        let time: jiff::Timestamp = self.top.str("time")?.parse().ok()?;
        time.as_nanosecond().try_into().ok()
    }

    /// What was seen.
    pub fn event(&self) -> Option<&Object<'a>> {
        self.top.object("event")
    }

    /// Who did it.
    pub fn process(&self) -> Option<&Object<'a>> {
        self.top.object("process")
    }

    /// To whom.
    pub fn target(&self) -> Option<&Object<'a>> {
        self.top.object("target")
    }

    /// Where.
    pub fn container(&self) -> Option<&Object<'a>> {
        self.top.object("container")
    }

    /// The event's kind: `exec`, `open` …; empty if the record has no event.
    pub fn event_kind(&self) -> &str {
        self.event().and_then(|event| event.str("kind")).unwrap_or_default()
    }
}

impl Values for Record<'_> {
    fn one(&self, field: &'static Field, _index: Option<u32>) -> Option<Value<'_>> {
        match of_field(field.name)?.get {
            fields::Get::One(get) => get(self),
            fields::Get::Each(_) | fields::Get::Keyed(_) | fields::Get::Argument(_) => None,
        }
    }

    fn any(
        &self,
        field: &'static Field,
        _index: Option<u32>,
        test: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> bool {
        let Some(logged) = of_field(field.name) else { return false };
        match logged.get {
            fields::Get::One(get) => get(self).is_some_and(test),
            fields::Get::Each(get) => get(self, test),
            fields::Get::Argument(own) => argument::argument(self, field.name, own, test),
            fields::Get::Keyed(_) => false,
        }
    }

    fn keyed(&self, field: &'static Field, key: &[u8]) -> Option<Value<'_>> {
        match of_field(field.name)?.get {
            fields::Get::Keyed(get) => get(self, key),
            _ => None,
        }
    }
}

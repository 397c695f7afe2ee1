//! How a value is written under another name: the conversions that the table names, and values in the forms that the
//! formats need. A conversion that does not fit a value gives none; it never fails.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;

use serde_json_borrow::Value;

use super::cut::Cut;
use crate::event::text::json_string;

/// A value on its way out.
#[derive(Clone, Debug)]
pub enum Out<'r> {
    /// As the record has it.
    Json(&'r Value<'r>),
    /// A text.
    Text(Cow<'r, str>),
    /// A number.
    Number(i64),
    /// A list of texts.
    Texts(Vec<Cow<'r, str>>),
    /// A list of objects.
    Objects(Vec<Vec<(&'static str, &'r Value<'r>)>>),
}

impl<'r> From<&'r str> for Out<'r> {
    fn from(text: &'r str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Out<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Out<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl Out<'_> {
    /// Appends it as JSON.
    pub fn write_json(&self, cut: &Cut, out: &mut Vec<u8>) {
        match self {
            Self::Json(value) => write_value(value, cut, out),
            Self::Text(text) => write_text(text, cut, out),
            Self::Number(number) => write_number(number, out),
            Self::Texts(texts) => {
                write_list(texts.iter(), texts.len(), cut, out, |text, out| write_text(text, cut, out))
            }
            Self::Objects(objects) => write_list(objects.iter(), objects.len(), cut, out, |members, out| {
                write_object(members.iter().map(|(name, value)| (*name, *value)), cut, out);
            }),
        }
    }

    /// It as one text, for formats that have no other: a text as it is, all else as JSON. `None` if there is nothing.
    pub fn flat(&self, cut: &Cut) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(cut.text(text)),
            Self::Json(Value::Str(text)) => Some(cut.text(text)),
            Self::Json(Value::Null) => None,
            _ => {
                let mut json = Vec::new();
                self.write_json(cut, &mut json);
                Some(Cow::Owned(String::from_utf8(json).unwrap_or_default()))
            }
        }
    }
}

/// Appends a value of the record as JSON.
pub fn write_value(value: &Value<'_>, cut: &Cut, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Value::Number(number) => write_number(number, out),
        Value::Str(text) => write_text(text, cut, out),
        Value::Array(items) => {
            write_list(items.iter(), items.len(), cut, out, |item, out| write_value(item, cut, out))
        }
        Value::Object(members) => write_object(members.iter(), cut, out),
    }
}

fn write_number(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{number}");
}

/// Appends a text as JSON.
pub fn write_text(text: &str, cut: &Cut, out: &mut Vec<u8>) {
    json_string(cut.text(text).as_bytes(), out);
}

fn write_object<'v>(members: impl Iterator<Item = (&'v str, &'v Value<'v>)>, cut: &Cut, out: &mut Vec<u8>) {
    out.push(b'{');
    for (n, (name, value)) in members.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write_text(name, cut, out);
        out.push(b':');
        write_value(value, cut, out);
    }
    out.push(b'}');
}

fn write_list<T>(
    items: impl Iterator<Item = T>,
    len: usize,
    cut: &Cut,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (n, item) in items.take(cut.list_max).enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    if len > cut.list_max {
        let _ = write!(out, ",\"…[{len} items]\"");
    }
    out.push(b']');
}

type Apply = for<'r> fn(&'r Value<'r>) -> Option<Out<'r>>;

/// A conversion.
#[derive(Clone, Copy, Debug)]
pub struct Convert(Apply);

impl Convert {
    /// All conversions: name, what is done, and its meaning for people.
    pub const ALL: &'static [(&'static str, Self, &'static str)] = &[
        ("", Self(same), ""),
        ("text", Self(text), "a number as text"),
        ("lower", Self(|value| Some(value.as_str()?.to_ascii_lowercase().into())), "in lower case"),
        ("base", Self(base), "the last part of a path"),
        ("words", Self(words), "a list as one text, its items apart by spaces"),
        ("list", Self(|value| value.is_array().then_some(Out::Json(value))), "only if it is a list"),
        ("pairs", Self(pairs), "an object as a list of `name=value`"),
        (
            "milliseconds",
            Self(|value| Some(Out::Number(value.as_i64()? / 1_000_000))),
            "nanoseconds as milliseconds",
        ),
        ("uuid", Self(uuid), "only if it is a UUID with its dashes"),
        ("short", Self(|value| Some(value.as_str()?.get(..12)?.into())), "the first 12 characters"),
        ("repository", Self(|value| Some(split_image(value.as_str()?).0.into())), "an image without its tag"),
        ("tag", Self(|value| Some(split_image(value.as_str()?).1?.into())), "the tag of an image"),
        (
            "tags",
            Self(|value| Some(Out::Texts(vec![split_image(value.as_str()?).1?.into()]))),
            "the tag of an image, as a list",
        ),
        ("file_type", Self(file_type), "OCSF's number of a file's type, from its mode"),
        ("regular", Self(|_| Some(Out::Number(1))), "1, a regular file"),
        ("unknown", Self(|_| Some(Out::Number(0))), "0, not known"),
        ("kubernetes", Self(|_| Some("kubernetes".into())), "the word"),
        (
            "ipv4",
            Self(|value| ip(value).filter(IpAddr::is_ipv4).map(|_| Out::Json(value))),
            "only if it is an IPv4 address",
        ),
        (
            "ipv6",
            Self(|value| ip(value).filter(IpAddr::is_ipv6).map(|_| Out::Json(value))),
            "only if it is an IPv6 address",
        ),
        ("ip_version", Self(|value| family(value, Out::Number(4), Out::Number(6))), "4 or 6"),
        ("ip_type", Self(|value| family(value, "ipv4".into(), "ipv6".into())), "`ipv4` or `ipv6`"),
        ("direction", Self(|value| direction(value, Out::Number(1), Out::Number(2))), "1 in, 2 out"),
        ("direction_bit", Self(|value| direction(value, Out::Number(0), Out::Number(1))), "0 in, 1 out"),
        (
            "direction_name",
            Self(|value| direction(value, "ingress".into(), "egress".into())),
            "`ingress` or `egress`",
        ),
        (
            "io_direction",
            Self(|value| direction(value, "receive".into(), "transmit".into())),
            "`receive` or `transmit`",
        ),
        ("techniques", Self(techniques), "those tags that are techniques of ATT&CK"),
        ("tactics", Self(tactics), "those tags that are tactics of ATT&CK, as its names"),
        (
            "ocsf_answers",
            Self(|value| answers(value, ["", "type", "ttl", "rdata"])),
            "OCSF's names of an answer's members",
        ),
        (
            "ecs_answers",
            Self(|value| answers(value, ["name", "type", "ttl", "data"])),
            "ECS's names of an answer's members",
        ),
        ("answer_data", Self(answer_data), "what the answers say"),
    ];

    /// By name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, ..)| *known == name).map(|(_, convert, _)| *convert)
    }

    /// The value, written so; `None` if it does not fit.
    pub fn apply<'r>(self, value: &'r Value<'r>) -> Option<Out<'r>> {
        (self.0)(value)
    }
}

/// Objects have no place under a name that a format defines.
fn same<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    (!value.is_object() && !value.is_null()).then_some(Out::Json(value))
}

fn text<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    match value {
        Value::Str(text) => Some(Out::from(&**text)),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

fn base<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    let path = value.as_str()?;
    let name = path.rsplit('/').find(|part| !part.is_empty());
    Some(name.unwrap_or(path).into())
}

fn words<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    let words: Vec<&str> = value.as_array()?.iter().filter_map(Value::as_str).collect();
    Some(words.join(" ").into())
}

/// Members of an object as `name=value`.
pub fn pairs<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    let pair = |(name, value): (&str, &Value<'_>)| {
        let value = Out::Json(value);
        Cow::Owned(format!("{name}={}", value.flat(&Cut::NOTHING).unwrap_or_default()))
    };
    Some(Out::Texts(value.as_object()?.iter().map(pair).collect()))
}

fn uuid<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    let text = value.as_str()?;
    let groups = text.split('-').map(str::len);
    let is_hex = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    (is_hex && groups.eq([8, 4, 4, 4, 12])).then_some(Out::Json(value))
}

/// An image's name and its tag. A colon before the last slash is a port's.
fn split_image(image: &str) -> (&str, Option<&str>) {
    let (image, _digest) = image.split_once('@').unwrap_or((image, ""));
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, None),
    }
}

/// The type of a file in OCSF's numbers, from the octal digits of its mode.
fn file_type<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    let mode = u32::from_str_radix(value.as_str()?, 8).ok()?;
    Some(Out::Number(match mode & libc::S_IFMT {
        libc::S_IFREG => 1,
        libc::S_IFDIR => 2,
        libc::S_IFCHR => 3,
        libc::S_IFBLK => 4,
        libc::S_IFSOCK => 5,
        libc::S_IFIFO => 6,
        libc::S_IFLNK => 7,
        _ => 0,
    }))
}

fn ip(value: &Value<'_>) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn family<'r>(value: &'r Value<'r>, four: Out<'r>, six: Out<'r>) -> Option<Out<'r>> {
    match value.as_str()? {
        "AF_INET" => Some(four),
        "AF_INET6" => Some(six),
        _ => None,
    }
}

fn direction<'r>(value: &'r Value<'r>, inward: Out<'r>, outward: Out<'r>) -> Option<Out<'r>> {
    match value.as_str()? {
        "in" => Some(inward),
        "out" => Some(outward),
        _ => None,
    }
}

/// Whether a tag is a technique of ATT&CK: `T1059`, `T1059.004`.
pub fn is_technique(tag: &str) -> bool {
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = tag.strip_prefix('T') else { return false };
    match number.split_once('.') {
        Some((technique, sub)) => digits(technique, 4) && digits(sub, 3),
        None => digits(number, 4),
    }
}

fn some_texts(texts: Vec<Cow<'_, str>>) -> Option<Out<'_>> {
    (!texts.is_empty()).then_some(Out::Texts(texts))
}

fn techniques<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    let tags = value.as_array()?.iter().filter_map(Value::as_str).filter(|tag| is_technique(tag));
    some_texts(tags.map(Cow::Borrowed).collect())
}

/// `mitre_privilege_escalation` as `Privilege Escalation`.
fn tactics<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    let tags =
        value.as_array()?.iter().filter_map(Value::as_str).filter_map(|tag| tag.strip_prefix("mitre_"));
    let name = |tag: &str| {
        let word = |word: &str| {
            let (first, rest) = word.split_at(word.ceil_char_boundary(1));
            if matches!(word, "and") { word.to_owned() } else { first.to_ascii_uppercase() + rest }
        };
        Cow::Owned(tag.split('_').map(word).collect::<Vec<_>>().join(" "))
    };
    some_texts(tags.map(name).collect())
}

/// Answers of DNS, their members under these names (of `name`, `type`, `ttl_s`, `data`); an empty one is left out.
fn answers<'r>(value: &'r Value<'r>, names: [&'static str; 4]) -> Option<Out<'r>> {
    let object = |answer: &'r Value<'r>| {
        let answer = answer.as_object()?;
        let members = ["name", "type", "ttl_s", "data"].into_iter().zip(names);
        let members = members.filter(|(_, name)| !name.is_empty());
        let members: Vec<_> = members.filter_map(|(from, name)| Some((name, answer.get(from)?))).collect();
        members.iter().any(|(name, _)| *name == names[3]).then_some(members)
    };
    let answers: Vec<_> = value.as_array()?.iter().filter_map(object).collect();
    (!answers.is_empty()).then_some(Out::Objects(answers))
}

fn answer_data<'r>(value: &'r Value<'r>) -> Option<Out<'r>> {
    let data = value.as_array()?.iter().filter_map(|answer| answer.as_object()?.get("data")?.as_str());
    some_texts(data.map(Cow::Borrowed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(name: &str, json: &str) -> Option<String> {
        let value: Value<'_> = serde_json::from_str(json).unwrap();
        let mut out = Vec::new();
        Convert::named(name).unwrap().apply(&value)?.write_json(&Cut::NOTHING, &mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_conversion_fits_or_gives_nothing() {
        for (name, json, expected) in [
            ("", "\"a\"", Some("\"a\"")),
            ("", "{}", None),
            ("", "null", None),
            ("text", "7", Some("\"7\"")),
            ("lower", "\"Warning\"", Some("\"warning\"")),
            ("base", "\"/usr/bin/ls\"", Some("\"ls\"")),
            ("base", "\"/\"", Some("\"/\"")),
            ("words", "[\"a\",\"b c\"]", Some("\"a b c\"")),
            ("words", "{\"a\":1}", None),
            ("list", "{}", None),
            ("pairs", "{\"a\":1,\"b\":\"x\"}", Some("[\"a=1\",\"b=x\"]")),
            ("milliseconds", "1999999", Some("1")),
            (
                "uuid",
                "\"5c3b2a10-0000-4000-8000-000000000001\"",
                Some("\"5c3b2a10-0000-4000-8000-000000000001\""),
            ),
            ("uuid", "\"5c3b2a10000040008000000000000001\"", None),
            ("short", "\"0123456789abcdef\"", Some("\"0123456789ab\"")),
            ("short", "\"0123\"", None),
            ("repository", "\"r:5000/a/b:1.2@sha256:00\"", Some("\"r:5000/a/b\"")),
            ("tag", "\"r:5000/a/b:1.2\"", Some("\"1.2\"")),
            ("tag", "\"r:5000/a/b\"", None),
            ("file_type", "\"100644\"", Some("1")),
            ("file_type", "\"20666\"", Some("3")),
            ("file_type", "\"x\"", None),
            ("ipv4", "\"::1\"", None),
            ("ipv6", "\"::1\"", Some("\"::1\"")),
            ("ip_version", "\"AF_UNIX\"", None),
            ("direction", "\"in\"", Some("1")),
            ("direction_bit", "\"unknown\"", None),
            ("techniques", "[\"T1059.004\",\"T10\",\"x\"]", Some("[\"T1059.004\"]")),
            ("techniques", "[\"x\"]", None),
            ("tactics", "[\"mitre_command_and_control\",\"T1\"]", Some("[\"Command and Control\"]")),
            ("tactics", "[\"mitre_\",\"mitre_ä_\"]", Some("[\"\",\"ä \"]")),
            (
                "ocsf_answers",
                "[{\"name\":\"x\",\"type\":\"A\",\"ttl_s\":1,\"data\":\"1.2.3.4\"},{}]",
                Some("[{\"type\":\"A\",\"ttl\":1,\"rdata\":\"1.2.3.4\"}]"),
            ),
            ("answer_data", "[{\"data\":\"1.2.3.4\"}]", Some("[\"1.2.3.4\"]")),
        ] {
            assert_eq!(converted(name, json).as_deref(), expected, "{name} {json}");
        }
    }

    #[test]
    fn list_that_is_cut_tells_its_length() {
        let value: Value<'_> = serde_json::from_str("[1,2,3]").unwrap();
        let mut out = Vec::new();
        Out::Json(&value).write_json(&Cut { list_max: 2, ..Cut::NOTHING }, &mut out);
        assert_eq!(out, "[1,2,\"…[3 items]\"]".as_bytes());
    }
}

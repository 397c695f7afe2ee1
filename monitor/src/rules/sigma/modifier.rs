//! Modifiers: what stands behind a field's name (`CommandLine|contains|all`). They say how values are
//! compared, and change the values before that. The list is that of the specification's appendix, version 2.1.

use super::pattern::Pattern;
use crate::diagnostic::{Diagnostic, Span};

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compare {
    /// With texts, whole or by wildcards; numbers and addresses by their value.
    #[default]
    Equals,
    /// `contains`
    Contains,
    /// `startswith`
    StartsWith,
    /// `endswith`
    EndsWith,
    /// `re`: somewhere in the value.
    Regex,
    /// `cidr`
    Cidr,
    /// `exists`
    Exists,
    /// `lt`
    Less,
    /// `lte`
    LessOrEqual,
    /// `gt`
    Greater,
    /// `gte`
    GreaterOrEqual,
}

/// What is done to a value before it is compared, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `windash`
    Dashes,
    /// `utf16le`, `wide`
    Utf16Le,
    /// `utf16be`
    Utf16Be,
    /// `utf16`, with a byte order mark
    Utf16,
    /// `base64`
    Base64,
    /// `base64offset`
    Base64Offset,
}

/// All modifiers of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    /// How it is compared.
    pub compare: Compare,
    /// `all`: with all values, not with one of them.
    pub all: bool,
    /// `cased`: upper and lower case differ.
    pub cased: bool,
    /// `neq`: it is there, and is none of the values.
    pub differs: bool,
    /// `fieldref`: the values are names of fields.
    pub field: bool,
    /// `expand`: the values have placeholders.
    pub expand: bool,
    /// Flags of `re`: some of `i`, `m`, `s`.
    pub flags: String,
    /// `minute`, `hour` …: that part of a time.
    pub time_part: Option<&'static str>,
    /// Changes of values.
    pub changes: Vec<Change>,
}

/// Longest list of what dashes in one value can be instead.
const DASHES_MAX: usize = 625;

const NAMES: &[&str] = &[
    "all",
    "contains",
    "startswith",
    "endswith",
    "re",
    "i",
    "m",
    "s",
    "cidr",
    "exists",
    "lt",
    "lte",
    "gt",
    "gte",
    "neq",
    "cased",
    "fieldref",
    "expand",
    "windash",
    "wide",
    "utf16le",
    "utf16be",
    "utf16",
    "base64",
    "base64offset",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
];

impl Modifiers {
    /// Reads them from between the bars; the field's name is not among them.
    pub fn parse<'a>(names: impl Iterator<Item = &'a str>, place: &Span) -> Result<Self, Diagnostic> {
        let mut modifiers = Self::default();
        let mut compared: Option<&str> = None;
        let clash = |first: &str, second: &str| {
            Diagnostic::error("S106", format!("`{first}` and `{second}` do not go together"))
                .label(place.clone(), "here")
        };
        for name in names {
            let compare = match name {
                "contains" => Compare::Contains,
                "startswith" => Compare::StartsWith,
                "endswith" => Compare::EndsWith,
                "re" => Compare::Regex,
                "cidr" => Compare::Cidr,
                "exists" => Compare::Exists,
                "lt" => Compare::Less,
                "lte" => Compare::LessOrEqual,
                "gt" => Compare::Greater,
                "gte" => Compare::GreaterOrEqual,
                other => {
                    modifiers.other(other, place)?;
                    continue;
                }
            };
            if let Some(first) = compared.replace(name) {
                return Err(clash(first, name));
            }
            modifiers.compare = compare;
        }
        match modifiers.misfit() {
            Some(misfit) => Err(clash(compared.unwrap_or("no way to compare"), misfit)),
            None => Ok(modifiers),
        }
    }

    fn other(&mut self, name: &str, place: &Span) -> Result<(), Diagnostic> {
        match name {
            "all" => self.all = true,
            "cased" => self.cased = true,
            "neq" => self.differs = true,
            "fieldref" => self.field = true,
            "expand" => self.expand = true,
            "i" | "m" | "s" => self.flags.push_str(name),
            "windash" => self.changes.push(Change::Dashes),
            "wide" | "utf16le" => self.changes.push(Change::Utf16Le),
            "utf16be" => self.changes.push(Change::Utf16Be),
            "utf16" => self.changes.push(Change::Utf16),
            "base64" => self.changes.push(Change::Base64),
            "base64offset" => self.changes.push(Change::Base64Offset),
            "minute" | "hour" | "day" | "week" | "month" | "year" => {
                self.time_part = NAMES.iter().copied().find(|known| *known == name);
            }
            _ => {
                return Err(Diagnostic::error("S105", format!("there is no modifier `{name}`"))
                    .label(place.clone(), "here")
                    .did_you_mean(name, NAMES.iter().copied()));
            }
        }
        Ok(())
    }

    /// What goes with no such comparison.
    fn misfit(&self) -> Option<&'static str> {
        let is_text = matches!(
            self.compare,
            Compare::Equals | Compare::Contains | Compare::StartsWith | Compare::EndsWith
        );
        let is_number = matches!(
            self.compare,
            Compare::Equals
                | Compare::Less
                | Compare::LessOrEqual
                | Compare::Greater
                | Compare::GreaterOrEqual
        );
        let exists = self.compare == Compare::Exists;
        [
            (!self.flags.is_empty() && self.compare != Compare::Regex, "i, m, s"),
            (!self.changes.is_empty() && (!is_text || self.field), "a change of values"),
            (self.changes.len() > 4, "more than four changes of values"),
            (self.field && !is_text && !is_number, "fieldref"),
            (self.field && self.expand, "fieldref with expand"),
            (self.time_part.is_some() && (!is_number || self.field), "a part of a time"),
            (exists && self.all, "all"),
            (exists && self.cased, "cased"),
            (exists && self.differs, "neq"),
            (exists && self.expand, "expand"),
        ]
        .into_iter()
        .find_map(|(is, what)| is.then_some(what))
    }

    /// The patterns that a value asks for, after all changes and with what `contains` and its kin allow around it.
    pub fn patterns(&self, value: Pattern) -> Result<Vec<Pattern>, &'static str> {
        let mut patterns = vec![value];
        let mut bytes: Option<Vec<Vec<u8>>> = None;
        for change in &self.changes {
            match (change, &bytes) {
                (Change::Dashes, None) => {
                    patterns = patterns.iter().flat_map(|pattern| pattern.map_texts(dashes)).collect();
                    if patterns.len() > DASHES_MAX {
                        return Err("has too many dashes for `windash`");
                    }
                }
                (Change::Dashes, Some(_)) => return Err("is encoded before `windash`"),
                (change, _) => {
                    let texts = match bytes.take() {
                        Some(bytes) => bytes,
                        None => patterns
                            .iter()
                            .map(|pattern| pattern.as_plain().map(|text| text.as_bytes().to_vec()))
                            .collect::<Option<_>>()
                            .ok_or("has wildcards, which cannot be encoded")?,
                    };
                    bytes = Some(encode(*change, &texts)?);
                }
            }
        }
        if let Some(bytes) = bytes {
            patterns = bytes.into_iter().map(text).collect::<Result<_, _>>()?;
        }
        let around = |pattern: Pattern| match self.compare {
            Compare::Contains => pattern.after_anything().before_anything(),
            Compare::StartsWith => pattern.before_anything(),
            Compare::EndsWith => pattern.after_anything(),
            _ => pattern,
        };
        Ok(patterns.into_iter().map(around).collect())
    }
}

/// What comes of encoding must be a text again, without NUL, which no value of an event can have.
fn text(bytes: Vec<u8>) -> Result<Pattern, &'static str> {
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(Pattern::literal(text)),
        _ => Err("is UTF-16, which no value of an event is: encode it as base64 too"),
    }
}

fn encode(change: Change, texts: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, &'static str> {
    let utf16 = |text: &[u8], bytes: fn(u16) -> [u8; 2]| -> Result<Vec<u8>, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "is UTF-16 already")?;
        Ok(text.encode_utf16().flat_map(bytes).collect())
    };
    let one = |text: &Vec<u8>| -> Result<Vec<Vec<u8>>, &'static str> {
        Ok(match change {
            Change::Utf16Le => vec![utf16(text, u16::to_le_bytes)?],
            Change::Utf16Be => vec![utf16(text, u16::to_be_bytes)?],
            Change::Utf16 => vec![[&[0xff, 0xfe], utf16(text, u16::to_le_bytes)?.as_slice()].concat()],
            Change::Base64 => vec![base64(text).into_bytes()],
            // Of a single byte there may be no digit that depends on it only.
            Change::Base64Offset if text.len() < 2 => return Err("is too short for `base64offset`"),
            Change::Base64Offset => (0..3).map(|offset| base64_part(text, offset).into_bytes()).collect(),
            Change::Dashes => vec![text.clone()],
        })
    };
    Ok(texts.iter().map(one).collect::<Result<Vec<_>, _>>()?.concat())
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= group.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

/// Those digits of the base64 of a longer text that depend on this part of it only, if it begins that far
/// behind a whole group.
fn base64_part(bytes: &[u8], offset: usize) -> String {
    let shifted = [&[0; 2][..offset], bytes].concat();
    let digits = base64(&shifted);
    let (start, end) = ((8 * offset).div_ceil(6), 8 * shifted.len() / 6);
    digits.get(start..end).unwrap_or_default().to_owned()
}

/// All texts that come of writing each dash that begins an option as any of the characters that Windows takes
/// for it.
fn dashes(text: &str) -> Vec<String> {
    const DASHES: [char; 5] = ['-', '/', '–', '—', '―'];
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut variants = vec![String::new()];
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let begins = DASHES.contains(&char)
            && before.is_none_or(|before| !is_word(before))
            && chars.peek().is_some_and(|next| is_word(*next));
        let choices = if begins { &DASHES[..] } else { &[char] };
        // One more round than allowed is kept, for the caller to see that it is too many.
        if variants.len() > DASHES_MAX {
            return variants;
        }
        variants = variants
            .iter()
            .flat_map(|variant| choices.iter().map(move |choice| format!("{variant}{choice}")))
            .collect();
        before = Some(char);
    }
    variants
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::pattern::Shape;
    use super::*;
    use crate::diagnostic::Source;

    fn parse(names: &str) -> Result<Modifiers, &'static str> {
        let source = Arc::new(Source { name: "t".to_owned(), text: names.to_owned() });
        let place = Span { source, range: 0..names.len() };
        Modifiers::parse(names.split('|').filter(|name| !name.is_empty()), &place)
            .map_err(|diagnostic| diagnostic.code)
    }

    fn shapes(names: &str, value: &str) -> Result<Vec<Shape>, &'static str> {
        let patterns = parse(names)?.patterns(Pattern::parse(value))?;
        Ok(patterns.into_iter().map(Pattern::shape).collect())
    }

    #[test]
    fn values_are_changed_in_the_order_of_the_modifiers() {
        let contains = |texts: &[&str]| {
            Ok(texts.iter().map(|text| Shape::Contains((*text).to_owned())).collect::<Vec<_>>())
        };
        let equals = |texts: &[&str]| {
            Ok(texts.iter().map(|text| Shape::Equals((*text).to_owned())).collect::<Vec<_>>())
        };
        for (names, value, expected) in [
            ("contains", "a", contains(&["a"])),
            ("contains", "*a*", contains(&["a"])),
            ("startswith", "a*", Ok(vec![Shape::StartsWith("a".to_owned())])),
            ("endswith", "/sh", Ok(vec![Shape::EndsWith("/sh".to_owned())])),
            ("startswith", "a*b", Ok(vec![Shape::Glob("a*b*".to_owned())])),
            ("base64", "foobar", equals(&["Zm9vYmFy"])),
            ("base64", "fo", equals(&["Zm8="])),
            ("base64|contains", "f", contains(&["Zg=="])),
            ("base64offset|contains", "foobar", contains(&["Zm9vYmFy", "Zvb2Jhc", "mb29iYX"])),
            ("wide|base64", "ab", equals(&["YQBiAA=="])),
            ("utf16le|base64", "ab", equals(&["YQBiAA=="])),
            ("utf16be|base64", "ab", equals(&["AGEAYg=="])),
            ("utf16|base64", "ab", equals(&["//5hAGIA"])),
            ("wide|base64offset|contains", "ab", contains(&["YQBiA", "EAYg", "hAGIA"])),
            ("windash|contains", " -s", contains(&[" -s", " /s", " –s", " —s", " ―s"])),
            ("windash|contains", "a-s -", contains(&["a-s -"])),
            ("wide", "ab", Err("is UTF-16, which no value of an event is: encode it as base64 too")),
            ("base64", "a*", Err("has wildcards, which cannot be encoded")),
            ("base64offset|contains", "a", Err("is too short for `base64offset`")),
            ("base64|windash", "a", Err("is encoded before `windash`")),
            ("windash", "-a -b -c -d -e", Err("has too many dashes for `windash`")),
        ] {
            assert_eq!(shapes(names, value), expected, "{names} {value}");
        }
    }

    #[test]
    fn part_of_a_longer_text_is_found_in_its_base64_wherever_it_stands() {
        for before in ["", "x", "xy", "xyz", "wxyz"] {
            for behind in ["", "1", "12", "123"] {
                for part in ["ab", "abc", "http://", "import os"] {
                    let whole = base64(format!("{before}{part}{behind}").as_bytes());
                    let found = (0..3).any(|offset| whole.contains(&base64_part(part.as_bytes(), offset)));
                    assert!(found, "{before}{part}{behind}");
                }
            }
        }
    }

    #[test]
    fn modifiers_that_are_unknown_or_do_not_go_together_are_refused() {
        for (names, code) in [
            ("contians", "S105"),
            ("contains|startswith", "S106"),
            ("contains|i", "S106"),
            ("re|base64", "S106"),
            ("cidr|windash", "S106"),
            ("exists|all", "S106"),
            ("exists|neq", "S106"),
            ("fieldref|base64", "S106"),
            ("fieldref|re", "S106"),
            ("hour|contains", "S106"),
        ] {
            assert_eq!(parse(names), Err(code), "{names}");
        }
        for names in
            ["re|i|m|s", "contains|all|cased", "fieldref|neq", "fieldref|endswith", "hour|gte", "neq"]
        {
            assert!(parse(names).is_ok(), "{names}");
        }
    }
}

//! Sigma's texts: `*` and `?` are wildcards, a backslash takes that from them. A pattern is turned into the
//! cheapest test that says the same: equality, a prefix, a suffix, a part, and only else a glob or a regex.

use std::fmt::Write as _;

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `*`
    Many,
    /// `?`
    One,
}

/// A text with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

/// What a pattern asks of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// That there is one.
    Any,
    /// To be this text.
    Equals(String),
    /// To begin so.
    StartsWith(String),
    /// To end so.
    EndsWith(String),
    /// To have this in it.
    Contains(String),
    /// To be like this glob, which has no wildcard but `*`.
    Glob(String),
    /// To be like this whole regular expression.
    Regex(String),
}

impl Pattern {
    /// Reads wildcards and escapes. A backslash before anything but a wildcard or a backslash is itself.
    pub fn parse(text: &str) -> Self {
        let mut pattern = Self(Vec::new());
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '*' => pattern.0.push(Piece::Many),
                '?' => pattern.0.push(Piece::One),
                '\\' => match chars.next_if(|next| matches!(next, '*' | '?' | '\\')) {
                    Some(escaped) => pattern.add(escaped),
                    None => pattern.add('\\'),
                },
                other => pattern.add(other),
            }
        }
        pattern
    }

    /// A text without wildcards.
    pub fn literal(text: String) -> Self {
        Self(if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] })
    }

    fn add(&mut self, char: char) {
        match self.0.last_mut() {
            Some(Piece::Text(text)) => text.push(char),
            _ => self.0.push(Piece::Text(char.to_string())),
        }
    }

    /// The text, if it has no wildcards.
    pub fn as_plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// With anything allowed before.
    pub fn after_anything(mut self) -> Self {
        self.0.insert(0, Piece::Many);
        self
    }

    /// With anything allowed behind.
    pub fn before_anything(mut self) -> Self {
        self.0.push(Piece::Many);
        self
    }

    /// The same with another text in the place of each of its texts; wildcards stay.
    pub fn map_texts(&self, mut change: impl FnMut(&str) -> Vec<String>) -> Vec<Self> {
        let mut patterns = vec![Self(Vec::new())];
        for piece in &self.0 {
            let choices: Vec<Piece> = match piece {
                Piece::Text(text) => change(text).into_iter().map(Piece::Text).collect(),
                wildcard => vec![wildcard.clone()],
            };
            let longer = |pattern: &Self| {
                let with = |piece: &Piece| Self([pattern.0.as_slice(), std::slice::from_ref(piece)].concat());
                choices.iter().map(with).collect::<Vec<_>>()
            };
            patterns = patterns.iter().flat_map(longer).collect();
        }
        patterns
    }

    /// What it asks.
    pub fn shape(mut self) -> Shape {
        self.0.dedup_by(|next, piece| *piece == Piece::Many && *next == Piece::Many);
        match self.0.as_mut_slice() {
            [] => Shape::Equals(String::new()),
            [Piece::Many] => Shape::Any,
            [Piece::Text(text)] => Shape::Equals(std::mem::take(text)),
            [Piece::Text(text), Piece::Many] => Shape::StartsWith(std::mem::take(text)),
            [Piece::Many, Piece::Text(text)] => Shape::EndsWith(std::mem::take(text)),
            [Piece::Many, Piece::Text(text), Piece::Many] => Shape::Contains(std::mem::take(text)),
            pieces if pieces.contains(&Piece::One) => Shape::Regex(self.regex()),
            _ => Shape::Glob(self.glob()),
        }
    }

    fn glob(&self) -> String {
        let mut glob = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Many => glob.push('*'),
                Piece::One => glob.push('?'),
                Piece::Text(text) => {
                    for char in text.chars() {
                        if matches!(char, '*' | '?' | '[' | ']' | '\\') {
                            glob.push('\\');
                        }
                        glob.push(char);
                    }
                }
            }
        }
        glob
    }

    /// `?` is a character; a glob's would be a byte.
    fn regex(&self) -> String {
        let mut regex = String::from("(?s)");
        for piece in &self.0 {
            match piece {
                Piece::Many => regex.push_str(".*"),
                Piece::One => regex.push('.'),
                Piece::Text(text) => escape(text, &mut regex),
            }
        }
        regex
    }
}

/// Appends a text as a regular expression for itself.
fn escape(text: &str, regex: &mut String) {
    for char in text.chars() {
        match char {
            char if char.is_ascii_punctuation() => regex.extend(['\\', char]),
            // What ends a line of YAML, or does not print.
            char if char.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(regex, "\\x{{{:x}}}", u32::from(char));
            }
            char => regex.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_their_escapes_are_read_as_the_specification_says() {
        let text = |text: &str| Shape::Equals(text.to_owned());
        let start = |text: &str| Shape::StartsWith(text.to_owned());
        for (written, shape) in [
            ("a", text("a")),
            ("", text("")),
            (r"C:\Windows\x", text(r"C:\Windows\x")),
            (r"C:\\x", text(r"C:\x")),
            (r"a\*", text("a*")),
            (r"a\?", text("a?")),
            (r"a\\*", start(r"a\")),
            (r"a\\\*", text(r"a\*")),
            (r"a\\\\", text(r"a\\")),
            (r"a\\\", text(r"a\\")),
            (r"a\", text(r"a\")),
            ("*", Shape::Any),
            ("***", Shape::Any),
            ("a*", start("a")),
            ("*a", Shape::EndsWith("a".to_owned())),
            ("*a**", Shape::Contains("a".to_owned())),
            ("a*b", Shape::Glob("a*b".to_owned())),
            (r"a[*]\*\\", Shape::Glob(r"a\[*\]\*\\".to_owned())),
            ("a?.*", Shape::Regex(r"(?s)a.\..*".to_owned())),
        ] {
            assert_eq!(Pattern::parse(written).shape(), shape, "{written}");
        }
    }

    #[test]
    fn texts_change_and_wildcards_stay() {
        let changed = Pattern::parse("a*b").map_texts(|text| vec![text.to_uppercase(), format!("<{text}>")]);
        let shapes: Vec<Shape> = changed.into_iter().map(Pattern::shape).collect();
        assert_eq!(shapes, ["A*B", "A*<b>", "<a>*B", "<a>*<b>"].map(|text| Shape::Glob(text.to_owned())));
    }
}

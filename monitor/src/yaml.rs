//! YAML with places: a text becomes a tree in which each node knows where it stands, down to the byte of a
//! folded scalar, so that diagnostics can point at it. Rules and configuration are read through it.
//! Aliases are refused: nothing here needs them, and they are how small files become huge.

use std::ops::Range;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as Place};

use crate::diagnostic::{Diagnostic, Source, Span};

/// Deepest nesting of sequences and mappings.
const DEPTH_MAX: usize = 64;

/// Largest text, in bytes.
pub const SIZE_MAX: usize = 4 << 20;

/// One value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub span: Span,
    /// What.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A scalar as text; `plain` if it was written without quotes or block marks, so that `true`, `7` and
    /// `null` mean something.
    Scalar {
        /// Its content.
        text: String,
        /// Whether it was written plainly.
        plain: bool,
    },
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the text.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// A whole text as one scalar: a condition from the command line.
    pub fn whole(source: &Arc<Source>) -> Self {
        let span = Span { source: Arc::clone(source), range: 0..source.text.len() };
        Self { span, kind: Kind::Scalar { text: source.text.clone(), plain: false } }
    }

    /// The text of a scalar.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it is `null`, or nothing at all.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// A plain `true` or `false`.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.kind {
            Kind::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A plain whole number.
    pub fn as_number(&self) -> Option<i64> {
        match &self.kind {
            Kind::Scalar { text, plain: true } => text.parse().ok(),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } if self.as_bool().is_some() => "true or false",
            Kind::Scalar { .. } if self.as_number().is_some() => "a number",
            Kind::Scalar { .. } => "text",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        }
    }

    /// Where a part of a scalar's content stands in the source.
    pub fn part(&self, content: Range<usize>) -> Span {
        let Kind::Scalar { text, .. } = &self.kind else { return self.span.clone() };
        let source = &self.span.source.text[self.span.range.clone()];
        let base = self.span.range.start;
        let start = align(text, source, content.start);
        // The end is where the last character of the part ends.
        let end = text.floor_char_boundary(content.end);
        let last = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
        let end_at = align(text, source, last.max(content.start));
        let end = end_at + source[end_at..].chars().next().map_or(0, char::len_utf8);
        Span { source: Arc::clone(&self.span.source), range: base + start..base + end.max(start) }
    }
}

/// The place in `source` of the content's byte `at`: both are walked together, character by character. Only
/// white space and escapes differ between them, so looking for each next character that is no space finds it.
fn align(content: &str, source: &str, at: usize) -> usize {
    let mut place = 0;
    for (index, char) in content.char_indices() {
        if index > at {
            break;
        }
        if char.is_whitespace() {
            // Written as an escape in double quotes.
            if source[place..].starts_with('\\') {
                place += source[place..].chars().take(2).map(char::len_utf8).sum::<usize>();
            }
            continue;
        }
        if let Some(found) = source[place..].find(char) {
            if index == at {
                return place + found;
            }
            place += found + char.len_utf8();
        }
    }
    place.min(source.len())
}

/// The documents of a text.
pub fn parse(source: &Arc<Source>) -> Result<Vec<Node>, Diagnostic> {
    if source.text.len() > SIZE_MAX {
        let message = format!("`{}` is larger than {} MiB", source.name, SIZE_MAX >> 20);
        return Err(Diagnostic::error("Y104", message));
    }
    let mut builder =
        Builder { source, places: Places::new(&source.text), stack: Vec::new(), documents: Vec::new() };
    let mut parser = Parser::new_from_str(&source.text);
    while let Some(next) = parser.next_event() {
        let (event, place) = next.map_err(|error| {
            let at = builder.places.byte(error.marker().index());
            Diagnostic::error("Y101", format!("this is not YAML: {}", error.info()))
                .label(builder.span(at..at + 1), "here")
        })?;
        builder.take(event, place)?;
    }
    Ok(builder.documents)
}

/// From the parser's character counts to bytes.
struct Places {
    /// Byte of every 64th character.
    marks: Vec<usize>,
    text: String,
}

const STRIDE: usize = 64;

impl Places {
    fn new(text: &str) -> Self {
        Self { marks: text.char_indices().step_by(STRIDE).map(|(at, _)| at).collect(), text: text.to_owned() }
    }

    fn byte(&self, char: usize) -> usize {
        let Some(&mark) = self.marks.get(char / STRIDE) else { return self.text.len() };
        let rest = &self.text[mark..];
        rest.char_indices().nth(char % STRIDE).map_or(self.text.len(), |(at, _)| mark + at)
    }
}

/// A sequence or mapping that is being read.
struct Open {
    start: usize,
    children: Vec<Node>,
    is_mapping: bool,
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    places: Places,
    stack: Vec<Open>,
    documents: Vec<Node>,
}

impl Builder<'_> {
    fn span(&self, range: Range<usize>) -> Span {
        let len = self.source.text.len();
        let start = range.start.min(len);
        Span { source: Arc::clone(self.source), range: start..range.end.clamp(start, len) }
    }

    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Diagnostic> {
        let range = self.places.byte(place.start.index())..self.places.byte(place.end.index());
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = style == ScalarStyle::Plain;
                let span = self.span(range);
                self.add(Node { span, kind: Kind::Scalar { text: text.into_owned(), plain } })?;
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let is_mapping = matches!(event, Event::MappingStart(..));
                if self.stack.len() >= DEPTH_MAX {
                    let message = format!("nested deeper than {DEPTH_MAX} levels");
                    return Err(Diagnostic::error("Y102", message).label(self.span(range), "here"));
                }
                self.stack.push(Open { start: range.start, children: Vec::new(), is_mapping });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { start, children, is_mapping }) = self.stack.pop() else { return Ok(()) };
                let end = children.last().map_or(range.end, |last| last.span.range.end);
                let kind = if is_mapping { self.mapping(children)? } else { Kind::Sequence(children) };
                let span = self.span(start..end.max(start));
                self.add(Node { span, kind })?;
            }
            Event::Alias(_) => {
                return Err(Diagnostic::error("Y103", "aliases are not supported")
                    .label(self.span(range), "alias")
                    .hint("write the value out"));
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), Diagnostic> {
        match self.stack.last_mut() {
            Some(open) => open.children.push(node),
            None => self.documents.push(node),
        }
        Ok(())
    }

    fn mapping(&self, children: Vec<Node>) -> Result<Kind, Diagnostic> {
        let mut pairs: Vec<(Node, Node)> = Vec::with_capacity(children.len() / 2);
        let mut keys: hashbrown::HashMap<String, Span> = hashbrown::HashMap::new();
        let mut children = children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            if let Some(text) = key.as_text()
                && let Some(first) = keys.insert(text.to_owned(), key.span.clone())
            {
                return Err(Diagnostic::error("Y105", format!("`{text}` is given twice"))
                    .label(key.span.clone(), "again")
                    .label(first, "first"));
            }
            pairs.push((key, value));
        }
        Ok(Kind::Mapping(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { name: "t.yaml".to_owned(), text: text.to_owned() })
    }

    fn value<'a>(node: &'a Node, key: &str) -> &'a Node {
        let Kind::Mapping(pairs) = &node.kind else { panic!("no mapping") };
        &pairs.iter().find(|(name, _)| name.as_text() == Some(key)).unwrap().1
    }

    #[test]
    fn part_of_a_scalar_is_found_in_each_style() {
        let text = "ä: plain one two\nb: >\n  folded one\n  two\nc: |\n  literal\n  one two\nd: \"double one\\ttwo\"\ne: 'it''s one two'\nf: multi\n  line one\n  two\n";
        let source = source(text);
        let documents = parse(&source).unwrap();
        for key in ["ä", "b", "c", "d", "e", "f"] {
            let node = value(&documents[0], key);
            let content = node.as_text().unwrap();
            for word in ["one", "two"] {
                let at = content.find(word).unwrap();
                let span = node.part(at..at + word.len());
                assert_eq!(&text[span.range], word, "{key}: {word}");
            }
        }
    }

    #[test]
    fn bad_texts_are_diagnostics_with_their_place() {
        let deep = "[".repeat(100);
        for (text, code) in [
            ("a: [1, 2", "Y101"),
            ("a: b: c", "Y101"),
            (deep.as_str(), "Y102"),
            ("a: &x 1\nb: *x", "Y103"),
            ("a: 1\na: 2", "Y105"),
            ("a: [Ύ", "Y101"),
        ] {
            let diagnostic = parse(&source(text)).unwrap_err();
            assert_eq!(diagnostic.code, code, "{text}");
            assert!(!diagnostic.labels.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_a_tree_or_a_diagnostic_never_a_panic() {
        let seed =
            "- rule: x\n  condition: >\n    a and\n    b\n  tags: [a, 'b', \"c\\n\"]\n---\nä: |\n  x\n";
        let mut state = 3u64;
        for _ in 0..3_000 {
            let mut text: Vec<char> = seed.chars().collect();
            for _ in 0..6 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (state >> 33) as usize % text.len();
                text[at] = ['\t', '\n', '"', '{', '}', '&', '*', 'ü', ':', ' ', '|', '\0']
                    [(state >> 20) as usize % 12];
            }
            let text: String = text.into_iter().collect();
            if let Ok(documents) = parse(&source(&text)) {
                for node in documents {
                    walk(&node);
                }
            }
        }
    }

    fn walk(node: &Node) {
        match &node.kind {
            Kind::Scalar { text, .. } => {
                node.part(0..text.len());
            }
            Kind::Sequence(children) => children.iter().for_each(walk),
            Kind::Mapping(pairs) => pairs.iter().for_each(|(key, value)| {
                walk(key);
                walk(value);
            }),
        }
    }
}

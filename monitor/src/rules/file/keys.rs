//! The keys of an entry, and the shapes that their values must have.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Span};
use crate::yaml::{Kind, Node};

/// The keys of an entry, with where the key stands and its value.
pub struct Keys(Vec<(String, Span, Arc<Node>)>);

impl Keys {
    /// Of a mapping; none of anything else.
    pub fn of(node: &Node) -> Self {
        let Kind::Mapping(pairs) = &node.kind else { return Self(Vec::new()) };
        let pairs = pairs.iter().filter_map(|(key, value)| {
            Some((key.as_text()?.to_owned(), key.span.clone(), Arc::new(value.clone())))
        });
        Self(pairs.collect())
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.shared(key).map(|node| &**node)
    }

    /// The value of a key, to be kept.
    pub fn shared(&self, key: &str) -> Option<&Arc<Node>> {
        self.0.iter().find(|(name, ..)| name == key).map(|(.., node)| node)
    }

    /// Name, place and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Span, &Arc<Node>)> {
        self.0.iter().map(|(name, span, node)| (name.as_str(), span, node))
    }

    /// Tells each key that is none of the known ones.
    pub fn unknown(&self, known: &[&str]) -> Vec<Diagnostic> {
        let unknown = self.iter().filter(|(name, ..)| !known.contains(name));
        let told = unknown.map(|(name, span, _)| {
            Diagnostic::error("R303", format!("unknown key `{name}`"))
                .label(span.clone(), "not a key here")
                .did_you_mean(name, known.iter().copied())
        });
        told.collect()
    }
}

/// What the value of a key must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A scalar that is not empty.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Number,
    /// A list of scalars.
    Texts,
    /// A list of anything; nothing at all is an empty one.
    List,
    /// A mapping.
    Mapping,
    /// What another module checks.
    Any,
}

impl Shape {
    /// Checks a value.
    pub fn check(self, key: &str, node: &Node) -> Result<(), Diagnostic> {
        let wrong = |node: &Node, wanted| Err(wrong_shape(key, node, wanted));
        match (self, &node.kind) {
            (Shape::Text, Kind::Scalar { text, .. }) if !text.trim().is_empty() && !node.is_null() => Ok(()),
            (Shape::Text, _) => wrong(node, "text"),
            (Shape::Bool, _) if node.as_bool().is_some() => Ok(()),
            (Shape::Bool, _) => wrong(node, "true or false"),
            (Shape::Number, _) if node.as_number().is_some() => Ok(()),
            (Shape::Number, _) => wrong(node, "a number"),
            (Shape::Texts, Kind::Sequence(items)) => {
                items.iter().find(|item| item.as_text().is_none()).map_or(Ok(()), |item| wrong(item, "text"))
            }
            (Shape::Any, _) => Ok(()),
            (Shape::List, Kind::Sequence(_)) | (Shape::Mapping, Kind::Mapping(_)) => Ok(()),
            (Shape::List, Kind::Scalar { .. }) if node.is_null() => Ok(()),
            (Shape::Texts | Shape::List, _) => wrong(node, "a list"),
            (Shape::Mapping, _) => wrong(node, "a mapping"),
        }
    }
}

/// A value of another shape than its key's.
pub fn wrong_shape(key: &str, node: &Node, wanted: &str) -> Diagnostic {
    Diagnostic::error("R305", format!("`{key}` is {}, not {wanted}", node.noun()))
        .label(first_line(&node.span), format!("needs {wanted}"))
}

/// A key that must be there is not.
pub fn missing(key: &str, entry: &Node) -> Diagnostic {
    Diagnostic::error("R304", format!("`{key}` is missing"))
        .label(first_line(&entry.span), format!("this entry has no `{key}`"))
}

/// The items of a list; none of anything else.
pub fn items(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::Sequence(items) => items,
        _ => &[],
    }
}

/// The first line of a place: whole entries would fill the screen.
pub fn first_line(span: &Span) -> Span {
    let text = &span.source.text[span.range.clone()];
    let len = text.find('\n').unwrap_or(text.len());
    Span { range: span.range.start..span.range.start + len, ..span.clone() }
}

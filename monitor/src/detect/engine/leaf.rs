//! What the engine knows of a single test. This is the only file of it that looks into matchers: a test that is not
//! known here is evaluated all the same, but cannot be looked up.

use taffrail_common::call::CALLS;
use taffrail_common::kind;

use crate::event::field::{Field, Value};
use crate::event::kind_name;
use crate::probe::hook::bit;
use crate::rules::ast::{Op, Quantifier};
use crate::rules::matcher::{Matcher, Node};
use crate::rules::network::Network;
use crate::rules::operand::{Against, Derived, Source};
use crate::rules::path::Paths;

/// Something that a value is, begins with, ends with or contains. Texts are in upper or lower case (ASCII): what is
/// found only for that is evaluated in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// This text.
    Equal(Box<[u8]>),
    /// A text that begins so.
    Prefix(Box<[u8]>),
    /// A text that ends so.
    Suffix(Box<[u8]>),
    /// A text with this in it.
    Part(Box<[u8]>),
    /// This number.
    Number(i64),
    /// An address in this network.
    Network(Network),
}

impl Literal {
    /// How often it is found where it is not meant, and what finding it costs; only the order counts.
    fn weight(&self) -> u64 {
        // What is short is found everywhere.
        let by_len = |text: &[u8], base: u64| match text.len() {
            0 => base * 1_000,
            1 | 2 => base * 40,
            3 | 4 => base * 4,
            _ => base,
        };
        match self {
            Literal::Equal(_) | Literal::Network(_) => 1,
            // 0 and 1 are the most common numbers.
            Literal::Number(0 | 1) => 50,
            Literal::Number(_) => 1,
            Literal::Prefix(text) | Literal::Suffix(text) => by_len(text, 8),
            Literal::Part(text) => by_len(text, 60),
        }
    }
}

/// The weight of several.
pub fn weight(literals: &[Literal]) -> u64 {
    literals.iter().fold(0, |sum, literal| sum.saturating_add(literal.weight()))
}

/// The field and the index that a test looks at, and what has to be so of its values: of one of them, or of all if there
/// is any.
pub fn looks_at(test: &Node) -> Option<(&'static Field, Option<u32>, &Matcher)> {
    match test {
        Node::Test(test) => Some((test.field, test.index, &test.matcher)),
        Node::Derived(derived) => match &**derived {
            Derived { left: Source::Field(field, index), right: Against::Matcher(matcher), every: _ } => {
                Some((field, *index, matcher))
            }
            Derived { .. } => None,
        },
        Node::And(_) | Node::Or(_) | Node::Not(_) => None,
    }
}

/// Literals of which the value has one if it is so; `None`: it can be so without any.
pub fn literals(matcher: &Matcher) -> Option<Vec<Literal>> {
    Some(match matcher {
        Matcher::Text(text, true) | Matcher::Folded(text) => vec![Literal::Equal(text.clone())],
        Matcher::Texts(texts) => texts.iter().map(|text| Literal::Equal(text.into())).collect(),
        Matcher::FoldedTexts(texts) => texts.iter().map(|text| Literal::Equal(text.into())).collect(),
        Matcher::Prefix(text) | Matcher::FoldedPrefix(text) => vec![Literal::Prefix(text.clone())],
        Matcher::Suffix(text) | Matcher::FoldedSuffix(text) => vec![Literal::Suffix(text.clone())],
        Matcher::Find(needle) => vec![Literal::Part(needle.text().into())],
        Matcher::FindAny(needles) => needles.texts().map(|text| Literal::Part(text.into())).collect(),
        Matcher::Glob(glob) => vec![of_glob(&glob.pattern)?],
        Matcher::Paths(paths) => of_paths(paths)?,
        Matcher::Number(Op::Eq, number) => vec![Literal::Number(*number)],
        Matcher::Numbers(numbers) => numbers.iter().copied().map(Literal::Number).collect(),
        Matcher::Addresses(networks, true) => networks.iter().map(Literal::Network).collect(),
        Matcher::Quantified(Quantifier::All, matchers) if !matchers.is_empty() => {
            matchers.iter().filter_map(literals).min_by_key(|literals| weight(literals))?
        }
        Matcher::Quantified(_, matchers) => {
            matchers.iter().map(literals).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect()
        }
        Matcher::Exists
        | Matcher::Text(_, false)
        | Matcher::Pattern(_)
        | Matcher::Order(..)
        | Matcher::Number(..)
        | Matcher::Bool(_)
        | Matcher::Addresses(_, false) => return None,
    })
}

/// The most telling text that each match of a pattern has: at its start, at its end, or within.
fn of_glob(pattern: &[u8]) -> Option<Literal> {
    let is_meta = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
    let start = pattern.iter().position(is_meta).unwrap_or(pattern.len());
    if start == pattern.len() {
        return Some(Literal::Equal(pattern.into()));
    }
    let mut found = vec![Literal::Prefix(pattern[..start].into())];
    // What stands in brackets or behind a backslash is no text to look for.
    if !pattern.iter().any(|byte| matches!(byte, b'[' | b'\\')) {
        let parts = || pattern.split(is_meta);
        found.extend(parts().next_back().map(|part| Literal::Suffix(part.into())));
        found.extend(parts().map(|part| Literal::Part(part.into())));
    }
    let is_empty = |literal: &Literal| matches!(literal, Literal::Prefix(text) | Literal::Suffix(text) | Literal::Part(text) if text.is_empty());
    found.into_iter().filter(|literal| !is_empty(literal)).min_by_key(Literal::weight)
}

/// The longest component of each path: what it covers has that too, with as many slashes around it as anybody likes.
fn of_paths(paths: &Paths) -> Option<Vec<Literal>> {
    let longest = |path: &[u8]| {
        let components = path.split(|&byte| byte == b'/');
        let plain =
            |component: &&[u8]| !component.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
        let longest = components.filter(plain).max_by_key(|component| component.len());
        longest.filter(|component| !component.is_empty()).map(|component| Literal::Part(component.into()))
    };
    paths.iter().map(longest).collect()
}

/// What a test says of all events of a kind alike, if it does.
pub fn constant(test: &Node, kind: u16) -> Option<bool> {
    let (field, _, matcher) = looks_at(test)?;
    if field.kinds & bit(kind) == 0 {
        return Some(false);
    }
    let matches = |name: &&str| matcher.matches(&Value::Text(name.as_bytes()));
    match field.name {
        "evt.kind" => Some(matches(&kind_name(kind))),
        "evt.dir" => Some(matches(&"<")),
        "evt.type" => {
            let names = type_names(kind)?;
            let first = matches(names.first()?);
            names.iter().all(|name| matches(name) == first).then_some(first)
        }
        _ => None,
    }
}

/// All names that `evt.type` can be of a kind.
pub fn type_names(kind: u16) -> Option<Vec<&'static str>> {
    Some(match kind {
        kind::EXEC => vec!["execve", "execveat"],
        kind::FORK => vec!["clone"],
        kind::EXIT => vec!["procexit"],
        kind::SIGNAL => vec!["signal"],
        kind::CGROUP => vec!["cgroup_mkdir", "cgroup_rmdir"],
        kind::CGROUP_MOVE => vec!["cgroup_attach_task"],
        kind::FLOW => vec!["flow"],
        kind::UDP => vec!["udp"],
        kind::DNS => vec!["dns"],
        // Any name there is.
        kind::SYSCALL => return None,
        // Which call it is the record says, not the kind.
        _ => CALLS.iter().map(|row| row.name).chain([kind_name(kind), "none"]).collect(),
    })
}

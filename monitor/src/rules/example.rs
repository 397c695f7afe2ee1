//! Examples beside a rule (`tests:`): the values of an event, and whether the rule matches it. A field that an
//! example does not give has no value, so an example says all that its rule looks at.

use std::net::IpAddr;

use super::RuleSet;
use super::compile::unknown_field;
use super::file::Keys;
use crate::diagnostic::Diagnostic;
use crate::event::field::{self, Field, Get, Type, Value, Values};
use crate::yaml::{Kind, Node};

/// One example.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its name, or its number.
    name: String,
    /// Whether the rule matches.
    pub matches: bool,
    values: Vec<Given>,
}

/// A value of an example.
#[derive(Clone, Debug)]
struct Given {
    field: &'static Field,
    /// The name in brackets, of a field whose values go by name.
    key: Option<String>,
    value: Owned,
}

#[derive(Clone, Debug)]
enum Owned {
    Text(Vec<u8>),
    Texts(Vec<Vec<u8>>),
    Number(i64),
    Bool(bool),
    Address(IpAddr),
}

/// How an example came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The rule.
    pub rule: &'a str,
    /// The example.
    pub example: &'a str,
    /// Whether the rule should match.
    pub expected: bool,
    /// Whether it does.
    pub matched: bool,
}

impl Outcome<'_> {
    /// Whether it is as it should be.
    pub fn passed(&self) -> bool {
        self.expected == self.matched
    }
}

/// Runs the examples of all rules, also of those that are switched off.
pub fn run_examples(set: &RuleSet) -> Vec<Outcome<'_>> {
    let outcomes = set.rules.iter().flat_map(|rule| {
        rule.examples.iter().map(|example| Outcome {
            rule: &rule.name,
            example: &example.name,
            expected: example.matches,
            matched: rule.matches(example),
        })
    });
    outcomes.collect()
}

/// Reads the value of `tests:`.
pub fn parse(node: &Node) -> Result<Vec<Example>, Vec<Diagnostic>> {
    let Kind::Sequence(items) = &node.kind else {
        let message = format!("`tests` is {}, not a list", node.noun());
        return Err(vec![Diagnostic::error("R305", message).label(node.span.clone(), "needs a list")]);
    };
    let mut diagnostics = Vec::new();
    let mut examples = Vec::new();
    for (number, item) in items.iter().enumerate() {
        match one(item, number) {
            Ok(example) => examples.push(example),
            Err(found) => diagnostics.extend(found),
        }
    }
    if diagnostics.is_empty() { Ok(examples) } else { Err(diagnostics) }
}

fn one(item: &Node, number: usize) -> Result<Example, Vec<Diagnostic>> {
    let keys = Keys::of(item);
    let missing = |key: &str| {
        let diagnostic = Diagnostic::error("R304", format!("`{key}` is missing"));
        vec![diagnostic.label(item.span.clone(), "in this example")]
    };
    if let Some(unknown) = keys.other_than(&["name", "event", "match"]) {
        let diagnostic =
            Diagnostic::error("R303", "unknown key in an example").label(unknown, "not a key here");
        return Err(vec![diagnostic.hint("an example has the keys `name`, `event`, `match`")]);
    }
    let event = keys.get("event").ok_or_else(|| missing("event"))?;
    let matches = keys.get("match").and_then(Node::as_bool).ok_or_else(|| missing("match"))?;
    let name =
        keys.get("name").and_then(Node::as_text).map_or_else(|| (number + 1).to_string(), str::to_owned);
    let Kind::Mapping(pairs) = &event.kind else {
        let message = format!("`event` is {}, not a mapping", event.noun());
        return Err(vec![Diagnostic::error("R305", message).label(event.span.clone(), "needs a mapping")]);
    };
    let mut diagnostics = Vec::new();
    let mut values = Vec::new();
    for (key, value) in pairs {
        let name = key.as_text().unwrap_or_default();
        let (plain, in_brackets) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((plain, key)) => (plain, Some(key.to_owned())),
            None => (name, None),
        };
        match field::find(plain).filter(|field| matches!(field.get, Get::Keyed(_)) == in_brackets.is_some()) {
            None => diagnostics.push(unknown_field(name, key.span.clone())),
            Some(field) => match owned(field, value) {
                Some(value) => values.push(Given { field, key: in_brackets, value }),
                None => diagnostics.push(
                    Diagnostic::error("R203", format!("`{name}` cannot be {}", value.noun()))
                        .label(value.span.clone(), format!("{:?} is needed", field.ty).to_lowercase())
                        .label(key.span.clone(), "for this field"),
                ),
            },
        }
    }
    if diagnostics.is_empty() { Ok(Example { name, matches, values }) } else { Err(diagnostics) }
}

fn owned(field: &Field, node: &Node) -> Option<Owned> {
    let text = |node: &Node| node.as_text().map(|text| text.as_bytes().to_vec());
    match (field.ty, &node.kind) {
        (Type::Text | Type::Path, _) => text(node).map(Owned::Text),
        (Type::Number, _) => node.as_number().map(Owned::Number),
        (Type::Bool, _) => node.as_bool().map(Owned::Bool),
        (Type::Address, _) => node.as_text()?.parse().ok().map(Owned::Address),
        (Type::TextList, Kind::Sequence(nodes)) => {
            nodes.iter().map(text).collect::<Option<_>>().map(Owned::Texts)
        }
        (Type::TextList, _) => None,
    }
}

impl Values for Example {
    fn one(&self, field: &'static Field, index: Option<u32>) -> Option<Value<'_>> {
        Some(match self.given(field, None)? {
            Owned::Text(text) => Value::Text(text),
            // The first is the parent, number 1.
            Owned::Texts(texts) => Value::Text(texts.get(index?.checked_sub(1)? as usize)?),
            Owned::Number(number) => Value::Number(*number),
            Owned::Bool(bool) => Value::Bool(*bool),
            Owned::Address(address) => Value::Address(*address),
        })
    }

    fn any(
        &self,
        field: &'static Field,
        index: Option<u32>,
        test: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> bool {
        if let (None, Some(Owned::Texts(texts))) = (index, self.given(field, None)) {
            return texts.iter().any(|text| test(Value::Text(text)));
        }
        self.one(field, index).is_some_and(test)
    }

    fn keyed(&self, field: &'static Field, key: &[u8]) -> Option<Value<'_>> {
        match self.given(field, Some(key))? {
            Owned::Text(text) => Some(Value::Text(text)),
            _ => None,
        }
    }
}

impl Example {
    fn given(&self, field: &'static Field, key: Option<&[u8]>) -> Option<&Owned> {
        let is_it = |given: &&Given| given.field == field && given.key.as_deref().map(str::as_bytes) == key;
        self.values.iter().find(is_it).map(|given| &given.value)
    }
}

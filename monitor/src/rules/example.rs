//! Examples beside a rule (`tests:`): the values of an event, or of several one after the other, and whether the rule
//! raises an alert. A field that an example does not give has no value, so an example says all that its rule
//! looks at.

use std::net::IpAddr;
use std::sync::Arc;

use super::compile::unknown_field;
use super::file::keys::{Keys, first_line, items, missing, wrong_shape};
use super::state::{self, Trigger};
use super::{Rule, RuleSet};
use crate::detect::memory::{Limits, Memory, Occurrence};
use crate::diagnostic::Diagnostic;
use crate::event::field::{self, Field, Get, Type, Value, Values};
use crate::yaml::{Kind, Node};

/// One example.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its name, or its number.
    name: String,
    /// How often the rule raises an alert.
    pub expected: Expected,
    events: Vec<Event>,
}

/// How often a rule raises an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// At least once.
    Some,
    /// Never.
    None,
    /// So often.
    Times(usize),
}

impl Expected {
    fn is_met(self, found: usize) -> bool {
        match self {
            Expected::Some => found > 0,
            Expected::None => found == 0,
            Expected::Times(times) => found == times,
        }
    }
}

/// The values of an event.
#[derive(Clone, Debug)]
pub struct Event {
    /// How long after the one before it, in ns.
    pub after_ns: u64,
    values: Vec<Given>,
}

/// A value of an event.
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
    /// How often the rule should raise an alert.
    pub expected: Expected,
    /// How often it does.
    pub found: usize,
}

impl Outcome<'_> {
    /// Whether it is as it should be.
    pub fn passed(&self) -> bool {
        self.expected.is_met(self.found)
    }
}

/// Runs the examples of all rules, also of those that are switched off.
pub fn run_examples(set: &RuleSet) -> Vec<Outcome<'_>> {
    let outcomes = set.rules.iter().flat_map(|rule| {
        rule.examples.iter().map(|example| Outcome {
            rule: &rule.name,
            example: &example.name,
            expected: example.expected,
            found: alerts(set, rule, &example.events),
        })
    });
    outcomes.collect()
}

/// How many alerts a rule raises on these events.
fn alerts(set: &RuleSet, rule: &Rule, events: &[Event]) -> usize {
    if matches!(rule.stateful.trigger, Trigger::Each) && rule.stateful.throttle.is_none() {
        return events.iter().filter(|event| rule.matches(*event)).count();
    }
    let alone = Arc::new(with_inputs(set, rule));
    let mut memory = Memory::new(Arc::clone(&alone), Limits::default());
    let mut boot_ns = 0u64;
    let mut count = 0;
    for event in events {
        boot_ns = boot_ns.saturating_add(event.after_ns);
        let matched = alone.rules.iter().filter(|rule| rule.matches(event));
        let event = Occurrence { values: event, kind: None, boot_ns, process: None };
        count += memory.advance(&event, matched).alerts().count();
    }
    count
}

/// A rule and those whose matches it takes; only the rule itself raises alerts.
fn with_inputs(set: &RuleSet, rule: &Rule) -> RuleSet {
    let by_name = state::by_name(&set.rules);
    let mut wanted = vec![rule.at];
    let mut next = 0;
    while let Some(&at) = wanted.get(next) {
        next += 1;
        for other in set.rules[at].stateful.rules() {
            match by_name.get(other.name.as_str()) {
                Some(other) if !wanted.contains(other) => wanted.push(*other),
                _ => {}
            }
        }
    }
    let mut rules: Vec<Rule> = wanted.iter().map(|&at| set.rules[at].clone()).collect();
    for (at, rule) in rules.iter_mut().enumerate() {
        rule.enabled = true;
        rule.stateful.silent = at > 0;
        rule.at = at;
    }
    RuleSet { rules, ..RuleSet::default() }
}

/// Reads the value of `tests:`.
pub fn parse(node: &Node) -> Result<Vec<Example>, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut examples = Vec::new();
    for (number, item) in items(node).iter().enumerate() {
        match one(item, number) {
            Ok(example) => examples.push(example),
            Err(found) => diagnostics.extend(found),
        }
    }
    if diagnostics.is_empty() { Ok(examples) } else { Err(diagnostics) }
}

fn one(item: &Node, number: usize) -> Result<Example, Vec<Diagnostic>> {
    let keys = Keys::of(item);
    let unknown = keys.unknown(&["name", "event", "events", "match"]);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let expected = keys.get("match").ok_or_else(|| vec![missing("match", item)])?;
    let expected = match (expected.as_bool(), expected.as_number().map(usize::try_from)) {
        (Some(true), _) => Expected::Some,
        (Some(false), _) => Expected::None,
        (None, Some(Ok(times))) => Expected::Times(times),
        _ => return Err(vec![wrong_shape("match", expected, "true, false or how often")]),
    };
    let name =
        keys.get("name").and_then(Node::as_text).map_or_else(|| (number + 1).to_string(), str::to_owned);
    let events = match (keys.get("event"), keys.get("events")) {
        (Some(one), None) => vec![event(one, false)?],
        (None, Some(Node { kind: Kind::Sequence(items), .. })) => {
            let events: Vec<_> = items.iter().map(|item| event(item, true)).collect();
            let mut diagnostics = Vec::new();
            let events =
                events.into_iter().filter_map(|event| event.map_err(|found| diagnostics.extend(found)).ok());
            let events = events.collect();
            if !diagnostics.is_empty() {
                return Err(diagnostics);
            }
            events
        }
        (None, Some(other)) => return Err(vec![wrong_shape("events", other, "a list")]),
        (None, None) => return Err(vec![missing("event", item)]),
        (Some(_), Some(second)) => {
            let diagnostic = Diagnostic::error("R303", "an example has only one of `event`, `events`");
            return Err(vec![diagnostic.label(first_line(&second.span), "besides an event")]);
        }
    };
    Ok(Example { name, expected, events })
}

/// An event; one of several may say how long `after` the one before it it is.
pub fn event(node: &Node, is_one_of_several: bool) -> Result<Event, Vec<Diagnostic>> {
    let Kind::Mapping(pairs) = &node.kind else {
        return Err(vec![wrong_shape("event", node, "a mapping")]);
    };
    let mut diagnostics = Vec::new();
    let mut event = Event { after_ns: 0, values: Vec::new() };
    for (key, value) in pairs {
        let name = key.as_text().unwrap_or_default();
        if name == "after" && is_one_of_several {
            match value.as_text().and_then(state::read::nanoseconds) {
                Some(ns) => event.after_ns = ns,
                None => diagnostics.push(
                    Diagnostic::error("R404", "`after` is no time")
                        .label(first_line(&value.span), "needs a number and a unit")
                        .hint("write `500ms`, `10s`, `5m`, `1h` or `2d`"),
                ),
            }
            continue;
        }
        let (plain, in_brackets) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((plain, key)) => (plain, Some(key.to_owned())),
            None => (name, None),
        };
        match field::find(plain).filter(|field| matches!(field.get, Get::Keyed(_)) == in_brackets.is_some()) {
            None => diagnostics.push(unknown_field(name, key.span.clone())),
            Some(field) => match owned(field, value) {
                Some(value) => event.values.push(Given { field, key: in_brackets, value }),
                None => diagnostics.push(
                    Diagnostic::error("R203", format!("`{name}` cannot be {}", value.noun()))
                        .label(value.span.clone(), format!("{:?} is needed", field.ty).to_lowercase())
                        .label(key.span.clone(), "for this field"),
                ),
            },
        }
    }
    if diagnostics.is_empty() { Ok(event) } else { Err(diagnostics) }
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

impl Values for Event {
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

impl Event {
    fn given(&self, field: &'static Field, key: Option<&[u8]>) -> Option<&Owned> {
        let is_it = |given: &&Given| given.field == field && given.key.as_deref().map(str::as_bytes) == key;
        self.values.iter().find(is_it).map(|given| &given.value)
    }
}

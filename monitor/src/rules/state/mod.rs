//! What a rule remembers from one event to another, under its key `taffrail`: how many matches raise an alert
//! ([`Threshold`]), which came before ([`Sequence`]), what was never seen ([`New`]), and how many alerts are too many
//! ([`Throttle`]). [`read`] reads and checks the key; `detect::memory` keeps the state. `docs/rule-state.md` is the
//! specification.

pub mod read;

use std::fmt;

use hashbrown::{HashMap, HashSet};

use super::{Filter, Rule};
use crate::diagnostic::{Diagnostic, Span};
use crate::event::field::{Field, Get, Value, Values};

/// Most steps of a sequence, and most sources of a threshold.
pub const STEPS_MAX: usize = 16;

/// What a rule does beyond matching.
#[derive(Clone, Debug, Default)]
pub struct Stateful {
    /// What makes an alert of its matches.
    pub trigger: Trigger,
    /// How many alerts are too many; `None` is what the settings say.
    pub throttle: Option<Throttle>,
    /// Whether it only feeds other rules and raises no alert itself.
    pub silent: bool,
    /// The text of the condition and of all this, which tells whether a rule is still the same after a reload.
    pub text: String,
    /// Where it is written.
    pub place: Option<Span>,
}

/// What makes an alert.
#[derive(Clone, Debug, Default)]
pub enum Trigger {
    /// Each match.
    #[default]
    Each,
    /// So many within a time.
    Threshold(Threshold),
    /// Several things within a time.
    Sequence(Sequence),
    /// Values that were not seen before.
    New(New),
}

/// So many matches, or distinct values, within a time.
#[derive(Clone, Debug)]
pub struct Threshold {
    /// What counts: any of these.
    pub sources: Vec<Step>,
    /// How many raise an alert.
    pub count: u32,
    /// The field whose distinct values are counted; `None` counts matches.
    pub distinct: Option<Operand>,
    /// No two that are counted together are further apart, in ns.
    pub within_ns: u64,
}

/// Several things that belong together, within a time.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// What has to happen: two or more.
    pub steps: Vec<Step>,
    /// Whether in this order.
    pub ordered: bool,
    /// What makes it start anew.
    pub until: Option<Step>,
    /// The last is no later than so many ns after the first.
    pub within_ns: u64,
}

/// Values that were not seen before.
#[derive(Clone, Debug)]
pub struct New {
    /// The fields that are looked at together.
    pub fields: Box<[Operand]>,
    /// Not seen for so many ns is as not seen at all.
    pub per_ns: Option<u64>,
    /// So many ns from the start on it is only learnt what there is.
    pub learn_ns: u64,
}

/// At most so many alerts of a group within a time.
#[derive(Clone, Debug)]
pub struct Throttle {
    /// How many; `u32::MAX` is no limit.
    pub alerts: u32,
    /// In how many ns.
    pub per_ns: u64,
    /// The fields that make a group; empty is the container.
    pub by: Box<[Operand]>,
}

/// One thing that may happen.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is called in alerts.
    pub name: String,
    /// What has to match.
    pub input: Input,
    /// The values that tell what belongs together. Those of all steps are compared by their place here.
    pub by: Box<[Operand]>,
}

/// What has to match.
#[derive(Clone, Debug)]
pub enum Input {
    /// The rule's own condition.
    Own,
    /// Another condition.
    Condition(Filter),
    /// Another rule: its alerts, before throttling.
    Rule(RuleName),
}

/// The name of another rule.
#[derive(Clone, Debug)]
pub struct RuleName {
    /// The name.
    pub name: String,
    /// Where it is written.
    pub place: Option<Span>,
}

/// A field, and what stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    /// The field.
    pub field: &'static Field,
    /// The number.
    pub index: Option<u32>,
    /// The name, of a field whose values go by name.
    pub key: Option<Box<[u8]>>,
}

impl Operand {
    /// Whether one event can have several values of it.
    pub fn is_several(&self) -> bool {
        match self.field.get {
            Get::One(_) | Get::Keyed(_) | Get::Nothing => false,
            Get::Ancestors(_) | Get::Indexed(_) => self.index.is_none(),
            Get::Many(_) => true,
        }
    }

    /// The value of an event, if it is not several.
    pub fn value<'v>(&self, values: &'v impl Values) -> Option<Value<'v>> {
        match &self.key {
            Some(key) => values.keyed(self.field, key),
            None => values.one(self.field, self.index),
        }
    }
}

/// As it is written.
impl fmt::Display for Operand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.field.name;
        match (&self.key, self.index) {
            (Some(key), _) => write!(out, "{name}[{}]", String::from_utf8_lossy(key)),
            (None, Some(index)) => write!(out, "{name}[{index}]"),
            (None, None) => out.write_str(name),
        }
    }
}

impl Stateful {
    /// What can make it go on, and what makes it start anew last.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let (steps, until) = match &self.trigger {
            Trigger::Threshold(threshold) => (threshold.sources.as_slice(), None),
            Trigger::Sequence(sequence) => (sequence.steps.as_slice(), sequence.until.as_ref()),
            Trigger::Each | Trigger::New(_) => (&[][..], None),
        };
        steps.iter().chain(until)
    }

    /// The conditions besides the rule's own.
    pub fn conditions(&self) -> impl Iterator<Item = &Filter> {
        self.steps().filter_map(|step| match &step.input {
            Input::Condition(filter) => Some(filter),
            Input::Own | Input::Rule(_) => None,
        })
    }

    /// The values that it looks at.
    pub fn operands(&self) -> impl Iterator<Item = &Operand> {
        let own: &[Operand] = match &self.trigger {
            Trigger::New(new) => &new.fields,
            Trigger::Threshold(threshold) => threshold.distinct.as_slice(),
            Trigger::Sequence(_) | Trigger::Each => &[],
        };
        let keys = self.steps().flat_map(|step| &step.by);
        own.iter().chain(keys).chain(self.throttle.iter().flat_map(|throttle| &throttle.by))
    }

    /// The rules that it takes matches of.
    pub fn rules(&self) -> impl Iterator<Item = &RuleName> {
        self.steps().filter_map(|step| match &step.input {
            Input::Rule(name) => Some(name),
            Input::Own | Input::Condition(_) => None,
        })
    }

    /// What it is, in a word; empty if each match is an alert.
    pub fn name(&self) -> &'static str {
        match self.trigger {
            Trigger::Each => "",
            Trigger::Threshold(_) => "threshold",
            Trigger::Sequence(_) => "sequence",
            Trigger::New(_) => "new",
        }
    }
}

/// Checks what rules say of one another, once all are there.
pub fn link(rules: &[Rule]) -> Vec<Diagnostic> {
    let by_name = by_name(rules);
    let mut diagnostics = Vec::new();
    let used: HashSet<&str> =
        rules.iter().flat_map(|rule| rule.stateful.rules()).map(|other| other.name.as_str()).collect();
    for rule in rules {
        for RuleName { name, place } in rule.stateful.rules() {
            match by_name.get(name.as_str()) {
                None => diagnostics.push(
                    at(Diagnostic::error("R409", format!("there is no rule `{name}`")), place, "not a rule")
                        .did_you_mean(name, by_name.keys().copied()),
                ),
                Some(&other) if rule.enabled && !rules[other].enabled => {
                    let message = format!("rule `{}` waits for one that is switched off", rule.name);
                    diagnostics.push(
                        at(Diagnostic::warning("R413", message), place, "switched off")
                            .hint("a rule that only feeds others has `taffrail: {alert: false}`"),
                    );
                }
                Some(_) => {}
            }
        }
        if rule.stateful.silent && !used.contains(rule.name.as_str()) {
            let message = format!("rule `{}` has no effect", rule.name);
            let text = "it raises no alert, and no other rule takes its matches";
            diagnostics.push(at(Diagnostic::warning("R413", message), &rule.stateful.place, text));
        }
    }
    if let Err(circular) = order(rules) {
        let Rule { name, stateful, .. } = &rules[circular];
        let diagnostic = Diagnostic::error("R410", format!("rule `{name}` waits for itself"));
        diagnostics.push(at(diagnostic, &stateful.place, "what it waits for waits for it"));
    }
    diagnostics
}

fn at(diagnostic: Diagnostic, place: &Option<Span>, text: &str) -> Diagnostic {
    match place {
        Some(place) => diagnostic.label(place.clone(), text),
        None => diagnostic,
    }
}

/// Where each rule is.
pub fn by_name(rules: &[Rule]) -> HashMap<&str, usize> {
    rules.iter().enumerate().map(|(at, rule)| (rule.name.as_str(), at)).collect()
}

/// Rules in an order in which each stands behind those that it takes matches of; or one that waits for itself.
pub fn order(rules: &[Rule]) -> Result<Vec<usize>, usize> {
    let by_name = by_name(rules);
    let mut order = Vec::with_capacity(rules.len());
    let mut done = vec![false; rules.len()];
    // Depth first, without recursion: chains can be as long as there are rules.
    for root in 0..rules.len() {
        let mut stack = vec![(root, false)];
        let mut open = HashSet::new();
        while let Some((at, is_back)) = stack.pop() {
            if is_back {
                open.remove(&at);
                done[at] = true;
                order.push(at);
                continue;
            }
            if done[at] {
                continue;
            }
            if !open.insert(at) {
                return Err(at);
            }
            stack.push((at, true));
            let others = rules[at].stateful.rules().filter_map(|other| by_name.get(other.name.as_str()));
            stack.extend(others.map(|&at| (at, false)));
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests;

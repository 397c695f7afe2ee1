//! Matches events against a set of rules: all rules that match, not only the first. [`engine`] finds them; [`memory`]
//! says what alerts they raise.

pub mod alert;
mod engine;
mod key;
pub mod memory;
mod seen;
mod sequence;
mod table;
mod threshold;
pub mod throttle;
mod wiring;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::event::field::Values;
use crate::rules::{Rule, RuleSet};
use engine::Engine;

/// A set of rules that is ready to be matched.
pub struct Detector {
    set: Arc<RuleSet>,
    engine: Engine,
}

impl Detector {
    /// Takes the enabled rules of a set.
    pub fn new(set: Arc<RuleSet>) -> Self {
        let engine = Engine::new(&set.rules);
        Self { set, engine }
    }

    /// The set.
    pub fn rules(&self) -> &RuleSet {
        &self.set
    }

    /// The rules that match an event of that kind, in the order of the set. `evt.kind` and `evt.type` have to be
    /// of that kind, and a field has no value that its kinds do not have.
    pub fn matches(&mut self, kind: u16, values: &impl Values) -> impl Iterator<Item = &Rule> {
        let set = &self.set;
        self.engine.matches(kind, values).iter().map(|&at| &set.rules[at as usize])
    }
}

//! Matches events against a set of rules: all rules that match, not only the first. [`memory`] says what alerts
//! they raise.

pub mod alert;
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

use taffrail_common::kind::KINDS;

use crate::event::field::Values;
use crate::rules::{Rule, RuleSet};

/// A set of rules by the kind of event that they can match.
pub struct Detector {
    set: Arc<RuleSet>,
    by_kind: [Box<[usize]>; KINDS],
}

impl Detector {
    /// Takes the enabled rules of a set.
    pub fn new(set: Arc<RuleSet>) -> Self {
        let of_kind = |kind: usize| {
            let rules = set.rules.iter().enumerate();
            rules.filter(|(_, rule)| rule.enabled && rule.kinds & 1 << kind != 0).map(|(at, _)| at).collect()
        };
        let by_kind = std::array::from_fn(of_kind);
        Self { set, by_kind }
    }

    /// The set.
    pub fn rules(&self) -> &RuleSet {
        &self.set
    }

    /// The rules that match an event of that kind.
    pub fn matches<'a, V: Values>(&'a self, kind: u16, values: &'a V) -> impl Iterator<Item = &'a Rule> {
        let candidates = self.by_kind.get(usize::from(kind)).map_or(&[][..], |rules| rules);
        candidates.iter().map(|&at| &self.set.rules[at]).filter(move |rule| rule.matches(values))
    }
}

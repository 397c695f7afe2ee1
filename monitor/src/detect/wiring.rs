//! Who takes what: from a rule that fires, or a condition that holds, to the steps of other rules.

use taffrail_common::kind::KINDS;

use super::sequence::Hits;
use crate::event::field::Values;
use crate::rules::state::{self, Input, Step};
use crate::rules::{Filter, RuleSet};

/// A rule, by its place in the order of evaluation, and the step that an event makes.
pub type Hit = (usize, usize);

/// Who takes what.
pub struct Wiring {
    /// Rules in an order in which each stands behind those that it takes matches of.
    order: Vec<usize>,
    /// Of each rule the place in that order, and the steps that its matches make.
    rules: Vec<(usize, Vec<Hit>)>,
    /// The conditions besides those of rules, and the steps that they make.
    conditions: Vec<(Filter, Hit)>,
    /// Which of them each kind of event asks.
    by_kind: [Box<[usize]>; KINDS],
}

impl Wiring {
    /// Of the enabled rules of a set.
    pub fn of(set: &RuleSet) -> Self {
        let rules = &set.rules;
        // A set with a circle in it was refused.
        let order = state::order(rules).unwrap_or_default();
        let mut wired = vec![(0, Vec::new()); rules.len()];
        let mut conditions = Vec::new();
        let by_name = state::by_name(rules);
        for (place, &at) in order.iter().enumerate() {
            wired[at].0 = place;
            if !rules[at].enabled {
                continue;
            }
            for (step, Step { input, .. }) in rules[at].stateful.steps().enumerate().take(Hits::BITS as usize)
            {
                match input {
                    Input::Own => {}
                    Input::Condition(filter) => conditions.push((filter.clone(), (place, step))),
                    Input::Rule(other) => {
                        if let Some(&of) = by_name.get(other.name.as_str()) {
                            wired[of].1.push((place, step));
                        }
                    }
                }
            }
        }
        let by_kind = std::array::from_fn(|kind| {
            let numbered = conditions.iter().enumerate();
            numbered.filter(|(_, (filter, _))| filter.kinds & 1 << kind != 0).map(|(at, _)| at).collect()
        });
        Self { order, rules: wired, conditions, by_kind }
    }

    /// The rule at a place in the order.
    pub fn rule(&self, place: usize) -> Option<usize> {
        self.order.get(place).copied()
    }

    /// The place of a rule in the order.
    pub fn place(&self, rule: usize) -> Option<usize> {
        self.rules.get(rule).map(|(place, _)| *place)
    }

    /// The steps that a rule's matches make.
    pub fn takers(&self, rule: usize) -> impl Iterator<Item = Hit> {
        self.rules.get(rule).into_iter().flat_map(|(_, takers)| takers.iter().copied())
    }

    /// The steps that an event makes by their own conditions. Without a kind all are asked.
    pub fn hits(&self, values: &impl Values, kind: Option<u16>, mut hit: impl FnMut(Hit)) {
        let mut ask = |(filter, step): &(Filter, Hit)| {
            if filter.matches(values) {
                hit(*step);
            }
        };
        let Some(kind) = kind else { return self.conditions.iter().for_each(ask) };
        let of_kind = self.by_kind.get(usize::from(kind)).map_or(&[][..], |conditions| conditions);
        of_kind.iter().filter_map(|&at| self.conditions.get(at)).for_each(&mut ask);
    }
}

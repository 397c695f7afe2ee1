//! Finds the rules that an event matches, in a time that depends little on how many rules there are:
//! - a rule's condition is made simpler for each kind of event;
//! - equal parts of conditions are evaluated once per event;
//! - only those rules are evaluated of whose guards one holds, and these are found by looking values up.
//!
//! It says exactly what evaluating each rule by itself would say. Matching allocates nothing. `graph` is what is
//! evaluated, `guard` and `lookup` are how little of it is, and `leaf` is what is known of a test.

mod graph;
mod guard;
mod leaf;
mod lookup;
#[cfg(test)]
mod tests;

use hashbrown::HashMap;
use taffrail_common::kind::KINDS;

use crate::event::field::{Get, Value, Values};
use crate::probe::hook::bit;
use crate::rules::Rule;
use graph::{Builder, Graph, Id, Leaf, NEVER, Operand, Part};
use lookup::Lookup;

/// Rules that are ready to be matched.
pub struct Engine {
    graph: Graph,
    /// By the number of the field.
    lookups: Box<[Option<Lookup>]>,
    /// By kind.
    plans: [Plan; KINDS],
    scratch: Scratch,
}

/// Rules by a part that has to hold for each of them.
type Groups = Box<[(Id, Box<[u32]>)]>;

/// How the events of one kind are matched. Rules have numbers of their own in here.
struct Plan {
    /// Rules that can match: their place in the set, and what must hold.
    rules: Box<[(u32, Id)]>,
    /// Those that have to be evaluated each time.
    always: Box<[u32]>,
    /// Those that need not be evaluated unless some part holds that they have in common.
    groups: Groups,
    /// Fields that are looked up.
    operands: Box<[u32]>,
    /// Those that are to be evaluated if a look-up finds that a test may hold.
    guarded: HashMap<u32, Vec<u32>>,
}

/// What matching needs room for.
#[derive(Default)]
struct Scratch {
    /// The number of the event: what was written at another one counts for nothing.
    epoch: u64,
    /// For each part twice the epoch in which it was evaluated, and one more if it held.
    known: Vec<u64>,
    /// For each field the epoch in which its value was asked for, and the value's place.
    asked: Vec<(u64, usize)>,
    /// Between events there are none.
    values: Vec<Option<Value<'static>>>,
    /// Rules to evaluate, a bit each; between events there are none.
    candidates: Vec<u64>,
    matched: Vec<u32>,
}

impl Engine {
    /// Makes the rules of a set ready, without those that are switched off.
    pub fn new(rules: &[Rule]) -> Self {
        let mut builder = Builder::new();
        let conditions: Vec<Id> = rules.iter().map(|rule| builder.condition(rule.condition())).collect();
        let of_kind: [_; KINDS] = std::array::from_fn(|kind| {
            let kind = kind as u16;
            let mut known = HashMap::new();
            let can = rules.iter().zip(&conditions).enumerate();
            can.filter(|(_, (rule, _))| rule.enabled && rule.kinds & bit(kind) != 0)
                .map(|(at, (_, &id))| (at as u32, builder.of_kind(id, kind, &mut known)))
                .filter(|&(_, id)| id != NEVER)
                .collect::<Box<[_]>>()
        });
        let graph = builder.graph;
        let plans = of_kind.map(|rules| Plan::new(&graph, rules));
        let lookups = lookups(&graph, &plans);
        let words = plans.iter().map(|plan| plan.rules.len().div_ceil(64)).max().unwrap_or(0);
        let most = plans.iter().map(|plan| plan.rules.len()).max().unwrap_or(0);
        let scratch = Scratch {
            epoch: 0,
            known: vec![0; graph.parts.len()],
            asked: vec![(0, 0); graph.operands.len()],
            values: Vec::with_capacity(graph.operands.len()),
            candidates: vec![0; words],
            matched: Vec::with_capacity(most),
        };
        Self { graph, lookups, plans, scratch }
    }

    /// The places of the rules that match an event of that kind, in order.
    pub fn matches(&mut self, kind: u16, values: &impl Values) -> &[u32] {
        let Self { graph, lookups, plans, scratch } = self;
        let Scratch { epoch, known, asked, values: room, candidates, matched } = scratch;
        matched.clear();
        let Some(plan) = plans.get(usize::from(kind)) else { return matched };
        *epoch += 1;
        let seen = Seen { epoch: *epoch, asked, values: emptied(std::mem::take(room)), source: values };
        let mut event = Evaluation { graph, known, seen };
        plan.mark(&mut event, lookups, candidates);
        for (word, bits) in candidates.iter_mut().enumerate() {
            while *bits != 0 {
                let number = 64 * word + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                let (at, condition) = plan.rules[number];
                if event.holds(condition) {
                    matched.push(at);
                }
            }
        }
        *room = emptied(event.seen.values);
        matched
    }
}

/// The same memory without the values.
fn emptied<'a>(values: Vec<Option<Value<'_>>>) -> Vec<Option<Value<'a>>> {
    values.into_iter().take(0).map(|_| None).collect()
}

/// Look-ups for all guards, by field.
fn lookups(graph: &Graph, plans: &[Plan]) -> Box<[Option<Lookup>]> {
    let mut lookups: Vec<Option<lookup::Builder>> = graph.operands.iter().map(|_| None).collect();
    let mut guards: Vec<u32> = plans.iter().flat_map(|plan| plan.guarded.keys().copied()).collect();
    guards.sort_unstable();
    guards.dedup();
    for guard in guards {
        let Leaf { test, operand, .. } = &graph.leaves[guard as usize];
        let literals = leaf::looks_at(test).and_then(|(.., matcher)| leaf::literals(matcher));
        if let (Some(operand), Some(literals)) = (operand, literals) {
            let lookup = lookups[*operand as usize].get_or_insert_default();
            literals.into_iter().for_each(|literal| lookup.add(literal, guard));
        }
    }
    lookups.into_iter().map(|lookup| lookup.map(lookup::Builder::build)).collect()
}

impl Plan {
    fn new(graph: &Graph, rules: Box<[(u32, Id)]>) -> Self {
        let mut guarded: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut unguarded = Vec::new();
        for (number, &(_, condition)) in (0..).zip(&rules) {
            match guard::best(graph, condition) {
                Some(guard) => {
                    for leaf in guard.leaves {
                        guarded.entry(leaf).or_default().push(number);
                    }
                }
                None => unguarded.push(number),
            }
        }
        let mut operands: Vec<u32> =
            guarded.keys().filter_map(|&leaf| graph.leaves[leaf as usize].operand).collect();
        operands.sort_unstable();
        operands.dedup();
        let (groups, always) = grouped(graph, &rules, &unguarded);
        Self { rules, always, groups, operands: operands.into(), guarded }
    }

    /// Marks the rules that have to be evaluated.
    fn mark<V: Values>(
        &self,
        event: &mut Evaluation<'_, V>,
        lookups: &[Option<Lookup>],
        candidates: &mut [u64],
    ) {
        let mut mark =
            |rules: &[u32]| rules.iter().for_each(|&rule| candidates[rule as usize / 64] |= 1 << (rule % 64));
        mark(&self.always);
        for (condition, rules) in &self.groups {
            if event.holds(*condition) {
                mark(rules);
            }
        }
        for &operand in &self.operands {
            let Some(lookup) = &lookups[operand as usize] else { continue };
            let operands = &event.graph.operands;
            event.seen.each(operands, operand, |value| {
                lookup
                    .find(value, |guard| self.guarded.get(&guard).into_iter().for_each(|rules| mark(rules)));
            });
        }
    }
}

/// Puts rules together that have a part in common which must hold for all of them, and what is left.
fn grouped(graph: &Graph, rules: &[(u32, Id)], unguarded: &[u32]) -> (Groups, Box<[u32]>) {
    let conjuncts = |number: u32| guard::conjuncts(graph, rules[number as usize].1);
    let mut counts: HashMap<Id, usize> = HashMap::new();
    unguarded
        .iter()
        .flat_map(|&number| conjuncts(number))
        .for_each(|part| *counts.entry(part).or_default() += 1);
    let mut groups: HashMap<Id, Vec<u32>> = HashMap::new();
    for &number in unguarded {
        // Cheap ones come first.
        let most = conjuncts(number).into_iter().rev().max_by_key(|part| counts[part]);
        groups.entry(most.unwrap_or(NEVER)).or_default().push(number);
    }
    let (groups, alone): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(_, rules)| rules.len() > 1);
    let groups = groups.into_iter().map(|(part, rules)| (part, rules.into())).collect();
    (groups, alone.into_iter().flat_map(|(_, rules)| rules).collect())
}

/// Evaluates conditions for one event.
struct Evaluation<'a, V> {
    graph: &'a Graph,
    known: &'a mut [u64],
    seen: Seen<'a, V>,
}

impl<V: Values> Evaluation<'_, V> {
    fn holds(&mut self, id: Id) -> bool {
        let known = self.known[id as usize];
        if known >> 1 == self.seen.epoch {
            return known & 1 != 0;
        }
        let graph = self.graph;
        let holds = match &graph.parts[id as usize] {
            Part::Constant(holds) => *holds,
            Part::And(parts) => parts.iter().all(|&part| self.holds(part)),
            Part::Or(parts) => parts.iter().any(|&part| self.holds(part)),
            Part::Not(part) => !self.holds(*part),
            Part::Test(leaf) => self.test(&graph.leaves[*leaf as usize]),
        };
        self.known[id as usize] = self.seen.epoch << 1 | u64::from(holds);
        holds
    }

    fn test(&mut self, leaf: &Leaf) -> bool {
        let Leaf { test, operand, is_single, weight: _ } = leaf;
        match (operand, leaf::looks_at(test)) {
            (Some(operand), Some((.., matcher))) if *is_single => {
                let value = self.seen.value(&self.graph.operands, *operand);
                value.is_some_and(|value| matcher.matches(value))
            }
            _ => test.holds(self.seen.source),
        }
    }
}

/// Values of one event, each asked for once.
struct Seen<'a, V> {
    epoch: u64,
    asked: &'a mut [(u64, usize)],
    values: Vec<Option<Value<'a>>>,
    source: &'a V,
}

impl<V: Values> Seen<'_, V> {
    /// The value of a field that has one at most.
    fn value(&mut self, operands: &[Operand], operand: u32) -> Option<&Value<'_>> {
        let asked = &mut self.asked[operand as usize];
        if asked.0 != self.epoch {
            *asked = (self.epoch, self.values.len());
            let (field, index) = operands[operand as usize];
            self.values.push(self.source.one(field, index));
        }
        self.values[asked.1].as_ref()
    }

    /// Shows all values of a field.
    fn each(&mut self, operands: &[Operand], operand: u32, mut show: impl FnMut(&Value<'_>)) {
        let (field, index) = operands[operand as usize];
        if matches!(field.get, Get::One(_)) {
            self.value(operands, operand).into_iter().for_each(show);
        } else {
            self.source.any(field, index, &mut |value| {
                show(&value);
                false
            });
        }
    }
}

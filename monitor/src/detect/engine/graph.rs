//! The conditions of all rules as one graph in which equal parts are there once. Made when rules are loaded, only
//! read when events are matched.

use hashbrown::HashMap;

use super::leaf;
use crate::event::field::{Field, Get};
use crate::rules::matcher::Node;

/// A part of a condition: its place in the graph.
pub type Id = u32;

/// Never holds.
pub const NEVER: Id = 0;
/// Always holds.
pub const ALWAYS: Id = 1;

/// A part of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// It always holds, or never.
    Constant(bool),
    /// All hold; cheap ones first.
    And(Box<[Id]>),
    /// One holds; cheap ones first.
    Or(Box<[Id]>),
    /// It does not hold.
    Not(Id),
    /// The test with that number.
    Test(u32),
}

/// A test that is in the graph once.
pub struct Leaf {
    /// The test.
    pub test: Node,
    /// The number of the field that it looks at, if it does nothing else.
    pub operand: Option<u32>,
    /// Whether that field has one value at most.
    pub is_single: bool,
    /// What it costs to look for its literals, if the field's value has one of them whenever the test holds.
    pub weight: Option<u64>,
}

/// A field, and the index if it has one.
pub type Operand = (&'static Field, Option<u32>);

/// All parts.
#[derive(Default)]
pub struct Graph {
    /// Parts by id: a part stands behind those that it is made of.
    pub parts: Vec<Part>,
    /// Tests by number.
    pub leaves: Vec<Leaf>,
    /// Fields by number.
    pub operands: Vec<Operand>,
}

/// Makes a graph.
pub struct Builder {
    /// What was made so far.
    pub graph: Graph,
    /// About how long each part takes.
    costs: Vec<u32>,
    ids: HashMap<Part, Id>,
    tests: HashMap<Node, u32>,
    operands: HashMap<Operand, u32>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Self {
        let mut builder = Self {
            graph: Graph::default(),
            costs: Vec::new(),
            ids: HashMap::new(),
            tests: HashMap::new(),
            operands: HashMap::new(),
        };
        builder.part(Part::Constant(false), 0);
        builder.part(Part::Constant(true), 0);
        builder
    }

    /// Adds a condition.
    pub fn condition(&mut self, node: &Node) -> Id {
        match node {
            Node::And(nodes) => {
                let parts = nodes.iter().map(|node| self.condition(node)).collect();
                self.and(parts)
            }
            Node::Or(nodes) => {
                let parts = nodes.iter().map(|node| self.condition(node)).collect();
                self.or(parts)
            }
            Node::Not(node) => {
                let part = self.condition(node);
                self.not(part)
            }
            Node::Test(_) | Node::Derived(_) => {
                let leaf = self.leaf(node);
                self.part(Part::Test(leaf), node.cost())
            }
        }
    }

    /// What is left of a condition for events of a kind; `known` is what that was for other parts.
    pub fn of_kind(&mut self, id: Id, kind: u16, known: &mut HashMap<Id, Id>) -> Id {
        if let Some(&found) = known.get(&id) {
            return found;
        }
        let found = match self.graph.parts[id as usize].clone() {
            Part::Constant(_) => id,
            Part::And(parts) => {
                let parts = parts.iter().map(|&part| self.of_kind(part, kind, known)).collect();
                self.and(parts)
            }
            Part::Or(parts) => {
                let parts = parts.iter().map(|&part| self.of_kind(part, kind, known)).collect();
                self.or(parts)
            }
            Part::Not(part) => {
                let part = self.of_kind(part, kind, known);
                self.not(part)
            }
            Part::Test(leaf) => match leaf::constant(&self.graph.leaves[leaf as usize].test, kind) {
                Some(true) => ALWAYS,
                Some(false) => NEVER,
                None => id,
            },
        };
        known.insert(id, found);
        found
    }

    fn operand(&mut self, operand: Operand) -> u32 {
        let next = self.graph.operands.len() as u32;
        let number = *self.operands.entry(operand).or_insert(next);
        if number == next {
            self.graph.operands.push(operand);
        }
        number
    }

    fn leaf(&mut self, test: &Node) -> u32 {
        if let Some(&known) = self.tests.get(test) {
            return known;
        }
        let looks_at = leaf::looks_at(test);
        let operand = looks_at.map(|(field, index, _)| self.operand((field, index)));
        let is_single = looks_at.is_some_and(|(field, ..)| matches!(field.get, Get::One(_)));
        let literals = looks_at.and_then(|(.., matcher)| leaf::literals(matcher));
        let weight = literals.map(|literals| leaf::weight(&literals));
        let number = self.graph.leaves.len() as u32;
        self.graph.leaves.push(Leaf { test: test.clone(), operand, is_single, weight });
        self.tests.insert(test.clone(), number);
        number
    }

    fn and(&mut self, mut parts: Vec<Id>) -> Id {
        parts.retain(|&part| part != ALWAYS);
        if parts.contains(&NEVER) {
            return NEVER;
        }
        self.cheap_first(&mut parts);
        match parts[..] {
            [] => ALWAYS,
            [part] => part,
            _ => {
                let cost = self.cost_of(&parts);
                self.part(Part::And(parts.into()), cost)
            }
        }
    }

    fn or(&mut self, mut parts: Vec<Id>) -> Id {
        parts.retain(|&part| part != NEVER);
        if parts.contains(&ALWAYS) {
            return ALWAYS;
        }
        self.cheap_first(&mut parts);
        match parts[..] {
            [] => NEVER,
            [part] => part,
            _ => {
                let cost = self.cost_of(&parts);
                self.part(Part::Or(parts.into()), cost)
            }
        }
    }

    fn not(&mut self, id: Id) -> Id {
        match self.graph.parts[id as usize] {
            Part::Constant(holds) => {
                if holds {
                    NEVER
                } else {
                    ALWAYS
                }
            }
            Part::Not(part) => part,
            _ => self.part(Part::Not(id), self.costs[id as usize]),
        }
    }

    /// The same order for the same parts, so that they are found to be the same.
    fn cheap_first(&self, parts: &mut Vec<Id>) {
        parts.sort_by_key(|&part| (self.costs[part as usize], part));
        parts.dedup();
    }

    fn cost_of(&self, parts: &[Id]) -> u32 {
        parts.iter().fold(0, |cost: u32, &part| cost.saturating_add(self.costs[part as usize]))
    }

    fn part(&mut self, part: Part, cost: u32) -> Id {
        let next = self.graph.parts.len() as Id;
        let id = *self.ids.entry(part.clone()).or_insert(next);
        if id == next {
            self.graph.parts.push(part);
            self.costs.push(cost);
        }
        id
    }
}

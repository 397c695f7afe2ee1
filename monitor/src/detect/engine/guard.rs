//! Guards: the tests of which one has to hold if a condition is to hold. They are chosen when rules are loaded, so that
//! an event's value, looked up once, tells which rules are worth a look.

use super::graph::{Graph, Id, Leaf, Part};

/// Tests of which one holds whenever the condition does.
pub struct Guard {
    /// Their numbers.
    pub leaves: Vec<u32>,
    weight: u64,
}

/// The best guard of a condition, if it has any.
pub fn best(graph: &Graph, id: Id) -> Option<Guard> {
    match &graph.parts[id as usize] {
        Part::And(parts) => {
            parts.iter().filter_map(|&part| best(graph, part)).min_by_key(|guard| guard.weight)
        }
        Part::Or(parts) => {
            let mut all = Guard { leaves: Vec::new(), weight: 0 };
            for &part in parts {
                let Guard { leaves, weight } = best(graph, part)?;
                all.leaves.extend(leaves);
                all.weight = all.weight.saturating_add(weight);
            }
            Some(all)
        }
        Part::Test(leaf) => {
            let Leaf { is_single, weight, .. } = &graph.leaves[*leaf as usize];
            let several = if *is_single { 1 } else { 20 };
            let weight = (*weight)?.saturating_mul(several);
            Some(Guard { leaves: vec![*leaf], weight })
        }
        Part::Constant(_) | Part::Not(_) => None,
    }
}

/// The parts that all have to hold if a condition is to hold.
pub fn conjuncts(graph: &Graph, id: Id) -> Vec<Id> {
    match &graph.parts[id as usize] {
        Part::And(parts) => parts.iter().flat_map(|&part| conjuncts(graph, part)).collect(),
        _ => vec![id],
    }
}

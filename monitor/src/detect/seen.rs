//! Values that were not seen before.

use super::alert::{Mark, Proof};
use super::key::Keys;
use super::table::{Table, Weigh};
use crate::event::field::Values;
use crate::rules::state::New;

/// That a key was seen is all that is remembered.
#[derive(Default)]
pub struct Seen;

impl Weigh for Seen {
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Learns the values of an event; returns why there is an alert, if there is one. It began at `start_ns`.
pub fn advance(
    spec: &New,
    table: &mut Table<Seen>,
    start_ns: u64,
    values: &impl Values,
    mark: &Mark,
    keys: &Keys,
) -> Option<Proof> {
    let key = keys.one(values, &spec.fields);
    let is_known = table.touch(key, mark.clock_ns, |_| ()).is_some();
    if !is_known {
        table.enter(key, mark.clock_ns, |_| ());
    }
    let learns = mark.clock_ns - start_ns < spec.learn_ns;
    (!is_known && !learns).then_some(Proof::New)
}

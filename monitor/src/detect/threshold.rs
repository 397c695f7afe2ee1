//! So many matches, or so many distinct values of a field, within a time: exact, over a window that slides. After an
//! alert the count starts anew.

use std::collections::VecDeque;

use super::alert::{Mark, Proof};
use super::key::Keys;
use super::table::{Table, Weigh};
use crate::event::field::{Value, Values};
use crate::rules::state::Threshold;
use crate::rules::write_value;

/// How many of the distinct values an alert shows, and how much of each in bytes.
const SHOWN_MAX: usize = 10;
const SHOWN_BYTES: usize = 64;

/// What is remembered of one group: of the two only one is used.
#[derive(Default)]
pub struct Counted {
    /// When each match was, oldest first.
    times_ns: VecDeque<u64>,
    values: Vec<Distinct>,
}

struct Distinct {
    key: u128,
    first_ns: u64,
    last_ns: u64,
    text: Option<Box<[u8]>>,
}

impl Weigh for Counted {
    fn heap_bytes(&self) -> usize {
        let texts = self.values.iter().filter_map(|value| value.text.as_ref());
        self.times_ns.capacity() * size_of::<u64>()
            + self.values.capacity() * size_of::<Distinct>()
            + texts.map(|text| text.len()).sum::<usize>()
    }
}

/// Counts a match of that source; returns why there is an alert, if there is one.
pub fn advance(
    spec: &Threshold,
    table: &mut Table<Counted>,
    source: usize,
    values: &impl Values,
    mark: &Mark,
    keys: &Keys,
) -> Option<Proof> {
    let by = &spec.sources.get(source)?.by;
    let key = keys.one(values, by);
    let now_ns = mark.clock_ns;
    let proof = match &spec.distinct {
        None => table.enter(key, now_ns, |counted| counted.count(spec, now_ns)),
        Some(distinct) => {
            let value = distinct.value(values)?;
            let value_key = keys.value(&value);
            table.enter(key, now_ns, |counted| counted.count_value(spec, now_ns, value_key, &value))
        }
    };
    if proof.is_some() {
        table.take(key);
    }
    proof
}

impl Counted {
    fn count(&mut self, spec: &Threshold, now_ns: u64) -> Option<Proof> {
        while self.times_ns.front().is_some_and(|first_ns| now_ns - first_ns > spec.within_ns) {
            self.times_ns.pop_front();
        }
        self.times_ns.push_back(now_ns);
        let count = self.times_ns.len() as u32;
        let first_ns = *self.times_ns.front()?;
        (count >= spec.count).then_some(Proof::Count { count, first_ns, last_ns: now_ns })
    }

    fn count_value(&mut self, spec: &Threshold, now_ns: u64, key: u128, value: &Value<'_>) -> Option<Proof> {
        self.values.retain(|value| now_ns - value.last_ns <= spec.within_ns);
        match self.values.iter_mut().find(|value| value.key == key) {
            Some(known) => known.last_ns = now_ns,
            None => {
                let shown = self.values.iter().filter(|value| value.text.is_some()).count();
                let text = (shown < SHOWN_MAX).then(|| shown_text(value));
                self.values.push(Distinct { key, first_ns: now_ns, last_ns: now_ns, text });
            }
        }
        let count = self.values.len() as u32;
        (count >= spec.count).then(|| Proof::Values {
            count,
            values: self.values.iter_mut().filter_map(|value| value.text.take()).collect(),
            first_ns: self.values.iter().map(|value| value.first_ns).min().unwrap_or(now_ns),
            last_ns: now_ns,
        })
    }
}

/// The beginning of a value.
fn shown_text(value: &Value<'_>) -> Box<[u8]> {
    let Some(bytes) = value.text() else {
        let mut text = String::new();
        write_value(value, &mut text);
        return text.into_bytes().into();
    };
    match bytes.get(..SHOWN_BYTES) {
        Some(start) if start.len() < bytes.len() => [start, "…".as_bytes()].concat().into(),
        _ => bytes.into(),
    }
}

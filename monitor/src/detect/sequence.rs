//! Several things that belong together, in order or in any order, within a time.
//!
//! Of each way to get as far as a step only the one that began last is kept: if any of them can be ended in time,
//! that one can. So it finds a sequence whenever there is one, with a few marks for each key. After an alert
//! the key starts anew. One event is one step: a later one rather than an earlier one.

use super::alert::{Mark, Proof};
use super::key::Keys;
use super::table::{Table, Weigh};
use crate::event::field::Values;
use crate::rules::state::Sequence;

/// How far one key has got.
#[derive(Default)]
pub struct Progress {
    /// Ordered: bit n is set if the first n + 1 steps were made. Else: if step n was.
    reached: Hits,
    /// Ordered: the mark of the first step; then those of the first two; and so on. Else: the mark of each step.
    marks: Box<[Mark]>,
}

impl Weigh for Progress {
    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.marks)
    }
}

/// Which steps an event makes: bit n is step n; the one behind the last starts anew.
pub type Hits = u64;

/// Makes steps; returns the last one and why there is an alert, if there is one.
pub fn advance(
    spec: &Sequence,
    table: &mut Table<Progress>,
    hits: Hits,
    values: &impl Values,
    mark: &Mark,
    keys: &Keys,
    scratch: &mut Vec<u128>,
) -> Option<(usize, Proof)> {
    let steps = spec.steps.len();
    if let Some(until) = &spec.until
        && hits & 1 << steps != 0
    {
        keys.several(values, &until.by, scratch);
        for key in scratch.iter() {
            table.take(*key);
        }
    }
    let made = (0..steps).rev().filter(|step| hits & 1 << step != 0);
    for step in made {
        keys.several(values, &spec.steps[step].by, scratch);
        let mut ended = None;
        for &key in scratch.iter() {
            let act = |progress: &mut Progress| match spec.ordered {
                true => progress.go_on(spec, step, mark),
                false => progress.collect(spec, step, mark),
            };
            // Only what can be the first makes something to remember.
            let marks = if step == 0 || !spec.ordered {
                table.enter(key, mark.clock_ns, act)
            } else {
                table.touch(key, mark.clock_ns, act).flatten()
            };
            if marks.is_some() {
                table.take(key);
                ended = ended.or(marks);
            }
        }
        if let Some(marks) = ended {
            return Some((step, Proof::Steps(marks)));
        }
    }
    None
}

/// Where the marks of the first `steps` steps begin.
const fn row(steps: usize) -> usize {
    steps * (steps - 1) / 2
}

impl Progress {
    fn make_room(&mut self, marks: usize) {
        if self.marks.is_empty() {
            self.marks = vec![Mark::default(); marks].into();
        }
    }

    /// Makes step `step` of a sequence in order; returns all marks if it was the last.
    fn go_on(&mut self, spec: &Sequence, step: usize, mark: &Mark) -> Option<Box<[Mark]>> {
        let steps = spec.steps.len();
        self.make_room(row(steps));
        if step == 0 {
            self.marks[0] = *mark;
            self.reached |= 1;
            return None;
        }
        let before = row(step)..row(step) + step;
        let began_ns = self.marks[before.start].clock_ns;
        if self.reached & 1 << (step - 1) == 0 || mark.clock_ns - began_ns > spec.within_ns {
            return None;
        }
        if step + 1 == steps {
            return Some([&self.marks[before], &[*mark]].concat().into());
        }
        let after = row(step + 1);
        if self.reached & 1 << step == 0 || self.marks[after].clock_ns <= began_ns {
            self.marks.copy_within(before, after);
            self.marks[after + step] = *mark;
            self.reached |= 1 << step;
        }
        None
    }

    /// Makes step `step` of those in any order; returns all marks if none is missing.
    fn collect(&mut self, spec: &Sequence, step: usize, mark: &Mark) -> Option<Box<[Mark]>> {
        let steps = spec.steps.len();
        self.make_room(steps);
        self.marks[step] = *mark;
        self.reached |= 1 << step;
        let first_ns = self.marks.iter().map(|mark| mark.clock_ns).min()?;
        let is_whole = self.reached == (1 << steps) - 1 && mark.clock_ns - first_ns <= spec.within_ns;
        is_whole.then(|| self.marks.clone())
    }
}

//! From one daemon to the next: the probes that the last one left at work are read to their end, before those of this
//! one. What both have seen is told once.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashMap};
use taffrail_common::kind::KINDS;
use taffrail_common::map::Handled;

use super::{Sink, Worker};
use crate::event;
use crate::probe::handover::{Account, Left};

/// Both generations of probes were attached for some time; what the old ones saw until so much later than the new ones
/// were all there, and no longer, is looked for in both. The two stamp one event at most so far apart.
const OVERLAP_NS: u64 = 2_000_000;

/// Where the old probes' events end and the new ones' begin.
#[derive(Default)]
pub(super) struct Cut {
    at_ns: u64,
    /// Events around it that the old ones told: how many of each, by hash.
    told: HashMap<u64, u32>,
    hasher: DefaultHashBuilder,
}

impl Cut {
    /// An event is the same whenever it was seen.
    fn hash(&self, record: &[u8]) -> u64 {
        // What a ring has behind the record is of its own past.
        let len = event::decode::header(record).map_or(record.len(), |header| header.len as usize);
        let record = record.get(..len).unwrap_or(record);
        let time = std::mem::offset_of!(taffrail_common::event::Header, boot_ns);
        let (before, rest) = record.split_at(time.min(record.len()));
        self.hasher.hash_one((before, rest.get(8..)))
    }

    /// Whether the old probes' event is to be told.
    fn takes_old(&mut self, record: &[u8], boot_ns: u64) -> bool {
        if boot_ns + OVERLAP_NS >= self.at_ns && boot_ns < self.at_ns + OVERLAP_NS {
            let hash = self.hash(record);
            *self.told.entry(hash).or_insert(0) += 1;
        }
        boot_ns < self.at_ns + OVERLAP_NS
    }

    /// Whether the new probes' event is to be told.
    pub(super) fn takes_new(&mut self, record: &[u8], boot_ns: u64) -> bool {
        if boot_ns < self.at_ns {
            return false;
        }
        let hash = self.hash(record);
        match self.told.get_mut(&hash) {
            Some(left @ 1..) => {
                *left -= 1;
                false
            }
            _ => true,
        }
    }

    /// Whether all events at that time and later are new.
    pub(super) fn is_past(&self, boot_ns: u64) -> bool {
        boot_ns > self.at_ns + 2 * OVERLAP_NS
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TakenOver {
    /// Events that were left in the rings.
    pub events: u64,
    /// Events that the new probes have seen too.
    pub repeated: u64,
    /// When the last daemon had last written down how far it was, by the boot clock; 0 if that is not known.
    pub from_boot_ns: u64,
}

impl<S: Sink> Worker<S> {
    /// Deals with what earlier daemons' probes have seen, which were taken off already. The new ones were all
    /// attached at `at_ns` of the boot clock. `logged` counts by kind the events of which this daemon's log has
    /// records behind what was dealt with. What is of no use is told as a problem.
    pub fn take_over(
        &mut self,
        left: Vec<Left>,
        at_ns: u64,
        mut logged: impl FnMut(&Handled) -> [u64; KINDS],
        problems: &mut Vec<String>,
    ) -> TakenOver {
        let mut taken = TakenOver::default();
        let mut cut = Cut { at_ns, ..Cut::default() };
        // Where none were attached before, all that the new ones saw is told.
        let is_attached = left.iter().any(Left::is_attached);
        let mut left = left;
        for left in &mut left {
            let mut drained = [0; KINDS];
            left.drain(|record| {
                let header = event::decode::header(record);
                let Some(header) = header else { return };
                if let Some(drained) = drained.get_mut(usize::from(header.kind)) {
                    *drained += 1;
                }
                if cut.takes_old(record, header.boot_ns) {
                    taken.events += 1;
                    if let Some(ledger) = self.ledger() {
                        ledger.taken_over(header.kind);
                    }
                    self.record(record);
                } else {
                    taken.repeated += 1;
                }
            });
            if let Some(handled) = left.handled() {
                let since_ns = handled.boot_ns;
                taken.from_boot_ns = earlier(taken.from_boot_ns, since_ns);
                if let Some(account) = left.account(&drained, &logged(&handled)) {
                    self.tell_account(&account, since_ns);
                }
            }
        }
        // Should this daemon end in this moment, the next one has to know what it owes.
        self.settle_all();
        for left in left {
            if let Err(error) = left.remove() {
                problems.push(format!("what the last daemon left cannot be removed: {error}"));
            }
        }
        self.cut = is_attached.then_some(cut);
        taken
    }

    fn tell_account(&mut self, Account { unfinished, lost }: &Account, since_ns: u64) {
        for (place, counts) in [("restart", unfinished), ("ring", lost)] {
            for (kind, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                self.gap(place, event::kind_name(kind as u16), (None, *count), since_ns);
            }
        }
    }
}

/// Of two times, of which 0 is not known.
fn earlier(one_ns: u64, other_ns: u64) -> u64 {
    [one_ns, other_ns].into_iter().filter(|ns| *ns > 0).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn at(boot_ns: u64, pid: u32) -> Vec<u8> {
        let mut record = testing::exit(pid, 1, 0);
        record[8..16].copy_from_slice(&boot_ns.to_ne_bytes());
        record
    }

    #[test]
    fn start_that_was_ended_before_it_wrote_anything_down_does_not_say_since_when() {
        assert_eq!(
            [(0, 0), (7, 0), (0, 7), (7, 9), (9, 7)].map(|(one, other)| earlier(one, other)),
            [0, 7, 7, 7, 7]
        );
    }

    #[test]
    fn event_that_both_generations_saw_is_told_once_whichever_was_earlier() {
        const AT: u64 = 1_000_000_000;
        let mut cut = Cut { at_ns: AT, ..Cut::default() };
        let told = |cut: &mut Cut, old: &[(u64, u32)], new: &[(u64, u32)]| {
            let old = old.iter().filter(|(time, pid)| cut.takes_old(&at(*time, *pid), *time)).count();
            old + new.iter().filter(|(time, pid)| cut.takes_new(&at(*time, *pid), *time)).count()
        };
        // One each: long before, on either side of the cut, in either order, and long after.
        assert_eq!(told(&mut cut, &[(5, 1)], &[(5, 1)]), 1);
        assert_eq!(told(&mut cut, &[(AT - 10, 2)], &[(AT + 10, 2)]), 1);
        assert_eq!(told(&mut cut, &[(AT + 10, 3)], &[(AT - 10, 3)]), 1);
        assert_eq!(told(&mut cut, &[(AT + 10, 4)], &[(AT + 12, 4)]), 1);
        assert_eq!(told(&mut cut, &[(AT + OVERLAP_NS, 5)], &[(AT + OVERLAP_NS + 3, 5)]), 1);
        // Whatever lies behind it in its ring.
        let mut long = at(AT + 1, 8);
        cut.takes_old(&long, AT + 1);
        long.extend_from_slice(b"of another record");
        assert!(!cut.takes_new(&long, AT + 1));
        // Two that are alike are two.
        assert_eq!(told(&mut cut, &[(AT + 1, 6), (AT + 2, 6)], &[(AT + 1, 6), (AT + 2, 6)]), 2);
        // What only the new ones saw.
        assert_eq!(told(&mut cut, &[], &[(AT + 20, 7)]), 1);
        assert!(!cut.is_past(AT + 2 * OVERLAP_NS) && cut.is_past(AT + 2 * OVERLAP_NS + 1));
    }
}

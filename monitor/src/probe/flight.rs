//! The flight recorder: the last system calls of containers, as the kernel side keeps them. Entries are read while
//! they are written; what was not read whole is told as torn, never as something that happened.

use std::sync::Arc;

use aya::Pod;
use aya::maps::{Array, MapData};
use hashbrown::HashSet;
use taffrail_common::map::{FLIGHT_SLOTS, FlightEntry};

use crate::enrich::container::Container;

/// [`FlightEntry`] as a map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct FlightPod(FlightEntry);

// SAFETY: integers only, without padding.
unsafe impl Pod for FlightPod {}

/// The kernel's slots.
pub struct Flights {
    entries: Array<MapData, FlightPod>,
    heads: Array<MapData, u64>,
    /// Entries of each slot: a power of two.
    len: u32,
    slots: Vec<Slot>,
    /// Whether a container was left without a slot.
    full: bool,
}

struct Slot {
    container: Arc<Container>,
    /// Entries before this one are another container's, which had the slot before.
    begin: u64,
    /// Of slots whose containers are gone, the one that was taken longest ago is taken first.
    taken: u64,
}

/// The last calls of a container.
pub struct Flight {
    /// Whose.
    pub container: Arc<Container>,
    /// How many calls there were since it was first seen.
    pub total: u64,
    /// The last of them, oldest first; `None` is one that could not be read whole.
    pub calls: Vec<Option<FlightEntry>>,
}

impl Flights {
    pub(super) fn new(entries: Array<MapData, FlightPod>, heads: Array<MapData, u64>, len: u32) -> Self {
        Self { entries, heads, len, slots: Vec::new(), full: false }
    }

    /// The slot of a container, counted from 1: 0 if there is none left. `used` tells which slots cgroups still use:
    /// a container that has none keeps its slot until another needs it.
    pub fn slot(&mut self, container: &Arc<Container>, used: impl FnOnce() -> HashSet<u32>) -> u32 {
        let known = self.slots.iter().position(|slot| slot.container == *container);
        if let Some(known) = known {
            return known as u32 + 1;
        }
        let place = if self.slots.len() < FLIGHT_SLOTS {
            self.slots.len()
        } else {
            let Some(place) = oldest_unused(&self.slots, &used()) else {
                if !std::mem::replace(&mut self.full, true) {
                    log::warn!(
                        "the flight recorder has {FLIGHT_SLOTS} containers; of others nothing is kept"
                    );
                }
                return 0;
            };
            place
        };
        let taken = self.slots.iter().map(|slot| slot.taken + 1).max().unwrap_or(0);
        let slot = Slot { container: Arc::clone(container), begin: self.head(place as u32 + 1), taken };
        match self.slots.get_mut(place) {
            Some(old) => *old = slot,
            None => self.slots.push(slot),
        }
        place as u32 + 1
    }

    /// What is in all slots.
    pub fn read(&self) -> Vec<Flight> {
        let slots = (1..).zip(&self.slots);
        slots.map(|(place, slot)| self.read_slot(place, slot)).filter(|flight| flight.total > 0).collect()
    }

    fn read_slot(&self, place: u32, slot: &Slot) -> Flight {
        let before = self.head(place);
        let oldest = before.saturating_sub(self.len.into()).max(slot.begin);
        let first = (place - 1) * self.len;
        let entry = |sequence: u64| {
            let at = first + (sequence % u64::from(self.len)) as u32;
            self.entries.get(&at, 0).ok().and_then(|FlightPod(entry)| whole(entry, sequence))
        };
        let read: Vec<Option<FlightEntry>> = (oldest..before).map(entry).collect();
        // What was written over meanwhile is not among the last ones any more.
        let now_oldest = self.head(place).saturating_sub(self.len.into());
        let passed = usize::try_from(now_oldest.saturating_sub(oldest)).unwrap_or(usize::MAX);
        Flight {
            container: Arc::clone(&slot.container),
            total: before - slot.begin.min(before),
            calls: read.get(passed..).unwrap_or_default().to_vec(),
        }
    }

    fn head(&self, place: u32) -> u64 {
        self.heads.get(&place, 0).unwrap_or(0)
    }
}

/// The place that was taken longest ago of those that no cgroup uses.
fn oldest_unused(slots: &[Slot], used: &HashSet<u32>) -> Option<usize> {
    let unused = slots.iter().enumerate().filter(|(place, _)| !used.contains(&(*place as u32 + 1)));
    unused.min_by_key(|(_, slot)| slot.taken).map(|(place, _)| place)
}

/// The entry if it is the one of that number, and whole.
fn whole(entry: FlightEntry, sequence: u64) -> Option<FlightEntry> {
    (entry.sequence == sequence && entry.sum == entry.sum()).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::container::Runtime;

    #[test]
    fn slot_that_a_cgroup_uses_is_nobody_elses_and_the_oldest_of_the_others_goes_first() {
        let slot = |taken: u64| {
            let id = taken.to_string();
            let cgroup_path = format!("/docker/{id}");
            let container = Arc::new(Container::new(id, Runtime::Docker, None, cgroup_path));
            Slot { container, begin: 0, taken }
        };
        let slots = [slot(3), slot(0), slot(2), slot(1)];
        let oldest = |used: &[u32]| oldest_unused(&slots, &used.iter().copied().collect());
        // 0 is no slot, but what cgroups have that have none.
        assert_eq!((oldest(&[]), oldest(&[0, 2]), oldest(&[2, 4])), (Some(1), Some(3), Some(2)));
        assert_eq!(oldest(&[1, 2, 3, 4]), None);
    }

    #[test]
    fn entry_that_mixes_two_calls_is_torn_wherever_it_was_cut() {
        let entry = |sequence: u64, n: u64| {
            // Two words that differ in the same bits: a plain parity would not see that.
            let args = [n, n, 3, 4, 5, 6];
            let mut entry = FlightEntry {
                sequence,
                boot_ns: 1000 + n,
                args,
                result: n as i64,
                thread: 7,
                call: 0,
                sum: 0,
            };
            entry.sum = entry.sum();
            entry
        };
        let (old, new) = (entry(5, 3), entry(5 + 64, 4));
        let words = |entry: FlightEntry| {
            let FlightEntry { sequence, boot_ns, args: [a, b, c, d, e, f], result, thread, call, sum } =
                entry;
            [sequence, boot_ns, a, b, c, d, e, f, result as u64, thread, call, sum]
        };
        let back = |words: [u64; 12]| {
            let [sequence, boot_ns, a, b, c, d, e, f, result, thread, call, sum] = words;
            FlightEntry {
                sequence,
                boot_ns,
                args: [a, b, c, d, e, f],
                result: result as i64,
                thread,
                call,
                sum,
            }
        };
        assert_eq!((whole(old, 5), whole(new, 69)), (Some(old), Some(new)));
        assert_eq!((whole(old, 69), whole(new, 5)), (None, None));
        let (old_words, new_words) = (words(old), words(new));
        for mask in 0..1u32 << 12 {
            let mixed: [u64; 12] =
                std::array::from_fn(|n| if mask >> n & 1 == 0 { old_words[n] } else { new_words[n] });
            if mixed != old_words && mixed != new_words {
                assert_eq!((whole(back(mixed), 5), whole(back(mixed), 69)), (None, None), "{mask:b}");
            }
        }
    }
}

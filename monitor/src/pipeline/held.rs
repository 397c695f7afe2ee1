//! Records that wait for the name of their container, and what has to wait behind them. Records are kept in groups:
//! within a group they stay in order, and groups know nothing of one another. What a process did is in one group, with
//! what its new children do; so is what happens in the cgroups of a container that has no name yet. All others go past.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::enrich::Enricher;
use crate::event::Event;
use crate::event::model::{Model as _, Target};

/// What a record is about: two that have one in common stay in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A process, by its id on the host.
    Process(u32),
    /// A cgroup, by its id.
    Cgroup(u64),
    /// A process, by its pid namespace and its id there, which is how calls name it.
    Number(u32, u32),
    /// A container, by the address of what is known of it. Should that become another's meanwhile, more wait.
    Container(usize),
}

/// What an event is about.
pub struct Keys {
    /// Whom it may not overtake.
    behind: [Option<Key>; 5],
    /// Who may not overtake it while it waits.
    before: [Option<Key>; 6],
}

impl Keys {
    /// Those of an event.
    pub fn of(event: &Event<'_>, enricher: &Enricher) -> Self {
        let header = event.header();
        // Process 0 stands for whoever it was.
        let process = |tgid: u32| (tgid != 0).then_some(Key::Process(tgid));
        let (other, other_cgroup) = match event {
            Event::Fork(fork) => (process(fork.child_tgid), fork.child_cgroup_id),
            Event::CgroupMove(moved) => (process(moved.record.target_tgid), moved.record.cgroup_id),
            Event::Signal(signal) => (process(signal.target_tgid), signal.target_cgroup_id),
            _ => (None, 0),
        };
        let (mut named, mut number) = (None, None);
        match event {
            Event::Fork(fork) => number = Some(Key::Number(fork.child_pid_ns, fork.child_ns_tgid)),
            // What was in it happened before it was removed.
            Event::Cgroup(of) if of.record.removed != 0 => named = Some(Key::Cgroup(of.record.cgroup_id)),
            Event::Call(call) => {
                if let Some(Target::Numbered(pid)) = call.target() {
                    named = Some(Key::Number(header.pid_ns, pid.unsigned_abs()));
                }
            }
            _ => {}
        }
        let own = process(header.tgid);
        // Of a container that has no cgroup of its own it is what it has instead.
        let home = enricher.home_of(header);
        let cgroup = Some(Key::Cgroup(home));
        let container = enricher.address_of(home).map(Key::Container);
        // In a container that is known others need not wait for one process that came out of another one.
        let awaited = !enricher.is_settled(home);
        let unknown = (!enricher.is_answered(other_cgroup)).then_some(Key::Cgroup(other_cgroup));
        Self {
            behind: [own, other, cgroup, container, named],
            before: [own, other, cgroup.filter(|_| awaited), container.filter(|_| awaited), unknown, number],
        }
    }
}

/// Groups beyond so many are let go, though there is room: each is looked at again and again.
const GROUPS_MAX: usize = 4096;

/// What a record takes besides its bytes, about.
const ENTRY_BYTES: usize = 512;

/// Records that wait.
#[derive(Default)]
pub struct Held {
    groups: HashMap<u64, Group>,
    /// The group that has a key, and the number of its last record with that key.
    keys: HashMap<Key, (u64, u64)>,
    /// The number of each group's first record, and the group.
    firsts: BTreeSet<(u64, u64)>,
    /// How many records have waited so far: the number of the next one, and of its group if it begins one.
    count: u64,
    bytes: usize,
}

#[derive(Default)]
struct Group {
    /// By their numbers.
    records: BTreeMap<u64, Waiting>,
    bytes: usize,
}

struct Waiting {
    /// Who may not overtake it.
    keys: [Option<Key>; 6],
    record: Box<[u8]>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.record.len() + ENTRY_BYTES
    }
}

impl Held {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What they take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether more wait than may take so many bytes.
    pub fn is_over(&self, max_bytes: usize) -> bool {
        self.bytes > max_bytes || self.groups.len() > GROUPS_MAX
    }

    /// Whether an event has to wait for others.
    pub fn is_behind(&self, keys: &Keys) -> bool {
        keys.behind.iter().flatten().any(|key| self.keys.contains_key(key))
    }

    /// Adds a record behind all that it may not overtake.
    pub fn push(&mut self, keys: &Keys, record: &[u8]) {
        let number = self.count;
        self.count += 1;
        let related = keys.behind.iter().chain(&keys.before).flatten();
        let mut groups: Vec<u64> = related.filter_map(|key| Some(self.keys.get(key)?.0)).collect();
        groups.sort_unstable();
        groups.dedup();
        // The smaller ones into the largest, so that who brings groups together moves little.
        groups.sort_by_key(|group| Reverse(self.groups.get(group).map_or(0, |group| group.records.len())));
        let into = groups.first().copied().unwrap_or(number);
        for other in groups.iter().skip(1) {
            self.join(into, *other);
        }
        let waiting = Waiting { keys: keys.before, record: record.into() };
        let group = self.groups.entry(into).or_default();
        if group.records.is_empty() {
            self.firsts.insert((number, into));
        }
        group.bytes += waiting.bytes();
        self.bytes += waiting.bytes();
        group.records.insert(number, waiting);
        for key in keys.before.iter().flatten() {
            self.keys.insert(*key, (into, number));
        }
    }

    /// Puts one group into another.
    fn join(&mut self, into: u64, other: u64) {
        let Some(Group { records, bytes }) = self.groups.remove(&other) else { return };
        for (number, waiting) in &records {
            for key in waiting.keys.iter().flatten() {
                if let Some(of) = self.keys.get_mut(key).filter(|of| **of == (other, *number)) {
                    of.0 = into;
                }
            }
        }
        let first = |records: &BTreeMap<u64, Waiting>| records.keys().next().copied();
        let group = self.groups.entry(into).or_default();
        for (of, group) in [(&records, other), (&group.records, into)] {
            self.firsts.remove(&(first(of).unwrap_or_default(), group));
        }
        group.bytes += bytes;
        group.records.extend(records);
        self.firsts.extend(first(&group.records).map(|number| (number, into)));
    }

    /// The number of each group's first record, and the group, oldest first.
    pub fn firsts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.firsts.iter().copied()
    }

    /// The first record of a group, with its number.
    pub fn first(&self, group: u64) -> Option<(u64, &[u8])> {
        let (number, waiting) = self.groups.get(&group)?.records.first_key_value()?;
        Some((*number, &waiting.record))
    }

    /// Whose turn it is when there is no room for more than so many bytes: who takes the most, so that no container's
    /// flood lets others go out without a name; of too many groups, or if all have to go, the one that waits longest.
    pub fn victim(&self, max_bytes: usize) -> Option<u64> {
        if max_bytes == 0 || self.groups.len() > GROUPS_MAX {
            return self.firsts.first().map(|(_, group)| *group);
        }
        self.groups.iter().max_by_key(|(_, group)| group.bytes).map(|(group, _)| *group)
    }

    /// Takes the first record of a group.
    pub fn pop(&mut self, group: u64) -> Option<Box<[u8]>> {
        let of = self.groups.get_mut(&group)?;
        let (number, waiting) = of.records.pop_first()?;
        of.bytes -= waiting.bytes();
        self.bytes -= waiting.bytes();
        self.firsts.remove(&(number, group));
        match of.records.first_key_value() {
            Some((next, _)) => drop(self.firsts.insert((*next, group))),
            None => drop(self.groups.remove(&group)),
        }
        for key in waiting.keys.iter().flatten() {
            if self.keys.get(key) == Some(&(group, number)) {
                self.keys.remove(key);
            }
        }
        Some(waiting.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(all: &[Key]) -> Keys {
        let mut keys = Keys { behind: [None; 5], before: [None; 6] };
        for (at, key) in all.iter().enumerate() {
            (keys.behind[at], keys.before[at]) = (Some(*key), Some(*key));
        }
        keys
    }

    fn drain(held: &mut Held, group: u64) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| held.pop(group)).map(Vec::from).collect()
    }

    #[test]
    fn records_with_a_key_in_common_stay_in_order_and_others_are_apart() {
        let mut held = Held::default();
        held.push(&keys(&[Key::Process(1), Key::Cgroup(7)]), b"a");
        held.push(&keys(&[Key::Process(2), Key::Cgroup(8)]), b"b");
        held.push(&keys(&[Key::Process(1)]), b"c");
        assert!(held.is_behind(&keys(&[Key::Cgroup(7)])) && !held.is_behind(&keys(&[Key::Process(3)])));
        let firsts: Vec<_> = held.firsts().collect();
        let [(0, first), (1, second)] = firsts[..] else { panic!("{firsts:?}") };
        assert_eq!(drain(&mut held, first), [b"a", b"c"]);
        assert!(!held.is_behind(&keys(&[Key::Process(1), Key::Cgroup(7)])));
        assert_eq!(drain(&mut held, second), [b"b"]);
        assert!(held.is_empty() && held.bytes() == 0 && held.keys.is_empty());
    }

    #[test]
    fn record_that_is_about_two_groups_makes_one_of_them_in_their_order() {
        let mut held = Held::default();
        for (key, record) in [(1, b"a"), (2, b"b"), (1, b"c"), (2, b"d")] {
            held.push(&keys(&[Key::Process(key)]), record);
        }
        held.push(&keys(&[Key::Process(2), Key::Process(1)]), b"e");
        let firsts: Vec<_> = held.firsts().collect();
        let [(0, group)] = firsts[..] else { panic!("{firsts:?}") };
        assert_eq!(drain(&mut held, group), [b"a", b"b", b"c", b"d", b"e"]);
        assert!(held.is_empty() && held.keys.is_empty());
    }

    #[test]
    fn key_goes_with_the_last_record_that_has_it_though_the_group_stays() {
        let mut held = Held::default();
        // A group that never gets empty: each of its records has a new key and the one that all have.
        for number in 0..1000 {
            held.push(&keys(&[Key::Process(1), Key::Cgroup(number)]), b"x");
            if number > 0 {
                let (_, group) = held.firsts().next().unwrap();
                held.pop(group);
            }
        }
        assert_eq!((held.keys.len(), held.groups.len(), held.firsts.len()), (2, 1, 1));
        assert!(!held.is_behind(&keys(&[Key::Cgroup(7)])) && held.is_behind(&keys(&[Key::Cgroup(999)])));
    }

    #[test]
    fn group_that_takes_the_most_goes_first_when_there_is_no_room() {
        let mut held = Held::default();
        held.push(&keys(&[Key::Process(1)]), b"a");
        for _ in 0..3 {
            held.push(&keys(&[Key::Process(2)]), b"b");
        }
        let max_bytes = held.bytes() - 1;
        assert!(held.is_over(max_bytes) && !held.is_over(max_bytes + 1));
        let victim = held.victim(max_bytes).unwrap();
        assert_eq!(held.pop(victim).as_deref(), Some(&b"b"[..]));
        let all = std::iter::from_fn(|| held.pop(held.victim(0)?)).count();
        assert_eq!((all, held.bytes()), (3, 0));
    }
}

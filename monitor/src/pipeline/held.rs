//! Records that wait for the name of their container, and what has to wait behind them. Records are kept in groups:
//! within a group they stay in order, and groups know nothing of one another. What a process did is in one group, with
//! what its new children do; so is what happens in the cgroups of a container that has no name yet. All others go past.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::enrich::Enricher;
use crate::event::Event;

/// What a record is about: two that have one in common stay in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A process, by its id on the host.
    Process(u32),
    /// A cgroup, by its id.
    Cgroup(u64),
    /// A container, by the address of what is known of it: it cannot be another's while its records wait.
    Container(usize),
}

/// What an event is about.
pub struct Keys {
    /// Whom it may not overtake.
    behind: [Option<Key>; 4],
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
        let own = process(header.tgid);
        let cgroup = Some(Key::Cgroup(header.cgroup_id));
        let container = enricher.address_of(header.cgroup_id).map(Key::Container);
        // In a container that is known others need not wait for one process that came out of another one.
        let awaited = !enricher.is_settled(header.cgroup_id);
        let unknown = (!enricher.is_answered(other_cgroup)).then_some(Key::Cgroup(other_cgroup));
        Self {
            behind: [own, other, cgroup, container],
            before: [own, other, cgroup.filter(|_| awaited), container.filter(|_| awaited), unknown, None],
        }
    }
}

/// Records that wait.
#[derive(Default)]
pub struct Held {
    groups: HashMap<u64, Group>,
    /// The group that has a key.
    group_of: HashMap<Key, u64>,
    /// How many records have waited so far: the number of the next one, and of its group if it begins one.
    count: u64,
    bytes: usize,
}

#[derive(Default)]
struct Group {
    keys: Vec<Key>,
    /// With their numbers, oldest first.
    records: VecDeque<(u64, Box<[u8]>)>,
}

impl Held {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many bytes of them wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an event has to wait for others.
    pub fn is_behind(&self, keys: &Keys) -> bool {
        keys.behind.iter().flatten().any(|key| self.group_of.contains_key(key))
    }

    /// Adds a record behind all that it may not overtake.
    pub fn push(&mut self, keys: &Keys, record: &[u8]) {
        let number = self.count;
        self.count += 1;
        let related = keys.behind.iter().chain(&keys.before).flatten();
        let mut groups: Vec<u64> = related.filter_map(|key| self.group_of.get(key).copied()).collect();
        groups.sort_unstable();
        groups.dedup();
        let into = groups.first().copied().unwrap_or(number);
        for other in groups.iter().skip(1) {
            self.join(into, *other);
        }
        let group = self.groups.entry(into).or_default();
        group.records.push_back((number, record.into()));
        self.bytes += record.len();
        for key in keys.before.iter().flatten() {
            if self.group_of.insert(*key, into).is_none() {
                group.keys.push(*key);
            }
        }
    }

    /// Puts one group into another.
    fn join(&mut self, into: u64, other: u64) {
        let Some(Group { keys, records }) = self.groups.remove(&other) else { return };
        for key in &keys {
            self.group_of.insert(*key, into);
        }
        let group = self.groups.entry(into).or_default();
        group.keys.extend(keys);
        group.records.extend(records);
        group.records.make_contiguous().sort_unstable_by_key(|(number, _)| *number);
    }

    /// The number of each group's first record, and the group.
    pub fn firsts(&self) -> Vec<(u64, u64)> {
        self.groups.keys().filter_map(|group| Some((self.first(*group)?.0, *group))).collect()
    }

    /// The first record of a group, with its number.
    pub fn first(&self, group: u64) -> Option<(u64, &[u8])> {
        let (number, record) = self.groups.get(&group)?.records.front()?;
        Some((*number, record))
    }

    /// Takes the first record of a group.
    pub fn pop(&mut self, group: u64) -> Option<Box<[u8]>> {
        let of = self.groups.get_mut(&group)?;
        let (_, record) = of.records.pop_front()?;
        self.bytes -= record.len();
        if of.records.is_empty()
            && let Some(Group { keys, .. }) = self.groups.remove(&group)
        {
            for key in keys {
                self.group_of.remove(&key);
            }
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(all: &[Key]) -> Keys {
        let mut keys = Keys { behind: [None; 4], before: [None; 6] };
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
        let mut firsts = held.firsts();
        firsts.sort_unstable();
        let [(0, first), (1, second)] = firsts[..] else { panic!("{firsts:?}") };
        assert_eq!(drain(&mut held, first), [b"a", b"c"]);
        assert!(!held.is_behind(&keys(&[Key::Process(1), Key::Cgroup(7)])));
        assert_eq!(drain(&mut held, second), [b"b"]);
        assert!(held.is_empty() && held.bytes() == 0 && held.group_of.is_empty());
    }

    #[test]
    fn record_that_is_about_two_groups_makes_one_of_them_in_their_order() {
        let mut held = Held::default();
        for (key, record) in [(1, b"a"), (2, b"b"), (1, b"c"), (2, b"d")] {
            held.push(&keys(&[Key::Process(key)]), record);
        }
        held.push(&keys(&[Key::Process(2), Key::Process(1)]), b"e");
        let [(_, group)] = held.firsts()[..] else { panic!("one group") };
        assert_eq!(drain(&mut held, group), [b"a", b"b", b"c", b"d", b"e"]);
        assert!(held.is_empty() && held.group_of.is_empty());
    }
}

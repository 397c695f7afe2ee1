//! What the kernel side is told of each cgroup: which kinds it is watched for, and which share of the rings it uses.
//! A container has one share, however many cgroups it makes; cgroups that are gone are forgotten.

use aya::Pod;
use aya::maps::{Array, HashMap, MapData, MapError};
use hashbrown::HashSet;
use taffrail_common::map::{SHARES, Scope};

use crate::event::field::KindSet;

/// [`Scope`] as a map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct ScopePod(Scope);

// SAFETY: integers only, without padding.
unsafe impl Pod for ScopePod {}

/// The kernel's table of cgroups.
pub struct Scopes {
    map: HashMap<MapData, u64, ScopePod>,
    default: Array<MapData, ScopePod>,
    shares: Shares,
    /// What is in the kernel's table.
    known: hashbrown::HashMap<u64, Scope>,
    /// Cgroups that are still to be looked at in this turn.
    turn: Vec<u64>,
}

/// Cgroups that the kernel's table has room for.
pub const SCOPE_MAX: u32 = 16_384;

impl Scopes {
    pub(super) fn new(map: HashMap<MapData, u64, ScopePod>, default: Array<MapData, ScopePod>) -> Self {
        let known = hashbrown::HashMap::new();
        Self { map, default, shares: Shares::new(), known, turn: Vec::new() }
    }

    /// The kinds that cgroups are watched for that are not known. They have one share of the rings in common.
    pub fn set_default(&mut self, kinds: KindSet) -> Result<(), MapError> {
        self.default.set(0, &ScopePod(Scope { kinds, ..Scope::default() }), 0)
    }

    /// How many cgroups are in the kernel's table.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What one cgroup is watched for. `holder` is whose share it uses, `flight` its slot of the flight recorder.
    pub fn set(&mut self, cgroup_id: u64, holder: &str, kinds: KindSet, flight: u32) -> Result<(), MapError> {
        let before = self.known.get(&cgroup_id).map(|scope| scope.share);
        let share = self.shares.take(holder);
        let scope = Scope { kinds, share, flight };
        let set = self.map.insert(&cgroup_id, &ScopePod(scope), 0);
        match set {
            Ok(()) => {
                self.known.insert(cgroup_id, scope);
                before.into_iter().for_each(|share| self.shares.give_back(share));
            }
            // A full table leaves the cgroup with the default, which watches everything.
            Err(_) => self.shares.give_back(share),
        }
        set
    }

    /// The slots of the flight recorder that cgroups use.
    pub fn flights(&self) -> HashSet<u32> {
        self.known.values().map(|scope| scope.flight).collect()
    }

    /// Some cgroups to look at, whether they are still there: all have their turn. More of them if there are many.
    pub fn some(&mut self) -> Vec<u64> {
        const FEW: usize = 512;
        if self.turn.is_empty() {
            self.turn = self.known.keys().copied().collect();
        }
        let count = FEW.max(self.known.len() / 4).min(self.turn.len());
        self.turn.split_off(self.turn.len() - count)
    }

    /// Forgets cgroups that are gone.
    pub fn forget(&mut self, gone: &[u64]) {
        for id in gone {
            if let Some(scope) = self.known.remove(id) {
                self.shares.give_back(scope.share);
                // It is not there: what else could fail?
                let _ = self.map.remove(id);
            }
        }
    }
}

/// Who has which share.
struct Shares {
    holders: hashbrown::HashMap<String, u32>,
    /// By share: how many cgroups use it, and whose it is.
    used: Vec<(u32, String)>,
    free: Vec<u32>,
}

impl Shares {
    fn new() -> Self {
        Self { holders: hashbrown::HashMap::new(), used: vec![(0, String::new())], free: Vec::new() }
    }

    /// The share of a holder, for one cgroup more. When there are none left, it is the one of unknown cgroups.
    fn take(&mut self, holder: &str) -> u32 {
        let share = match self.holders.get(holder) {
            Some(&share) => share,
            None => {
                let share = match self.free.pop() {
                    Some(share) => share,
                    None if self.used.len() < SHARES => {
                        self.used.push((0, String::new()));
                        self.used.len() as u32 - 1
                    }
                    None => return 0,
                };
                self.holders.insert(holder.to_owned(), share);
                if let Some((_, name)) = self.used.get_mut(share as usize) {
                    holder.clone_into(name);
                }
                share
            }
        };
        if let Some((count, _)) = self.used.get_mut(share as usize) {
            *count += 1;
        }
        share
    }

    /// One cgroup less.
    fn give_back(&mut self, share: u32) {
        if share == 0 {
            return;
        }
        let Some((count, name)) = self.used.get_mut(share as usize) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.holders.remove(&std::mem::take(name));
            self.free.push(share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_of_one_holder_have_one_share_until_the_last_is_gone() {
        let mut shares = Shares::new();
        let (a, b) = (shares.take("a"), shares.take("b"));
        assert_eq!((a, b, shares.take("a")), (1, 2, 1));
        shares.give_back(a);
        assert_eq!(shares.take("c"), 3);
        shares.give_back(a);
        assert_eq!((shares.take("d"), shares.take("b")), (a, b));
    }

    #[test]
    fn holders_beyond_the_last_share_have_that_of_the_unknown_ones() {
        let mut shares = Shares::new();
        for n in 1..SHARES as u32 {
            assert_eq!(shares.take(&n.to_string()), n);
        }
        assert_eq!((shares.take("more"), shares.take("7")), (0, 7));
        shares.give_back(0);
        shares.give_back(9);
        assert_eq!(shares.take("more"), 9);
    }
}

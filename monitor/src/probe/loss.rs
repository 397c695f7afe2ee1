//! What the kernel counted: events offered and lost, by kind and cgroup.

use aya::Pod;
use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};
use hashbrown::HashMap;
use taffrail_common::kind::KINDS;
use taffrail_common::map::{LossKey, Tallies, Tally};

use crate::clock;
use crate::enrich::cgroup::Cgroups;

/// [`Tallies`] as a map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct TalliesPod(Tallies);

// SAFETY: integers only, without padding.
unsafe impl Pod for TalliesPod {}

/// [`LossKey`] as a map key.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LossKeyPod(pub LossKey);

// SAFETY: integers only, without padding.
unsafe impl Pod for LossKeyPod {}

/// The counters by kind, over all CPUs.
pub(super) fn total(tally: &PerCpuArray<MapData, TalliesPod>) -> [Tally; KINDS] {
    let mut totals = [Tally::default(); KINDS];
    if let Ok(cpus) = tally.get(&0, 0) {
        for TalliesPod(cpu) in cpus.iter() {
            for (total, Tally { offered, lost }) in totals.iter_mut().zip(cpu) {
                total.offered += offered;
                total.lost += lost;
            }
        }
    }
    totals
}

/// Events that were lost since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The kind of event.
    pub kind: u16,
    /// Of which cgroup; `None` if the kernel's table was full.
    pub cgroup_id: Option<u64>,
    /// How many.
    pub count: u64,
    /// They were lost after this time of the boot clock: the last look before.
    pub since_ns: u64,
}

/// Reads the kernel's counters and tells what is new.
pub struct LossReader {
    tally: PerCpuArray<MapData, TalliesPod>,
    lost: PerCpuHashMap<MapData, LossKeyPod, u64>,
    /// What was told of each entry of `lost`.
    reported: HashMap<LossKey, u64>,
    /// What was told by kind: with a cgroup, and without.
    attributed: [u64; KINDS],
    unattributed: [u64; KINDS],
    /// For finding entries of cgroups that are gone.
    cgroups: Option<Cgroups>,
    /// What was lost before this time of the boot clock is told.
    read_ns: u64,
    /// What the counters were at the last look.
    tallies: [Tally; KINDS],
}

/// Entries that the kernel's table of losses by cgroup has room for.
pub const LOST_MAX: u32 = 4096;

/// So many entries of cgroups that are gone stay in the kernel's table until the next look for such.
const SETTLED_MAX: usize = 1024;

impl LossReader {
    pub(super) fn new(
        tally: PerCpuArray<MapData, TalliesPod>,
        lost: PerCpuHashMap<MapData, LossKeyPod, u64>,
        cgroups: Option<Cgroups>,
        loaded_ns: u64,
    ) -> Self {
        let reported = HashMap::new();
        Self {
            tally,
            lost,
            reported,
            attributed: [0; KINDS],
            unattributed: [0; KINDS],
            cgroups,
            read_ns: loaded_ns,
            tallies: [Tally::default(); KINDS],
        }
    }

    /// The counters by kind, over all CPUs, since the probes were attached, as they were at the last look.
    pub fn tallies(&self) -> &[Tally; KINDS] {
        &self.tallies
    }

    /// How many entries the kernel's table of losses by cgroup has, as far as it was read.
    pub fn entries(&self) -> usize {
        self.reported.len()
    }

    /// What was lost since the last call.
    pub fn new_losses(&mut self) -> Vec<Loss> {
        // The kernel side counts by cgroup first, and is asked for that last: what the tallies have more is of no
        // known cgroup.
        let (since_ns, now_ns) = (self.read_ns, clock::boot_ns());
        self.tallies = total(&self.tally);
        let tallies = self.tallies;
        let told = |kind: usize| self.attributed[kind] + self.unattributed[kind];
        if tallies.iter().enumerate().all(|(kind, tally)| tally.lost <= told(kind)) {
            self.read_ns = now_ns;
            return Vec::new();
        }
        let mut losses = Vec::new();
        let mut settled = Vec::new();
        let mut complete = true;
        for entry in self.lost.iter() {
            let Ok((LossKeyPod(key), cpus)) = entry else {
                complete = false;
                continue;
            };
            let total = cpus.iter().sum::<u64>();
            let reported = self.reported.entry(key).or_insert(0);
            if total > *reported {
                let count = total - *reported;
                losses.push(Loss { kind: key.kind as u16, cgroup_id: Some(key.cgroup_id), count, since_ns });
                *reported = total;
                if let Some(attributed) = self.attributed.get_mut(key.kind as usize) {
                    *attributed += count;
                }
            } else {
                settled.push(key);
            }
        }
        for (kind, tally) in tallies.iter().enumerate().filter(|_| complete) {
            let told = self.attributed[kind] + self.unattributed[kind];
            if tally.lost > told {
                let count = tally.lost - told;
                losses.push(Loss { kind: kind as u16, cgroup_id: None, count, since_ns });
                self.unattributed[kind] += count;
            }
        }
        // What could not be read is told the next time.
        if complete {
            self.read_ns = now_ns;
        }
        if settled.len() > SETTLED_MAX {
            self.remove_gone(&settled);
        }
        losses
    }

    /// Makes room in the kernel's table. A count that is made in this very moment (of a connection that outlives
    /// its container) is in the tally still, and is told without its cgroup.
    fn remove_gone(&mut self, settled: &[LossKey]) {
        let Some(cgroups) = &mut self.cgroups else { return };
        let gone = cgroups.gone(&settled.iter().map(|key| key.cgroup_id).collect::<Vec<_>>());
        for key in settled.iter().filter(|key| gone.contains(&key.cgroup_id)) {
            if self.lost.remove(&LossKeyPod(*key)).is_ok() {
                self.reported.remove(key);
            }
        }
    }
}

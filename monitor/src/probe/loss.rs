//! What the kernel counted: events offered and lost, by kind and cgroup.

use aya::Pod;
use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};
use hashbrown::HashMap;
use taffrail_common::kind::KINDS;
use taffrail_common::map::{LossKey, Tally};

/// [`Tally`] as a map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct TallyPod(pub Tally);

// SAFETY: integers only, without padding.
unsafe impl Pod for TallyPod {}

/// [`LossKey`] as a map key.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LossKeyPod(pub LossKey);

// SAFETY: integers only, without padding.
unsafe impl Pod for LossKeyPod {}

/// Events that were lost since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The kind of event.
    pub kind: u16,
    /// Of which cgroup; `None` if the kernel's table was full.
    pub cgroup_id: Option<u64>,
    /// How many.
    pub count: u64,
}

/// Reads the kernel's counters and tells what is new. Entries stay in the kernel's table, since removing
/// one could lose a count that a CPU is just making.
pub struct LossReader {
    tally: PerCpuArray<MapData, TallyPod>,
    lost: PerCpuHashMap<MapData, LossKeyPod, u64>,
    reported: HashMap<LossKey, u64>,
    unattributed: [u64; KINDS],
}

impl LossReader {
    pub(super) fn new(
        tally: PerCpuArray<MapData, TallyPod>,
        lost: PerCpuHashMap<MapData, LossKeyPod, u64>,
    ) -> Self {
        Self { tally, lost, reported: HashMap::new(), unattributed: [0; KINDS] }
    }

    /// The counters by kind, over all CPUs, since the probes were attached.
    pub fn tallies(&self) -> [Tally; KINDS] {
        std::array::from_fn(|kind| {
            let mut total = Tally::default();
            if let Ok(cpus) = self.tally.get(&(kind as u32), 0) {
                for TallyPod(Tally { offered, lost, lost_unattributed }) in cpus.iter() {
                    total.offered += offered;
                    total.lost += lost;
                    total.lost_unattributed += lost_unattributed;
                }
            }
            total
        })
    }

    /// What was lost since the last call.
    pub fn new_losses(&mut self) -> Vec<Loss> {
        let tallies = self.tallies();
        if tallies.iter().all(|tally| tally.lost == 0) {
            return Vec::new();
        }
        let mut losses = Vec::new();
        for (LossKeyPod(key), cpus) in self.lost.iter().flatten() {
            let total = cpus.iter().sum::<u64>();
            let reported = self.reported.entry(key).or_insert(0);
            if total > *reported {
                let count = total - *reported;
                losses.push(Loss { kind: key.kind as u16, cgroup_id: Some(key.cgroup_id), count });
                *reported = total;
            }
        }
        for (kind, (tally, reported)) in tallies.iter().zip(&mut self.unattributed).enumerate() {
            if tally.lost_unattributed > *reported {
                let count = tally.lost_unattributed - *reported;
                losses.push(Loss { kind: kind as u16, cgroup_id: None, count });
                *reported = tally.lost_unattributed;
            }
        }
        losses
    }
}

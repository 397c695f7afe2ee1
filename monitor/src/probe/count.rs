//! How often system calls were made, as the kernel side counted them by cgroup.

use aya::Pod;
use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};
use hashbrown::HashMap;
use taffrail_common::map::{Count, CountKey};

/// [`CountKey`] as a map key.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CountKeyPod(CountKey);

// SAFETY: integers only, without padding.
unsafe impl Pod for CountKeyPod {}

/// [`Count`] as a map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct CountPod(Count);

// SAFETY: integers only, without padding.
unsafe impl Pod for CountPod {}

/// Counters in the kernel's table, over all cgroups.
pub const COUNTS_MAX: u32 = 16_384;

/// Reads the kernel's counters and tells what is new.
pub struct CallCounts {
    counts: PerCpuHashMap<MapData, CountKeyPod, CountPod>,
    not_counted: PerCpuArray<MapData, u64>,
    told: HashMap<CountKey, Count>,
    told_not_counted: u64,
}

impl CallCounts {
    pub(super) fn new(
        counts: PerCpuHashMap<MapData, CountKeyPod, CountPod>,
        not_counted: PerCpuArray<MapData, u64>,
    ) -> Self {
        Self { counts, not_counted, told: HashMap::new(), told_not_counted: 0 }
    }

    /// What was counted since the last call.
    pub fn new_counts(&mut self) -> Vec<(CountKey, Count)> {
        let mut new = Vec::new();
        for (CountKeyPod(key), cpus) in self.counts.iter().flatten() {
            let mut total = Count::default();
            for CountPod(Count { calls, errors }) in cpus.iter() {
                total.calls += calls;
                total.errors += errors;
            }
            let told = self.told.insert(key, total).unwrap_or_default();
            if total.calls > told.calls {
                let errors = total.errors.saturating_sub(told.errors);
                new.push((key, Count { calls: total.calls - told.calls, errors }));
            }
        }
        new
    }

    /// How many calls the table had no room for, since the last call.
    pub fn newly_missed(&mut self) -> u64 {
        // What cannot be read now is told the next time.
        let Ok(cpus) = self.not_counted.get(&0, 0) else { return 0 };
        let total = cpus.iter().sum::<u64>();
        total.saturating_sub(std::mem::replace(&mut self.told_not_counted, total))
    }

    /// The cgroups that have counters.
    pub fn cgroups(&self) -> Vec<u64> {
        let mut cgroups: Vec<u64> = self.told.keys().map(|key| key.cgroup_id).collect();
        cgroups.sort_unstable();
        cgroups.dedup();
        cgroups
    }

    /// Removes the counters of cgroups that were gone before they were last read: nobody can be counting there.
    pub fn forget(&mut self, gone: &[u64]) {
        let counts = &mut self.counts;
        self.told.retain(|key, _| {
            let is_gone = gone.contains(&key.cgroup_id);
            !is_gone || counts.remove(&CountKeyPod(*key)).is_err()
        });
    }
}

//! Is this cgroup watched for this kind? The first question of each probe, and the count of what it saw.

use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;

use crate::maps::{SCOPE, SCOPE_DEFAULT, TALLY};

/// The acting task's v2 cgroup id if its cgroup is watched for `kind`; then the event is counted as offered.
#[inline(always)]
pub fn enter(kind: u16) -> Option<u64> {
    let cgroup_id = cgroup_id();
    if !watched(kind, cgroup_id) {
        return None;
    }
    count_offered(kind);
    Some(cgroup_id)
}

/// Counts an event of a watched cgroup: from here on it is either emitted or counted as lost.
#[inline(always)]
pub fn count_offered(kind: u16) {
    // Count before anything can fail: a full ring must not hide that the hook fired.
    if let Some(tally) = TALLY.get_ptr_mut(kind as u32) {
        // SAFETY: the entry is this CPU's own.
        unsafe { (*tally).offered += 1 };
    }
}

/// The acting task's v2 cgroup id.
#[inline(always)]
pub fn cgroup_id() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Whether that cgroup is watched for `kind`.
#[inline(always)]
pub fn watched(kind: u16, cgroup_id: u64) -> bool {
    // SAFETY: the daemon replaces values whole.
    let own = unsafe { SCOPE.get(&cgroup_id) };
    let kinds = match own.or_else(|| SCOPE_DEFAULT.get(0)) {
        Some(kinds) => *kinds,
        None => return false,
    };
    kinds & (1 << kind) != 0
}

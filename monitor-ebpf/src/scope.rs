//! Is this cgroup watched for this kind? The first question of each probe, and the count of what it saw.

use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use taffrail_common::map::{LEFT_OUT, Scope, TALLIES, Tally};

use crate::atomic;
use crate::maps::{HIERARCHY, MOVED, MOVED_COUNT, SCOPE, SCOPE_DEFAULT, TALLY};
use crate::read::{constant, mask};
use crate::task::{PID_NS_INIT, Task, thread_key};

/// The acting task's cgroup id if its cgroup is watched for `kind`; then the event is counted as offered.
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
    if let Some(tally) = tally(kind) {
        // SAFETY: within the entry.
        unsafe { atomic::add(&raw mut (*tally).offered, 1) };
    }
}

/// This CPU's tally of a kind.
#[inline(always)]
pub fn tally(kind: u16) -> Option<*mut Tally> {
    let tallies: *mut Tally = TALLY.get_ptr_mut(0)?.cast();
    Some(tallies.wrapping_add(mask::<{ TALLIES as i32 - 1 }>(kind as u64) as usize))
}

/// The acting task's cgroup id.
#[inline(always)]
pub fn cgroup_id() -> u64 {
    if hierarchy() != 0 {
        return Task::current().cgroup_id();
    }
    // SAFETY: no arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// The id of the hierarchy whose cgroups are told apart, 0 for v2.
#[inline(always)]
pub fn hierarchy() -> u32 {
    constant(&raw const HIERARCHY[0])
}

/// Whether that cgroup is watched for `kind`, or the acting process for having been in one that is.
#[inline(always)]
pub fn watched(kind: u16, cgroup_id: u64) -> bool {
    watched_of(kind, cgroup_id, tgid())
}

/// As [`watched`], of a process that need not be the acting one; 0 if it is not known.
#[inline(always)]
pub fn watched_of(kind: u16, cgroup_id: u64, tgid: u32) -> bool {
    kinds(cgroup_id) & 1 << kind != 0 || moved(tgid) & 1 << kind != 0
}

/// As [`watched`], of all kinds.
#[inline(always)]
pub fn kinds_here(cgroup_id: u64) -> u64 {
    kinds_of(cgroup_id, tgid())
}

/// As [`watched_of`], of all kinds.
#[inline(always)]
pub fn kinds_of(cgroup_id: u64, tgid: u32) -> u64 {
    kinds(cgroup_id) | moved(tgid)
}

/// What is decided about a cgroup.
#[inline(always)]
pub fn of(cgroup_id: u64) -> Option<&'static Scope> {
    // SAFETY: the daemon replaces values whole.
    let own = unsafe { SCOPE.get(&cgroup_id) };
    own.or_else(|| SCOPE_DEFAULT.get(0))
}

/// The kinds that a cgroup is watched for.
#[inline(always)]
fn kinds(cgroup_id: u64) -> u64 {
    of(cgroup_id).map_or(0, |scope| scope.kinds)
}

/// The kinds that a process stays watched for since it left a cgroup.
#[inline(always)]
fn moved(tgid: u32) -> u64 {
    if !any_moved() {
        return 0;
    }
    // SAFETY: one word; values are replaced whole.
    unsafe { MOVED.get(&tgid) }.copied().unwrap_or(0)
}

/// Whether any process is watched for having been in a cgroup.
#[inline(always)]
fn any_moved() -> bool {
    MOVED_COUNT.get(0).is_some_and(|[count, _]| *count > 0)
}

/// Keeps a contained process watched that comes, or is born, into a cgroup that is watched for less than a container's.
/// Where it was is not to be seen any more: whether it is contained its pid namespace tells. The daemon knows better, a
/// moment later, and changes the entry.
#[inline(always)]
pub fn follow(task: Task, tgid: u32, parent_tgid: u32, to_cgroup_id: u64) {
    let to = kinds(to_cgroup_id);
    let contained = to & LEFT_OUT == 0 && task.ns_pid(tgid).1 != PID_NS_INIT;
    let own = if contained { SCOPE_DEFAULT.get(0).map_or(0, |scope| scope.kinds) } else { 0 };
    let stays = moved(parent_tgid) | own;
    if stays & !to == 0 {
        return;
    }
    let fits = MOVED.insert(&tgid, &stays, 0).is_ok();
    if let Some(count) = MOVED_COUNT.get_ptr_mut(0) {
        // SAFETY: a count that two CPUs raise at once may miss one of them, never both.
        unsafe { (*count)[usize::from(!fits)] += 1 };
    }
}

/// Forgets a process that has ended.
#[inline(always)]
pub fn forget(tgid: u32) {
    if moved(tgid) != 0 {
        let _ = MOVED.remove(&tgid);
    }
}

#[inline(always)]
fn tgid() -> u32 {
    (thread_key() >> 32) as u32
}

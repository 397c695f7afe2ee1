//! What is kept of all system calls of a watched cgroup, whether they are events or not: how often each was made, and
//! the last ones with their arguments. Off, it costs nothing: the verifier sees that and drops it.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use core::ptr::read_volatile;
use taffrail_common::call::NUMBERS;
use taffrail_common::map::{COMPAT, COUNTED, CallsKept, Count, CountKey, FlightEntry, NO_NUMBER};

use super::syscall::{Registers, arch};
use crate::maps::{CALLS_KEPT, COUNTS, FLIGHT, FLIGHT_HEADS, NOT_COUNTED};
use crate::read::constant;
use crate::task::{Task, thread_key};
use crate::{atomic, scope};

/// Keeps what is to be kept of the call that ended. `FETCH`: the kernel has `atomic_fetch_add` (5.12).
#[inline(always)]
pub fn keep<const FETCH: bool>(regs: Registers, result: i64) {
    let CallsKept { counted, flight, twice } = constant(&raw const CALLS_KEPT);
    if counted == 0 && flight == 0 {
        return;
    }
    let cgroup_id = scope::cgroup_id();
    let Some(scope) = scope::of(cgroup_id) else { return };
    let is_compat = arch::is_compat(Task::current());
    let number = arch::number(regs);
    let call = if number < NUMBERS as u32 { number } else { NO_NUMBER } | if is_compat { COMPAT } else { 0 };
    if counted != 0 && scope.kinds & COUNTED != 0 {
        // The child's return is not another call.
        let [a, b, c, d, e, f, g, h] = twice;
        let in_child = result == 0
            && (call == a
                || call == b
                || call == c
                || call == d
                || call == e
                || call == f
                || call == g
                || call == h);
        if !in_child {
            count(CountKey { cgroup_id, call, reserved: 0 }, result);
        }
    }
    if flight != 0 && scope.flight != 0 {
        record::<FETCH>(scope.flight, flight, regs, is_compat, call, result);
    }
}

#[inline(always)]
fn count(key: CountKey, result: i64) {
    /// The largest error number.
    const MAX_ERRNO: i64 = 4095;
    let error = u64::from((-MAX_ERRNO..0).contains(&result));
    match COUNTS.get_ptr_mut(&key) {
        // SAFETY: the value is this CPU's own.
        Some(count) => unsafe {
            (*count).calls += 1;
            (*count).errors += error;
        },
        // A new entry starts with this CPU's one; another CPU may have made it meanwhile.
        None if COUNTS.insert(&key, &Count { calls: 1, errors: error }, 0).is_err() => {
            if let Some(missed) = NOT_COUNTED.get_ptr_mut(0) {
                // SAFETY: the value is this CPU's own.
                unsafe { *missed += 1 };
            }
        }
        None => {}
    }
}

/// Puts the call in the place of the slot's oldest one. All CPUs write to one slot.
#[inline(always)]
fn record<const FETCH: bool>(
    slot: u32,
    entries: u32,
    regs: Registers,
    is_compat: bool,
    call: u32,
    result: i64,
) {
    let Some(head) = FLIGHT_HEADS.get_ptr_mut(slot) else { return };
    let sequence = if FETCH {
        // SAFETY: a word of a map's value.
        unsafe { atomic::fetch_add(head, 1) }
    } else {
        // Two CPUs can get the same number: then the reader finds one number missing, and says so.
        // SAFETY: a word of a map's value.
        let sequence = unsafe { read_volatile(head) };
        // SAFETY: as above.
        unsafe { atomic::add(head, 1) };
        sequence
    };
    let place = (slot - 1) * entries + (sequence as u32 & (entries - 1));
    let Some(entry) = FLIGHT.get_ptr_mut(place) else { return };
    let args = [
        arch::argument::<0>(regs, is_compat),
        arch::argument::<1>(regs, is_compat),
        arch::argument::<2>(regs, is_compat),
        arch::argument::<3>(regs, is_compat),
        arch::argument::<4>(regs, is_compat),
        arch::argument::<5>(regs, is_compat),
    ];
    // SAFETY: no arguments.
    let boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    let mut kept =
        FlightEntry { sequence, boot_ns, args, result, thread: thread_key(), call: call.into(), sum: 0 };
    kept.sum = kept.sum();
    // SAFETY: an entry of an array map. Others may write to it or read it at the same time: its sum tells.
    unsafe { entry.write_volatile(kept) };
}

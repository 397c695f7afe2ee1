//! The strong tier: `fentry` and `fexit` programs, which the kernel runs where its own functions begin and end.
//! A kernel may refuse them (`EPERM`, `ENOTSUPP`): the daemon then attaches the portable tier instead, kind by
//! kind. Both tiers make the same records.

mod call;
pub mod cred;
pub mod object;
pub mod open;

use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;
use core::ptr::{read_volatile, write_volatile};

use crate::emit::count_lost;
use crate::maps::{CLAIMS, SCRATCH, SCRATCH_STRONG, STRONG_KEPT, STRONG_KINDS, STRONG_LEVELS};
use crate::read::mask;
use crate::scope;

/// `security_file_open(struct file *file)`: does nothing. `taffrail doctor` loads it to find out whether this kernel
/// lets the strong tier run, and takes it off again.
#[fentry(function = "security_file_open")]
pub fn strong_trial(_ctx: FEntryContext) -> i32 {
    0
}

/// Whether programs of this tier keep something of calls of that kind for their end.
#[inline(always)]
pub fn kept(kind: u16) -> bool {
    STRONG_KINDS.get(STRONG_KEPT).is_some_and(|kinds| kinds >> (kind & 63) & 1 != 0)
}

/// An entry of the scratch map of the program's own, until [`release`]; without a free one an event is counted as lost.
///
/// Programs of this tier can be preempted on most kernels, and another one then run on the same CPU.
#[inline(always)]
fn claim(kind: u16, cgroup_id: u64) -> Option<u32> {
    let place = free_place();
    if place.is_none() {
        scope::count_offered(kind);
        count_lost(kind, cgroup_id);
    }
    place
}

/// Gives an entry back.
#[inline(always)]
fn release(place: u32) {
    if let Some(claim) = claim_on(place.wrapping_sub(SCRATCH_STRONG)) {
        add(claim, -1);
    }
}

/// A place in the scratch map that no other program of this CPU has.
#[inline(always)]
fn free_place() -> Option<u32> {
    for level in 0..STRONG_LEVELS {
        let claim = claim_on(level)?;
        // Who finds a one has the level: whoever comes between finds more, and takes the next.
        add(claim, 1);
        // SAFETY: the word lives in a map.
        if unsafe { read_volatile(claim) } == 1 {
            let scratch = SCRATCH.get_ptr_mut(SCRATCH_STRONG + level)?;
            // SAFETY: the entry is this program's own now.
            let place = unsafe { &raw mut (*scratch).own_place };
            // VERIFIER: what comes out of a map is not known, so it looks at what follows once, not once a level.
            // SAFETY: as above.
            unsafe { write_volatile(place, (SCRATCH_STRONG + level) as u64) };
            // SAFETY: as above.
            return Some(unsafe { read_volatile(place) } as u32);
        }
        add(claim, -1);
    }
    None
}

/// The word that counts who wants that level of this CPU.
#[inline(always)]
fn claim_on(level: u32) -> Option<*mut u64> {
    if level >= STRONG_LEVELS {
        return None;
    }
    let claims = CLAIMS.get_ptr_mut(0)?.cast::<u64>();
    // SAFETY: one word for each level.
    Some(unsafe { claims.add(mask::<3>(level as u64) as usize) })
}

const _: () = assert!(STRONG_LEVELS == 4);

/// Adds in one step that nothing can come between.
#[inline(always)]
fn add(word: *mut u64, value: i64) {
    // VERIFIER: kernels before 5.12 know only this form, which does not fetch.
    #[cfg(target_arch = "bpf")]
    // SAFETY: the verifier checks that the word may be written.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value)
    };
    #[cfg(not(target_arch = "bpf"))]
    let _ = (word, value);
}

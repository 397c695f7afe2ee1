//! Counters that several CPUs add to. The compiler offers no atomic operations on the BPF target.

/// Adds to a counter.
///
/// # Safety
/// `counter` is an aligned word of a map's value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, by: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("lock *(u64 *)({counter} + 0) += {by}", counter = in(reg) counter, by = in(reg) by)
    };
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        *counter += by
    };
}

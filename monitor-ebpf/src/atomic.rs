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

/// Adds to a counter and returns what it was before: instructions that kernels before 5.12 refuse.
///
/// # Safety
/// `counter` is an aligned word of a map's value.
#[inline(always)]
pub unsafe fn fetch_add(counter: *mut u64, by: u64) -> u64 {
    #[allow(unused_mut, reason = "only the BPF target writes it")]
    let mut by = by;
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!(
            "{by} = atomic_fetch_add((u64 *)({counter} + 0), {by})",
            counter = in(reg) counter,
            by = inout(reg) by,
        )
    };
    by
}

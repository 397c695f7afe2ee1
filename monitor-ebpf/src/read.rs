//! Reads of kernel and user memory, and the bounds that the verifier wants to see.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use core::mem::MaybeUninit;
use core::ptr::read_volatile;
use taffrail_common::event::Header;

use crate::maps::FEATURES;

/// The offset of a kernel field by its name in `taffrail_common::kernel`.
macro_rules! offset {
    ($field:ident) => {
        $crate::read::constant(&raw const $crate::maps::OFFSETS.$field) as usize
    };
}
pub(crate) use offset;

/// The value of a read-only global, which the daemon has set before load.
#[inline(always)]
pub fn constant<T: Copy>(global: *const T) -> T {
    // SAFETY: the callers name globals. Volatile: the compiler must not take the value it sees here.
    unsafe { read_volatile(global) }
}

/// Whether the running kernel has that field.
#[inline(always)]
pub fn present(offset: usize) -> bool {
    offset != taffrail_common::kernel::Offsets::ABSENT as usize
}

/// Whether the running kernel has that feature of `taffrail_common::map::feature`.
#[inline(always)]
pub fn feature(bit: u32) -> bool {
    constant(&raw const FEATURES) & bit != 0
}

/// Logs for `--debug-probes`. Without it the verifier sees that this is never reached, and drops it.
macro_rules! diagnose {
    ($ctx:expr, $($argument:tt)*) => {
        if $crate::read::feature(taffrail_common::map::feature::DEBUG) {
            aya_log_ebpf::debug!($ctx, $($argument)*);
        }
    };
}
pub(crate) use diagnose;

/// Reads kernel memory at any address; all bits zero if that faults.
#[inline(always)]
pub fn kernel<T: Copy>(base: *const u8, offset: usize) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes whatever the source is, zeros on a fault.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(offset).cast(),
        )
    };
    // SAFETY: the helper has written it; `T` is an integer, a pointer or an array of them.
    unsafe { value.assume_init() }
}

/// As [`kernel`], for a field that not every kernel has.
#[inline(always)]
pub fn kernel_or<T: Copy>(base: *const u8, offset: usize, absent: T) -> T {
    if present(offset) { kernel(base, offset) } else { absent }
}

/// Reads a field by a plain load. `base` must be a pointer that the verifier trusts (an argument of a
/// `tp_btf` program, the current task); it refuses the program otherwise.
#[inline(always)]
pub fn trusted<T: Copy>(base: *const u8, offset: usize) -> T {
    // SAFETY: the verifier checks type and offset, and a fault reads as zero.
    unsafe { read_volatile(base.wrapping_add(offset).cast::<T>()) }
}

/// Copies user memory; returns whether that worked.
#[inline(always)]
pub fn user(to: *mut u8, len: u32, from: u64) -> bool {
    // SAFETY: the verifier checks that `to` has room for `len`; any `from` is allowed.
    unsafe { bpf_probe_read_user(to.cast(), len, from as *const _) == 0 }
}

/// Copies a header word by word.
///
/// # Safety
/// `to` has room for a header.
#[inline(always)]
pub unsafe fn copy_header(to: *mut Header, from: &Header) {
    const WORDS: usize = size_of::<Header>() / 8;
    const { assert!(size_of::<Header>() % 8 == 0) };
    let (to, from) = (to.cast::<u64>(), core::ptr::from_ref(from).cast::<u64>());
    for word in 0..WORDS {
        // VERIFIER: volatile, so that it does not become a call of `memcpy`: its stack counts with the caller's.
        // SAFETY: within both headers.
        unsafe { to.add(word).write(read_volatile(from.add(word))) };
    }
}

/// The plain address of a pointer that the verifier has a type for, such as the socket of a packet: it allows no
/// arithmetic on those.
#[inline(always)]
pub fn address<T>(pointer: *mut T) -> *const u8 {
    unknown(pointer as u64) as *const u8
}

/// The same value, of which the verifier knows nothing any more: so that it looks at what follows once, not once for
/// each value.
#[inline(always)]
pub fn unknown(value: u64) -> u64 {
    #[allow(unused_mut, reason = "only the BPF target writes it")]
    let mut value = value;
    // VERIFIER: after a swap of bytes it takes a register for any number. Twice is as before.
    #[cfg(target_arch = "bpf")]
    // SAFETY: changes one register.
    unsafe {
        core::arch::asm!("{value} = be64 {value}", "{value} = be64 {value}", value = inout(reg) value)
    };
    value
}

/// `value & MASK`, done where it stands.
#[inline(always)]
pub fn mask<const MASK: i32>(value: u64) -> u64 {
    #[allow(unused_mut, reason = "only the BPF target writes it")]
    let mut value = value;
    // VERIFIER: LLVM drops or moves a plain `&` that it can prove redundant, and the verifier then does
    // not know the bound.
    #[cfg(target_arch = "bpf")]
    // SAFETY: changes one register.
    unsafe {
        core::arch::asm!("{value} &= {mask}", value = inout(reg) value, mask = const MASK)
    };
    value
}

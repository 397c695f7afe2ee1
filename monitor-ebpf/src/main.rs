//! Taffrail's kernel probes: one BPF object. Modules stand in the order that an event takes them.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
mod emit;
mod maps;
mod path;
mod probe;
mod read;
mod scope;
mod socket;
mod task;

/// The kernel allows GPL-only helpers to this object.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

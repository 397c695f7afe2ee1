//! The `taffrail` binary: parses the command line and hands over to `cli`.

use std::process::ExitCode;

/// musl's allocator is slow under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, of which a small daemon uses a little each.
    // SAFETY: it changes nothing but how this process's memory is backed; if it cannot, nothing is lost.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    taffrail::cli::main(give_back_memory)
}

/// Loading the probes takes some 30 MiB for a moment. The allocator would keep them for later use.
fn give_back_memory() {
    // SAFETY: it may be called at any time.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

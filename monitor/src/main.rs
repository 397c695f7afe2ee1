//! The `taffrail` binary: parses the command line and hands over to `cli`.

use std::process::ExitCode;

/// musl's allocator is slow under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    taffrail::cli::main()
}

//! Not a probe: `taffrail doctor` loads it to find out whether this kernel lets the strong tier (`fentry`)
//! run, and takes it off again.

use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;

/// `security_file_open(struct file *file)`: does nothing.
#[fentry(function = "security_file_open")]
pub fn strong_trial(_ctx: FEntryContext) -> i32 {
    0
}

//! `signal`: a signal that can end a process was sent to another.

use super::Header;

/// A signal was sent (`signal_generate`) to a process of another cgroup, or one that ends it. No payload.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// The sender.
    pub header: Header,
    /// `CLOCK_BOOTTIME` when the receiving process started, in ns.
    pub target_start_ns: u64,
    /// Cgroup id of the receiver.
    pub target_cgroup_id: u64,
    /// Process id of the receiver in the host's pid namespace.
    pub target_tgid: u32,
    /// Process id of the receiver in its own pid namespace.
    pub target_ns_tgid: u32,
    /// Number of the signal.
    pub signal: u32,
    /// What became of it (`TRACE_SIGNAL_*`): 0 delivered, 1 ignored, 2 pending already, 3 and 4 lost.
    pub result: u32,
}

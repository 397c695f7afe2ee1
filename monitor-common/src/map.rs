//! Keys and values of the maps that both sides use. `monitor-ebpf/src/maps.rs` has the maps.

use crate::event::Header;

/// Key of the map of lost events.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LossKey {
    /// v2 cgroup id of the acting task.
    pub cgroup_id: u64,
    /// The event kind.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// Per kind and CPU: what became of the events that were in scope.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Events that a hook saw in a watched cgroup. `offered = received by the daemon + lost`.
    pub offered: u64,
    /// Events that found no room in their ring, or were above their cgroup's share of it. What the map of lost
    /// events has less had no room there: known by kind, not by cgroup.
    pub lost: u64,
}

/// Bits of the read-only global `FEATURES`: what the running kernel can do.
pub mod feature {
    /// `bpf_get_current_task_btf` (5.11): fields of the current task by direct load.
    pub const TASK_BTF: u32 = 1;
    /// `bpf_loop` (5.17): long walks in few verified instructions.
    pub const LOOP: u32 = 1 << 1;
    /// Log kernel-side diagnosis (`--debug-probes`).
    pub const DEBUG: u32 = 1 << 2;
}

/// What the daemon has decided about a cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The event kinds that it is watched for: bit n is kind n.
    pub kinds: u64,
    /// Its place in the map of shares, which all cgroups of a container have in common.
    pub share: u32,
    /// Zero.
    pub reserved: u32,
}

/// What one holder of a share has put into one ring since its reading end last came to a new quarter.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Number of that quarter since the ring was made.
    pub quarter: u64,
    /// Bytes.
    pub used_bytes: u64,
}

/// Shares of the rings that there are. The first one is for all cgroups that the daemon does not know yet.
pub const SHARES: usize = 4096;

/// What is behind an open file that was written.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Address of its inode.
    pub inode: u64,
    /// Number of that inode.
    pub ino: u64,
}

/// Who opened or accepted a TCP connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// As of an event at that time.
    pub header: Header,
    /// `CLOCK_BOOTTIME` when it was established, in ns; 0 before.
    pub established_ns: u64,
    /// As [`Flow::direction`](crate::event::Flow::direction).
    pub direction: u32,
    /// Zero.
    pub reserved: u32,
}

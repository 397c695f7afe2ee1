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
    /// Events that found their ring full.
    pub lost: u64,
    /// Part of `lost` for which the map of lost events had no room: known by kind, not by cgroup.
    pub lost_unattributed: u64,
}

/// Bits of the read-only global `FEATURES`: what the running kernel can do.
pub mod feature {
    /// `bpf_get_current_task_btf` (5.11): fields of the current task by direct load.
    pub const TASK_BTF: u32 = 1;
    /// `bpf_loop` (5.17): long walks in few verified instructions.
    pub const LOOP: u32 = 1 << 1;
    /// Log kernel-side diagnosis (`--debug-probes`).
    pub const DEBUG: u32 = 1 << 2;
    /// `bpf_task_pt_regs` (5.15): the registers of the system call that a task is in.
    pub const TASK_REGS: u32 = 1 << 3;
}

/// Which event kinds a cgroup is watched for: bit n is kind n.
pub type Scope = u64;

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

/// Key of the map of UDP flows that were told.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpFlow {
    /// v2 cgroup id of the record's header.
    pub cgroup_id: u64,
    /// Peer's address, as in the record.
    pub remote_addr: [u32; 4],
    /// Peer's port.
    pub remote_port: u16,
    /// Own port.
    pub local_port: u16,
    /// As in the record.
    pub family: u16,
    /// As in the record.
    pub direction: u16,
}

/// Key of the map of where the messages of a TCP connection are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DnsStream {
    /// Address of its `struct sock`.
    pub socket: u64,
    /// As in the record.
    pub direction: u64,
}

/// Where the next DNS message of a TCP connection is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DnsNext {
    /// Its sequence number.
    pub sequence: u32,
    /// Its length if that came already, else 0.
    pub len: u32,
}

//! Keys and values of the maps that both sides use. `monitor-ebpf/src/maps.rs` has the maps.

use crate::event::Header;

/// Key of the map of lost events.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LossKey {
    /// Cgroup id of the acting task.
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

/// What the kernel has for each CPU: a [`Tally`] for each kind of event, in one entry, so that the daemon reads all at once.
pub type Tallies = [Tally; TALLIES];

/// Room for so many kinds: a power of two.
pub const TALLIES: usize = 32;

const _: () = assert!(crate::kind::KINDS <= TALLIES);

/// What a daemon has made of the events by kind, for the next one; the kernel side only keeps it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Handled {
    /// The audit log's folder: device and inode.
    pub log: [u64; 2],
    /// That log's last record then. Records of events behind it were made of events that are not counted here.
    pub seq: u64,
    /// When that was so, by the boot clock in ns.
    pub boot_ns: u64,
    /// Events that were dealt with, and losses that are in the log.
    pub kinds: [Dealt; TALLIES],
}

/// Of one kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dealt {
    /// Events that were taken out of the rings and dealt with, less those that were taken over from the daemon before and
    /// are not dealt with yet: wraps below 0.
    pub events: u64,
    /// Events of which the log says that they were lost.
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
    /// `bpf_task_pt_regs` (5.15): the registers of the system call that a task is in.
    pub const TASK_REGS: u32 = 1 << 3;
    /// `__seccomp_filter` has a parameter `sd`, before its last.
    pub const SECCOMP_DATA: u32 = 1 << 4;
}

/// What the daemon has decided about a cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The event kinds that it is watched for: bit n is kind n. Bit 0 is [`COUNTED`], the last one [`LEFT_OUT`], the one
    /// before [`ASKED_NAME`](crate::kind::ASKED_NAME).
    pub kinds: u64,
    /// Its place in the map of shares, which all cgroups of a container have in common.
    pub share: u32,
    /// Its slot of the flight recorder, counted from 1; 0 is none. All cgroups of a container have it in common.
    pub flight: u32,
}

/// Bit of [`Scope::kinds`]: system calls are counted.
pub const COUNTED: u64 = 1;

/// Bit of [`Scope::kinds`]: it is a container's that is not to be watched. Whoever comes or is born into it is not either.
pub const LEFT_OUT: u64 = 1 << 63;

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

/// What is to be kept of all system calls, beside those that are events: a read-only global.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CallsKept {
    /// Whether they are counted.
    pub counted: u32,
    /// How many of the last ones of a container are kept: a power of two; 0 is none.
    pub flight: u32,
    /// Calls that return twice, in the child with 0, as [`CountKey::call`]; unused ones are [`NO_NUMBER`].
    pub twice: [u32; 8],
}

/// Key of the map of counted system calls.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CountKey {
    /// Cgroup id of the caller.
    pub cgroup_id: u64,
    /// Number of the call, [`NO_NUMBER`] for those that no table has, with [`COMPAT`] for the 32-bit entry.
    pub call: u32,
    /// Zero.
    pub reserved: u32,
}

/// Stands for all numbers that no table of system calls has.
pub const NO_NUMBER: u32 = 0xffff;

/// Bit of a system call's number: it came by the 32-bit entry.
pub const COMPAT: u32 = 1 << 16;

/// How often a system call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How often.
    pub calls: u64,
    /// Part of `calls` that returned an error.
    pub errors: u64,
}

/// Most containers whose last system calls are kept.
pub const FLIGHT_SLOTS: usize = 64;

/// One of a container's last system calls. Entries are written while others read them, so each has a sum over itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlightEntry {
    /// Its number in the slot, from 0.
    pub sequence: u64,
    /// `CLOCK_BOOTTIME` when the call ended, in ns.
    pub boot_ns: u64,
    /// The arguments as they were passed; of a 32-bit call 32 bits each.
    pub args: [u64; 6],
    /// What the call returned: 0 or more, or a negative errno.
    pub result: i64,
    /// Thread id in the low half, process id in the high half, in the host's pid namespace.
    pub thread: u64,
    /// As [`CountKey::call`].
    pub call: u64,
    /// [`FlightEntry::sum`] of the whole entry. An entry for which it is wrong was being written.
    pub sum: u64,
}

impl FlightEntry {
    /// A sum over all words but the last one, in which each place counts differently.
    #[inline(always)]
    pub const fn sum(&self) -> u64 {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let [a, b, c, d, e, f] = self.args;
        let mut sum = FACTOR;
        sum = (sum ^ self.sequence).wrapping_mul(FACTOR);
        sum = (sum ^ self.boot_ns).wrapping_mul(FACTOR);
        sum = (sum ^ a).wrapping_mul(FACTOR);
        sum = (sum ^ b).wrapping_mul(FACTOR);
        sum = (sum ^ c).wrapping_mul(FACTOR);
        sum = (sum ^ d).wrapping_mul(FACTOR);
        sum = (sum ^ e).wrapping_mul(FACTOR);
        sum = (sum ^ f).wrapping_mul(FACTOR);
        sum = (sum ^ self.result as u64).wrapping_mul(FACTOR);
        sum = (sum ^ self.thread).wrapping_mul(FACTOR);
        (sum ^ self.call).wrapping_mul(FACTOR)
    }
}

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
    /// Cgroup id of the record's header.
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

//! `fork`: a process was created.

use super::Header;

/// A process was created (`sched_process_fork`). New threads of a process are no event. No payload.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    /// The task that called fork, vfork or clone.
    pub header: Header,
    /// `CLOCK_BOOTTIME` when the child started, in ns.
    pub child_start_ns: u64,
    /// Cgroup id of the child: not the caller's with `CLONE_INTO_CGROUP`.
    pub child_cgroup_id: u64,
    /// `CLONE_*` flags, derived from what parent and child share: VM, FS, FILES, VFORK,
    /// PARENT and the namespaces.
    pub clone_flags: u64,
    /// Process id of the child in the host's pid namespace.
    pub child_tgid: u32,
    /// Process id of the child in its own pid namespace.
    pub child_ns_tgid: u32,
    /// Process id of the child's parent in the host's pid namespace: not the caller with `CLONE_PARENT`.
    pub child_parent_tgid: u32,
    /// Inode number of the child's pid namespace.
    pub child_pid_ns: u32,
    /// `CLOCK_BOOTTIME` when the child's parent started, in ns.
    pub child_parent_start_ns: u64,
}

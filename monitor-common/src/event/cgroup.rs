//! `cgroup` and `cgroup_move`: a cgroup was made or removed; a task was put into another one.

use super::{Header, Text};

/// The most bytes of a cgroup's path: the kernel's own for its tracepoints (`TRACE_CGROUP_PATH_LEN`), without the NUL. A
/// longer one loses its end, and is said to have had one byte more: how long it was is not known.
pub const CGROUP_PATH_MAX: u32 = 1023;

/// A cgroup was made or removed (`cgroup_mkdir`, `cgroup_rmdir`). Payload: `path`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Cgroup {
    /// Who did it.
    pub header: Header,
    /// Its path below the v2 root.
    pub path: Text,
    /// Its id.
    pub cgroup_id: u64,
    /// How many cgroups it is below the root (`cgroup->level`).
    pub level: u32,
    /// 1 if it was removed, 0 if it was made.
    pub removed: u32,
}

/// A task or a whole process was put into another cgroup (`cgroup_attach_task`). Payload: `path`.
/// `header.cgroup_id` is the one that the caller is in then, which may be the new one.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupMove {
    /// Who did it.
    pub header: Header,
    /// Path of the new cgroup below the v2 root.
    pub path: Text,
    /// `CLOCK_BOOTTIME` when the process that was moved started, in ns.
    pub target_start_ns: u64,
    /// Id of the new cgroup.
    pub cgroup_id: u64,
    /// Process id of the process that was moved, in the host's pid namespace.
    pub target_tgid: u32,
    /// Process id of the process that was moved, in its own pid namespace.
    pub target_ns_tgid: u32,
    /// 1 if the whole process was moved, 0 if one thread.
    pub whole: u32,
    /// Zero.
    pub reserved: u32,
}

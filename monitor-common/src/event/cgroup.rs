//! `cgroup_move`: a task was put into another cgroup.

use super::{Header, Text};

/// A task or a whole process was put into another v2 cgroup (`cgroup_attach_task`). Payload: `path`.
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

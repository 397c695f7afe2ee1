//! `exit`: the last thread of a process ended.

use super::Header;

/// The last thread of a process ended (`sched_process_exit`). No payload.
/// The duration is `header.boot_ns - header.start_ns`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// The process; `header.tid` is its last thread.
    pub header: Header,
    /// Wait status: `status << 8 | core << 7 | signal`.
    pub wait_status: u32,
    /// Zero.
    pub reserved: u32,
}

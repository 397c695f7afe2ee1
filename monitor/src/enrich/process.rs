//! The process table: who is running, what it runs, and who started it.

use std::sync::Arc;

use super::container::Container;
use taffrail_common::event::Credentials;

/// Identifies a process for the life of the machine's boot, also across reuse of its id: the pair that
/// `/proc/PID/stat` gives too (fields 1 and 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Process id in the host's pid namespace.
    pub tgid: u32,
    /// Start since boot in clock ticks (1/100 s).
    pub start_ticks: u64,
}

/// What a process runs: shared by all that forked from one exec.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// Path of the executable as the process itself would name it.
    pub exe: Box<[u8]>,
    /// The name that exec was asked for; empty if not known (seeded from `/proc`).
    pub filename: Box<[u8]>,
    /// The arguments, each ended by NUL, as far as they were kept.
    pub args: Box<[u8]>,
    /// The arguments joined by single spaces, as `ps` shows them.
    pub cmdline: Box<[u8]>,
    /// Bytes of all arguments as there were.
    pub args_full_len: u32,
    /// Number of arguments as there were.
    pub arg_count: u32,
    /// Inode of the executable.
    pub exe_ino: u64,
    /// Device of the executable (major << 20 | minor).
    pub exe_dev: u32,
    /// Bits of `taffrail_common::event::path_flag` for `exe`.
    pub exe_flags: u32,
}

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which one.
    pub key: ProcessKey,
    /// Who started it: the parent when it was first seen.
    pub parent: ProcessKey,
    /// Its id in its own pid namespace.
    pub ns_tgid: u32,
    /// Command name, padded with NUL.
    pub comm: [u8; 16],
    /// What it runs.
    pub image: Arc<Image>,
    /// Working directory at exec.
    pub cwd: Arc<[u8]>,
    /// Identity and rights at exec.
    pub credentials: Credentials,
    /// Login user id, `u32::MAX` if unset.
    pub login_uid: u32,
    /// Session id in the host's pid namespace.
    pub session: u32,
    /// Process group id in the host's pid namespace.
    pub process_group: u32,
    /// Controlling terminal as in `/proc/PID/stat`, 0 if none.
    pub tty: u32,
    /// v2 cgroup id when it was first seen.
    pub cgroup_id: u64,
    /// Its container, decided once: it keeps it wherever it moves. `None` is the host.
    pub container: Option<Arc<Container>>,
}

/// All processes that are alive, and those that ended while somebody still needs their name.
#[derive(Default)]
pub struct ProcessTable {}

impl ProcessTable {
    /// The parent of a process, if it is still known.
    pub fn parent(&self, _of: &Process) -> Option<&Process> {
        None
    }
}

//! `exec`: a process replaced its image.

use super::{Header, Path, Text};

/// Identity and rights of a task (`struct cred`), as the host's user namespace sees them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Saved user id.
    pub suid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// File system user id.
    pub fsuid: u32,
    /// File system group id.
    pub fsgid: u32,
    /// Inheritable capabilities, bit n is capability n; as are the next four.
    pub cap_inheritable: u64,
    /// Permitted capabilities.
    pub cap_permitted: u64,
    /// Effective capabilities.
    pub cap_effective: u64,
    /// Bounding set.
    pub cap_bounding: u64,
    /// Ambient capabilities.
    pub cap_ambient: u64,
}

/// A process replaced its image (`sched_process_exec`).
/// Payload: `exe`, `cwd`, `filename`, `args`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exec {
    /// The process, with its new image's name; `header.tid` equals `header.tgid`.
    pub header: Header,
    /// Identity and rights after the exec.
    pub credentials: Credentials,
    /// The file that now runs (`mm->exe_file`): for a script, its interpreter.
    pub exe: Path,
    /// The working directory.
    pub cwd: Path,
    /// The name that was asked for (`bprm->filename`): for a script, the script.
    pub filename: Text,
    /// The arguments, each ended by NUL, from the new image's own copy.
    pub args: Text,
    /// When the inode of `exe` was changed last (`ctime`, by `CLOCK_REALTIME`), in ns; 0 if not known.
    pub exe_ctime_ns: u64,
    /// Bytes of `exe`.
    pub exe_bytes: u64,
    /// `CLOCK_BOOTTIME` when the parent process started, in ns.
    pub parent_start_ns: u64,
    /// Process id of the parent in the host's pid namespace.
    pub parent_tgid: u32,
    /// Thread id that called exec, in the host's pid namespace: not `tgid` when another thread took over.
    pub old_tid: u32,
    /// Login user id of the audit subsystem, `u32::MAX` if unset.
    pub login_uid: u32,
    /// Session id in the host's pid namespace.
    pub session: u32,
    /// Process group id in the host's pid namespace.
    pub process_group: u32,
    /// Controlling terminal as in `/proc/PID/stat` (new_encode_dev), 0 if none.
    pub tty: u32,
    /// Number of arguments (`bprm->argc`).
    pub arg_count: u32,
    /// Number of environment variables (`bprm->envc`).
    pub env_count: u32,
}

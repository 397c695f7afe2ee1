//! The records, one file per kind, and the parts that they share.
//!
//! A record is a fixed `repr(C)` struct, then its *payload*: the bytes of each [`Text`] and [`Path`]
//! of the struct, in the order of their fields, without padding or terminators.

mod call;
mod cgroup;
mod connect;
mod cred;
mod dns;
mod exec;
mod exit;
mod flow;
mod fork;
mod open;
mod signal;
mod udp;

pub use call::Call;
pub use cgroup::{CGROUP_PATH_MAX, Cgroup, CgroupMove};
pub use connect::{Connect, source};
pub use cred::Cred;
pub use dns::{DNS_MAX, Dns};
pub use exec::{Credentials, Exec};
pub use exit::Exit;
pub use flow::Flow;
pub use fork::Fork;
pub use open::Open;
pub use signal::Signal;
pub use udp::{Udp, direction};

/// The most bytes of one path or of a command line that a record carries.
pub const TEXT_MAX: usize = 4095;

/// The most bytes of payload in one record: the parts above this are left out, and say so by their lengths.
pub const PAYLOAD_MAX: usize = 4 * TEXT_MAX;

/// Where and by whom: the start of each record.
///
/// "Acting task" is the task that ran when the hook fired.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Bytes of the whole record: struct and payload.
    pub len: u32,
    /// The event kind: an id of [`crate::kind`].
    pub kind: u16,
    /// Bits of [`header_flag`].
    pub flags: u16,
    /// `CLOCK_BOOTTIME` when the hook fired, in ns.
    pub boot_ns: u64,
    /// Cgroup id of the acting task (`bpf_get_current_cgroup_id`); 1 is the root.
    pub cgroup_id: u64,
    /// `CLOCK_BOOTTIME` when the acting process started (`group_leader->start_boottime`), in ns.
    pub start_ns: u64,
    /// Process id in the host's pid namespace.
    pub tgid: u32,
    /// Thread id in the host's pid namespace.
    pub tid: u32,
    /// Process id in the task's own pid namespace.
    pub ns_tgid: u32,
    /// Thread id in the task's own pid namespace.
    pub ns_tid: u32,
    /// Effective user id, as the host sees it.
    pub euid: u32,
    /// Effective group id, as the host sees it.
    pub egid: u32,
    /// Inode number of the task's pid namespace.
    pub pid_ns: u32,
    /// Inode number of the task's mount namespace.
    pub mnt_ns: u32,
    /// Command name of the acting thread (`task->comm`), padded with NUL.
    pub comm: [u8; 16],
}

/// Bits of [`Header::flags`].
pub mod header_flag {
    /// The event came by a 32-bit system call.
    pub const COMPAT: u16 = 1;
    /// The event came by an io_uring, not by the system call that it is named for.
    pub const IO_URING: u16 = 1 << 1;
    /// The event was asked for and is still to be done: its result is not known.
    pub const SUBMITTED: u16 = 1 << 2;
}

/// Bytes in the payload that are not a resolved path.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Bytes in the payload.
    pub len: u32,
    /// Bytes that there were: more than `len` says that the text was cut.
    pub full_len: u32,
}

/// A path and the object that it names.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Bytes in the payload.
    pub len: u32,
    /// Bytes that there were, as far as known: more than `len` says that the start was cut off.
    pub full_len: u32,
    /// Bits of [`path_flag`].
    pub flags: u32,
    /// Device of the object's file system (`super_block.s_dev`: major << 20 | minor).
    pub dev: u32,
    /// Inode number of the object, 0 if there is no object.
    pub ino: u64,
}

/// Bits of [`Path::flags`].
pub mod path_flag {
    /// The walk reached the root directory of the acting task.
    pub const ROOT_REACHED: u32 = 1;
    /// The object lies outside the task's root: the path starts at the root of the mount tree.
    pub const OUTSIDE_ROOT: u32 = 1 << 1;
    /// The mount or dentry is attached to no tree (memfd, pipe, detached mount).
    pub const DETACHED: u32 = 1 << 2;
    /// The walk ended at its bound of components or bytes: the start of the path is missing.
    pub const INCOMPLETE: u32 = 1 << 3;
    /// The name was unlinked when the event was made.
    pub const DELETED: u32 = 1 << 4;
    /// The text is what the caller passed, not what the kernel resolved: another thread can have changed it.
    pub const UNVERIFIED: u32 = 1 << 5;
    /// The file descriptor was closed, or the text could not be read, before the probe looked.
    pub const UNREADABLE: u32 = 1 << 6;
    /// The task's root directory is not that of its container (chroot): the path is from the container's root.
    pub const CHROOT: u32 = 1 << 15;
    /// The object lies in an overlay's upper layer: it was made or changed since the container started.
    pub const UPPER_LAYER: u32 = 1 << 7;
    /// The object lies in a lower layer of an overlay: it is the image's.
    pub const IMAGE_LAYER: u32 = 1 << 8;
    /// The object is in memory only (tmpfs, which memfds are in too).
    pub const TMPFS: u32 = 1 << 9;
    /// The object lies on another mount than the task's root directory, and that mount shows a disk or a part of a
    /// file system: in a container, a volume or a file of the host's.
    pub const HOST_MOUNT: u32 = 1 << 10;
}

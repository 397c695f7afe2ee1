//! `open`: a file was opened, or an open failed.

use super::{Header, Path};

/// A file was opened or created by one of the open system calls, or that failed.
/// Payload: `asked`, `file`, `base`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// The caller.
    pub header: Header,
    /// The name of the opened file as the caller gave it, marked [`UNVERIFIED`](super::path_flag::UNVERIFIED) if it is
    /// of the caller's memory. Empty if nobody wants it ([`ASKED_NAME`](crate::kind::ASKED_NAME)) or the call failed.
    pub asked: Path,
    /// The opened file. If the call failed: what the caller asked for, marked
    /// [`UNVERIFIED`](super::path_flag::UNVERIFIED).
    pub file: Path,
    /// If the call failed with a relative name: the directory that it was relative to. Else empty.
    pub base: Path,
    /// File descriptor, or a negative errno.
    pub result: i32,
    /// Open flags: of the opened file (`file->f_flags`); of a failed call what it asked for.
    /// `u32::MAX` if not known.
    pub flags: u32,
    /// Type and permissions of the inode (`inode->i_mode`), 0 if there is no object.
    pub mode: u32,
    /// Number of hard links of the inode, 0 if there is no object.
    pub links: u32,
    /// User id of the file's owner as the host sees it, `u32::MAX` if there is no object.
    pub owner: u32,
    /// Id of the call in [`CALLS`](crate::call::CALLS).
    pub call: u32,
}

//! The shape that many kinds share: a system call, its arguments, and the objects that they name.

use super::{Header, Path, Text};

/// A system call that is an event by itself ended. `monitor-common/src/call.rs` says which ones are, and what
/// their arguments mean. Payload: `file`, `base`, `target`, `target_base`, `text`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The caller.
    pub header: Header,
    /// The open file that was passed; else the first name as the caller gave it, marked
    /// [`UNVERIFIED`](super::path_flag::UNVERIFIED).
    pub file: Path,
    /// Of a relative name: the directory that it starts at. Else empty.
    pub base: Path,
    /// The second name, as `file`.
    pub target: Path,
    /// As `base`, for the second name.
    pub target_base: Path,
    /// A text that names no file: the type of a file system, the name of a module …
    pub text: Text,
    /// The arguments as they were passed; of a 32-bit call 32 bits each.
    pub args: [u64; 6],
    /// What the call returned: 0 or more, or a negative errno.
    pub result: i64,
    /// Type and permissions of the file that was passed (`inode->i_mode`), 0 if none was.
    pub mode: u32,
    /// Id of the call in [`CALLS`](crate::call::CALLS), or [`CHOSEN`](crate::call::CHOSEN) and its number.
    pub call: u32,
}

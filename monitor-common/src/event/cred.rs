//! `cred`: a task changed its identity or its rights.

use super::{Credentials, Header};

/// A call that sets ids or capabilities ended. No payload.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Cred {
    /// The caller: only this thread has the new credentials, unless its library set them for all.
    pub header: Header,
    /// Before; all zero unless `old_known`.
    pub old: Credentials,
    /// After the call.
    pub new: Credentials,
    /// 1 if `old` is what the task had in the moment before: only hooks of the strong tier can see that.
    pub old_known: u32,
    /// Inode number of the user namespace.
    pub user_ns: u32,
    /// Bits of `SECBIT_*` (`cred->securebits`).
    pub secure_bits: u32,
    /// What the call returned: 0 or more, or a negative errno.
    pub result: i32,
    /// Id of the call in [`CALLS`](crate::call::CALLS), [`NO_CALL`](crate::call::NO_CALL) if it is none.
    pub call: u32,
    /// Zero.
    pub reserved: u32,
}

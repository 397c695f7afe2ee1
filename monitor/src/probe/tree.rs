//! The v2 tree that programs for packets and sockets are attached to. The kernel has one even where nobody has mounted it and
//! all processes are in trees of v1: then it is mounted for us alone, and is gone with the descriptor.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;

use crate::enrich::cgroup::Layout;

/// The root of the tree.
pub(super) struct Tree {
    pub path: PathBuf,
    /// What keeps it mounted.
    _mount: Option<OwnedFd>,
}

/// The machine's tree, or one of our own; why there is none else.
pub(super) fn open(layout: &Layout) -> Result<Tree, String> {
    if let Some(root) = layout.v2() {
        return Ok(Tree { path: root.to_owned(), _mount: None });
    }
    let mount =
        mount().map_err(|error| format!("there is no v2 cgroup tree, and none can be mounted: {error}"))?;
    Ok(Tree { path: format!("/proc/self/fd/{}", mount.as_raw_fd()).into(), _mount: Some(mount) })
}

/// Mounts a v2 tree nowhere (fsopen(2); needs CAP_SYS_ADMIN).
fn mount() -> io::Result<OwnedFd> {
    /// Of the kernel's `mount.h`.
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: a name that ends with NUL.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), 0) })?;
    let fd = context.as_raw_fd();
    // SAFETY: this command takes no key and no value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, fd, 0, 0) })
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

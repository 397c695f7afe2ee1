//! The v2 tree that programs for packets and sockets are attached to. The kernel has one even where nobody has mounted it and
//! all processes are in trees of v1: then it is mounted for us alone, and is gone with the descriptor.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::enrich::cgroup::Layout;

/// The tree. To be opened before anything is given up.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Result<PathBuf, String>,
    /// What keeps it mounted.
    _mount: Option<Arc<OwnedFd>>,
}

impl Tree {
    /// The machine's tree, or one of our own.
    pub fn open(layout: &Layout) -> Self {
        if let Some(root) = layout.v2() {
            return Self { root: Ok(root.to_owned()), _mount: None };
        }
        match mount() {
            Ok(mount) => {
                let root = format!("/proc/self/fd/{}", mount.as_raw_fd()).into();
                Self { root: Ok(root), _mount: Some(Arc::new(mount)) }
            }
            Err(error) => {
                let why = format!("there is no v2 cgroup tree, and none can be mounted: {error}");
                Self { root: Err(why), _mount: None }
            }
        }
    }

    /// Its root, or why there is none.
    pub fn root(&self) -> Result<&Path, &str> {
        self.root.as_deref().map_err(String::as_str)
    }
}

/// Mounts a v2 tree nowhere (fsopen(2); needs CAP_SYS_ADMIN).
fn mount() -> io::Result<OwnedFd> {
    /// Of the kernel's `mount.h`.
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    /// `FSOPEN_CLOEXEC` and `FSMOUNT_CLOEXEC`.
    const CLOEXEC: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: a name that ends with NUL.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), CLOEXEC) })?;
    let fd = context.as_raw_fd();
    // SAFETY: this command takes no key and no value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no pointers.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, 0) })
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

//! Where probes are pinned that outlive their daemon.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use tempfile::TempDir;

use crate::raw::{mount, name};

/// A BPF file system of its own: when it is unmounted, all that was pinned in there is gone.
pub struct Pins(TempDir);

impl Pins {
    /// Mounts it.
    pub fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount("bpf", folder.path().to_str().unwrap(), "bpf", 0, "").unwrap();
        Self(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The daemon's setting for it.
    pub fn setting(&self) -> String {
        format!("probes.pin={}", self.path().display())
    }

    /// Names in there, but for what the kernel puts into each such file system.
    pub fn names(&self) -> Vec<String> {
        let names = self.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| !name.ends_with(".debug")).collect()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let path = name(self.path().to_str().unwrap());
        // SAFETY: the name ends with NUL.
        let unmounted = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        assert!(unmounted == 0 || std::thread::panicking(), "{}", std::io::Error::last_os_error());
    }
}

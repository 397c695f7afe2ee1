//! What a process may have of the machine: a cgroup with a limit, of the second version or the first. It is gone when it is
//! dropped; who was in it goes free.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use taffrail::enrich::cgroup::Layout;

use crate::daemon::wait_for;

/// A cgroup of one controller.
pub struct Fence {
    folder: PathBuf,
    /// Where processes go when it is gone.
    outside: PathBuf,
    is_v1: bool,
}

impl Fence {
    /// One of that controller (`cpu`, `memory`, `freezer`); an error says why there can be none here.
    pub fn new(controller: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let is_v1 = v1.join("cgroup.procs").exists();
        let outside = if is_v1 {
            v1
        } else {
            let layout = Layout::detect();
            let tree = layout.root().ok_or_else(|| io::Error::other("no cgroups"))?.to_owned();
            // Freezing is no controller there: any cgroup can.
            if controller != "freezer" {
                std::fs::write(tree.join("cgroup.subtree_control"), format!("+{controller}"))
                    .map_err(|error| io::Error::other(format!("no controller {controller}: {error}")))?;
            }
            tree
        };
        let name = format!("taffrail-fence-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = outside.join(name);
        std::fs::create_dir(&folder)?;
        Ok(Self { folder, outside, is_v1 })
    }

    /// Takes a process in.
    pub fn take(&self, pid: u32) {
        self.set("cgroup.procs", &pid.to_string());
    }

    /// It may use so many hundredths of one core.
    pub fn cpu_percent(&self, percent: u32) {
        const PERIOD_US: u32 = 100_000;
        let quota_us = PERIOD_US / 100 * percent;
        if self.is_v1 {
            self.set("cpu.cfs_period_us", &PERIOD_US.to_string());
            self.set("cpu.cfs_quota_us", &quota_us.to_string());
        } else {
            self.set("cpu.max", &format!("{quota_us} {PERIOD_US}"));
        }
    }

    /// It may use as much CPU time as there is.
    pub fn cpu_free(&self) {
        if self.is_v1 { self.set("cpu.cfs_quota_us", "-1") } else { self.set("cpu.max", "max") }
    }

    /// It may use so much memory more than it had before it was taken in.
    pub fn memory_bytes(&self, bytes: u64) {
        self.set(if self.is_v1 { "memory.limit_in_bytes" } else { "memory.max" }, &bytes.to_string());
    }

    /// Stops all that is in there, or lets it go on.
    pub fn freeze(&self, is_frozen: bool) {
        match (self.is_v1, is_frozen) {
            (true, true) => self.set("freezer.state", "FROZEN"),
            (true, false) => self.set("freezer.state", "THAWED"),
            (false, _) => self.set("cgroup.freeze", if is_frozen { "1" } else { "0" }),
        }
    }

    fn set(&self, file: &str, value: &str) {
        let path = self.folder.join(file);
        std::fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {value}: {error}", path.display()));
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = self.folder.join(file);
            if file.exists() {
                let _ = std::fs::write(file, value);
            }
        }
        let removed = wait_for(|| {
            let inside = std::fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
            for pid in inside.lines() {
                let _ = std::fs::write(self.outside.join("cgroup.procs"), pid);
            }
            std::fs::remove_dir(&self.folder).ok()
        });
        if removed.is_none() {
            eprintln!("warning: {} could not be removed", self.folder.display());
        }
    }
}

//! What the log needs of a file system to write: few operations, so that a test can put one below it that fails, or that
//! loses what was not made durable.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A file system. New files have mode 0600.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file to write behind its end; makes it if it is not there.
    fn append(&self, path: &Path) -> io::Result<Box<dyn Append>>;
    /// Writes over a file from its beginning, or makes it, and makes its bytes (not its name) durable.
    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames a file; one of that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes durable what was made, renamed and deleted in a folder.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Bytes that are free for us where this folder is.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// A file that is open to write behind its end.
pub trait Append: Send {
    /// Writes all of it.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts it off.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// How long it is.
    fn len(&self) -> io::Result<u64>;
}

/// The file system of the machine.
#[derive(Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn append(&self, path: &Path) -> io::Result<Box<dyn Append>> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
        // SAFETY: plain numbers, for which zero is a value.
        let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path is a C string, and both live.
        if unsafe { libc::statvfs(path.as_ptr(), &raw mut found) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl Append for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

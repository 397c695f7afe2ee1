//! The open segment. What is written is durable, or the segment is as it was: what a failed write leaves is cut off before
//! anything else is written, however long that takes to work.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Append, Disk};
use super::segment::Segment;

/// The end of the log, open to be written to.
pub struct Tail {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    file: Option<Box<dyn Append>>,
    /// Bytes of the segment that are good and durable.
    len: u64,
    /// What a failed write has left behind them is still there.
    is_dirty: bool,
    /// A segment that was begun, but not durably.
    doomed: Option<PathBuf>,
}

impl Tail {
    /// In a folder, with no segment open.
    pub fn new(disk: Arc<dyn Disk>, folder: &Path) -> Self {
        Self { disk, folder: folder.to_owned(), file: None, len: 0, is_dirty: false, doomed: None }
    }

    /// Opens a segment whose first `len` bytes are good, and cuts off the rest.
    pub fn resume(&mut self, path: &Path, len: u64) -> io::Result<()> {
        let mut file = self.disk.append(path)?;
        if file.len()? != len {
            file.set_len(len)?;
            file.sync()?;
        }
        (self.file, self.len) = (Some(file), len);
        Ok(())
    }

    /// Bytes of the open segment; `None` if there is none.
    pub fn len(&self) -> Option<u64> {
        self.file.as_ref().map(|_| self.len)
    }

    /// Writes lines, durably.
    pub fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        self.clean()?;
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("no segment is open"))?;
        let written = file.write_all(lines).and_then(|()| file.sync());
        if written.is_ok() {
            self.len += lines.len() as u64;
        } else {
            self.is_dirty = true;
            // If this fails too, the next write does it.
            let _ = self.clean();
        }
        written
    }

    /// Closes the open segment and begins the one of record `first` with these lines, durably. If that fails the open one
    /// stays open.
    pub fn begin(&mut self, first: u64, lines: &[u8]) -> io::Result<()> {
        self.clean()?;
        let path = Segment::new(&self.folder, first).path;
        self.doomed = Some(path.clone());
        match self.create(&path, lines) {
            Ok(file) => {
                (self.file, self.len, self.doomed) = (Some(file), lines.len() as u64, None);
                Ok(())
            }
            Err(error) => {
                let _ = self.clean();
                Err(error)
            }
        }
    }

    fn create(&self, path: &Path, lines: &[u8]) -> io::Result<Box<dyn Append>> {
        let mut file = self.disk.append(path)?;
        // Recovery has moved away what else could have that name.
        file.set_len(0)?;
        file.write_all(lines)?;
        file.sync()?;
        self.disk.sync_folder(&self.folder)?;
        Ok(file)
    }

    /// Takes back what failed writes have left. Two segments with the same records, or records twice, would be no log.
    fn clean(&mut self) -> io::Result<()> {
        if let Some(path) = &self.doomed {
            match self.disk.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.disk.sync_folder(&self.folder)?,
            }
            self.doomed = None;
        }
        if self.is_dirty
            && let Some(file) = &mut self.file
        {
            file.set_len(self.len)?;
            self.is_dirty = false;
        }
        Ok(())
    }
}

//! Tells one version of a file from another without reading it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Device, inode, `ctime`, length: who puts another file there may keep its time.
pub type Stamp = (u64, u64, (i64, i64), u64);

/// The version that is there now, if any is.
pub fn of(path: &Path) -> Option<Stamp> {
    let file = path.metadata().ok()?;
    Some((file.dev(), file.ino(), (file.ctime(), file.ctime_nsec()), file.len()))
}

/// Files, each by the version that was there when it was noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<(PathBuf, Option<Stamp>)>);

impl Seen {
    /// Notes what is there now. To be called before it is read: then what changes in between is seen later.
    pub fn note(&mut self, path: &Path) {
        self.0.push((path.to_owned(), of(path)));
    }

    /// The others too.
    pub fn extend(&mut self, others: Seen) {
        self.0.extend(others.0);
    }

    /// The same files by what is there now.
    pub fn again(&self) -> Seen {
        Seen(self.0.iter().map(|(path, _)| (path.clone(), of(path))).collect())
    }
}

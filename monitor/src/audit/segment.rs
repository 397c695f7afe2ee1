//! Segments: files named by the sequence number of their first record.

use std::io;
use std::path::{Path, PathBuf};

/// Digits in a name: enough for any 64-bit number, so that names sort as numbers do.
const DIGITS: usize = 20;

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Sequence number of its first record.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
}

impl Segment {
    /// The segment that starts with a record.
    pub fn new(folder: &Path, first: u64) -> Self {
        Self { first, path: folder.join(format!("{first:0DIGITS$}.ndjson")) }
    }
}

/// All segments of a folder, oldest first. Other files are passed over.
pub fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".ndjson"));
        if let Some(number) = number
            && number.len() == DIGITS
            && let Ok(first) = number.parse()
        {
            segments.push(Segment { first, path });
        }
    }
    segments.sort();
    Ok(segments)
}

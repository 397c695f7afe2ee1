//! Which old segments go: those beyond a size in all, those beyond an age, and the oldest when the disk is full.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::disk::Disk;
use super::segment::{self, Segment};

/// A closed segment.
pub struct Closed {
    /// The segment.
    pub segment: Segment,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was written last.
    pub written: SystemTime,
    /// Number of its last record.
    pub last: u64,
}

/// All closed segments of a folder, oldest first; `open` is the first record of the one that is not closed.
pub fn closed(folder: &Path, open: u64) -> io::Result<Vec<Closed>> {
    let segments: Vec<Segment> =
        segment::list(folder)?.into_iter().filter(|segment| segment.first < open).collect();
    let mut closed: Vec<Closed> = Vec::with_capacity(segments.len());
    for segment in segments {
        // One that cannot be looked at is one that is being packed or deleted.
        let Ok(found) = segment.path.metadata() else { continue };
        if let Some(before) = closed.last_mut() {
            before.last = segment.first.saturating_sub(1);
        }
        let written = found.modified().unwrap_or_else(|_| SystemTime::now());
        closed.push(Closed { segment, bytes: found.len(), written, last: open - 1 });
    }
    Ok(closed)
}

/// How many of them, from the oldest on, are beyond a size in all or an age; a limit of 0 is none.
pub fn beyond(closed: &[Closed], size: u64, age: Duration) -> usize {
    let mut total: u64 = closed.iter().map(|segment| segment.bytes).sum();
    let now = SystemTime::now();
    closed
        .iter()
        .take_while(|segment| {
            let is_old = !age.is_zero() && now.duration_since(segment.written).is_ok_and(|old| old > age);
            let is_too_much = size > 0 && total > size;
            total -= segment.bytes;
            is_old || is_too_much
        })
        .count()
}

/// How many of them, from the oldest on, hold so many bytes; all, if they hold less.
pub fn that_hold(closed: &[Closed], bytes: u64) -> usize {
    let mut left = bytes;
    closed
        .iter()
        .take_while(|segment| {
            let is_needed = left > 0;
            left = left.saturating_sub(segment.bytes);
            is_needed
        })
        .count()
}

/// Deletes segments, the oldest first and each durably, so that what a crash leaves has no hole.
pub fn delete(disk: &dyn Disk, folder: &Path, closed: &[Closed]) -> io::Result<()> {
    for Closed { segment, .. } in closed {
        // It may have been packed meanwhile.
        let files = [segment.index_path(), segment.path.clone(), segment.packed().path];
        for file in files {
            match disk.remove(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        disk.sync_folder(folder)?;
    }
    Ok(())
}

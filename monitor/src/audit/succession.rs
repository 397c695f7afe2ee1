//! `keys.ndjson`: the `key` records of the log once more, which outlive its old segments. They lead from a public key that
//! somebody has noted to the one that signs today.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::Disk;
use super::read::{Line, Lines};

/// Its name in the folder of the log.
pub const FILE: &str = "keys.ndjson";

/// Its whole lines, and how many bytes these are.
pub fn read(folder: &Path) -> io::Result<(Vec<Vec<u8>>, u64)> {
    let mut file = match Lines::open_file(&folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        file => file?,
    };
    let mut lines = Vec::new();
    loop {
        match file.next()? {
            Line::Whole(line) => lines.push(line.to_owned()),
            Line::Long(_) => {}
            Line::Half(_) | Line::End => return Ok((lines, file.offset())),
        }
    }
}

/// Adds a record's line, durably. A half line that a crash has left goes.
pub fn add(disk: &Arc<dyn Disk>, folder: &Path, line: &[u8]) -> io::Result<()> {
    let (lines, whole) = read(folder)?;
    if lines.iter().any(|there| there == line) {
        return Ok(());
    }
    let mut file = disk.append(&folder.join(FILE))?;
    if file.len()? != whole {
        file.set_len(whole)?;
    }
    file.write_all(&[line, b"\n"].concat())?;
    file.sync()?;
    disk.sync_folder(folder)
}

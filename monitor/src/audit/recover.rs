//! Finds the end of a log that is there: what a crash can have left, and what somebody can have done to it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::clock;
use crate::rules::hex;

/// Where the chain stands.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Sequence number of the last record, 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

/// Moves a file out of the log's way without losing it; an empty one goes.
pub fn set_aside(path: &Path) -> io::Result<()> {
    if path.metadata()?.len() == 0 {
        return std::fs::remove_file(path);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", clock::boot_ns()));
    std::fs::rename(path, name)
}

/// Where a segment ends.
pub struct End {
    /// Its last record.
    pub last: Option<Chain>,
    /// Bytes up to the last whole line.
    pub len: u64,
    /// Half a line behind that: its bytes and their hash.
    pub cut: Option<(u64, String)>,
    /// Whole lines behind the last record that are no records.
    pub damaged_lines: u64,
}

/// Reads a segment to its end.
pub fn find_end(path: &Path) -> io::Result<End> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut end = End { last: None, len: 0, cut: None, damaged_lines: 0 };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(end);
        }
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            end.cut = Some((read, hex(&Sha256::digest(&line))));
            return Ok(end);
        }
        end.len += read;
        match seq_of(&line) {
            Some(seq) => {
                end.last = Some(Chain { seq, hash: hex(&Sha256::digest(&line)) });
                end.damaged_lines = 0;
            }
            None => end.damaged_lines += 1,
        }
    }
}

/// The sequence number of a line that is a whole record.
fn seq_of(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Record {
        seq: u64,
        #[serde(rename = "prev")]
        _prev: String,
    }
    Some(serde_json::from_slice::<Record>(line).ok()?.seq)
}

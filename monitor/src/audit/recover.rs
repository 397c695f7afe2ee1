//! Finds the end of a log that is there: what a crash can have left, and what somebody can have done to it. Of the last
//! segment it keeps what is whole and chained from its first record on; the rest is no part of the log any more, but whole
//! lines of it are put aside as evidence.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use super::disk::Disk;
use super::key::PublicKey;
use super::read::{Line, Lines};
use super::record::{Chain, Head, Signed, Why};
use super::segment::{self, Form, Segment};
use super::{OpenError, RecordKind};
use crate::clock;
use crate::rules::hex;

/// No log gets so far; a number beyond it is somebody's joke.
const SEQ_MAX: u64 = u64::MAX / 2;

/// Where the log stands.
pub struct Recovered {
    /// The last record.
    pub chain: Chain,
    /// The segment to go on with, and its good bytes.
    pub open: Option<(PathBuf, u64)>,
    /// The epoch and its public key, as the log has them.
    pub epoch: Option<(u64, PublicKey)>,
    /// The last `key` record of that segment.
    pub key_line: Option<Vec<u8>>,
    /// When that segment was begun, as its first record says.
    pub begun: Option<String>,
    /// Bodies of the records that say what was found.
    pub found: Vec<String>,
}

/// Reads the end of the log, and moves out of its way what is no log.
pub fn recover(folder: &Path, disk: &dyn Disk) -> Result<Recovered, OpenError> {
    let segments =
        segment::list(folder).map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
    let mut found = Vec::new();
    // The last segment with a record in it says where the chain stands.
    for segment in segments.iter().rev() {
        let failed = |source| OpenError::Recover { path: segment.path.clone(), source };
        let end = End::of(segment).map_err(failed)?;
        let is_whole = end.rest.bytes == 0;
        if !is_whole || end.chain.checkpoint != Some(Why::Close) {
            found.push(end.told(segment));
        }
        if end.chain.tree.size() == 0 {
            set_aside(&segment.path, end.rest.lines > 0, disk).map_err(failed)?;
            continue;
        }
        if end.rest.lines > 0 {
            keep_rest(&segment.path, end.len, disk).map_err(failed)?;
        }
        found.reverse();
        // Nothing can be added to a packed one.
        let open = (segment.form == Form::Plain).then(|| (segment.path.clone(), end.len));
        return Ok(Recovered {
            chain: end.chain,
            open,
            epoch: end.epoch,
            key_line: end.key_line,
            begun: end.begun,
            found,
        });
    }
    found.reverse();
    Ok(Recovered { chain: Chain::new(), open: None, epoch: None, key_line: None, begun: None, found })
}

/// Where a segment ends.
struct End {
    chain: Chain,
    /// Bytes up to its last good record.
    len: u64,
    rest: Rest,
    epoch: Option<(u64, PublicKey)>,
    key_line: Option<Vec<u8>>,
    begun: Option<String>,
}

/// What stands behind the last good record.
#[derive(Default)]
struct Rest {
    bytes: u64,
    /// Whole lines in it.
    lines: u64,
    hash: Sha256,
}

impl Rest {
    fn of(path: &Path, good: u64) -> io::Result<Self> {
        let mut rest = Self::default();
        each_block(path, good, |block| {
            rest.bytes += block.len() as u64;
            rest.lines += memchr::memchr_iter(b'\n', block).count() as u64;
            rest.hash.update(block);
            Ok(())
        })?;
        Ok(rest)
    }
}

impl End {
    fn of(segment: &Segment) -> io::Result<Self> {
        let mut lines = Lines::open(segment)?;
        let mut chain = Chain::new();
        (chain.seq, chain.first) = (segment.first.saturating_sub(1), segment.first);
        let mut end = Self { chain, len: 0, rest: Rest::default(), epoch: None, key_line: None, begun: None };
        while let Line::Whole(line) = lines.next()? {
            if !end.take(line) {
                break;
            }
            end.len = lines.offset();
        }
        if segment.form == Form::Plain {
            end.rest = Rest::of(&segment.path, end.len)?;
        }
        Ok(end)
    }

    /// Takes in the next line, if it is the next record.
    fn take(&mut self, line: &[u8]) -> bool {
        let Some(head) = Head::parse(line) else { return false };
        let is_first = self.chain.tree.size() == 0;
        let is_begin = head.kind == RecordKind::Segment.name();
        let is_next = Some(head.seq) == self.chain.seq.checked_add(1)
            && head.seq <= SEQ_MAX
            && (is_first || head.prev == self.chain.hash);
        if !is_next || is_begin != is_first || serde_json::from_slice::<IgnoredAny>(line).is_err() {
            return false;
        }
        let is_key = head.kind == RecordKind::Key.name();
        let is_checkpoint = head.kind == RecordKind::Checkpoint.name();
        let signed = (is_begin || is_key || is_checkpoint).then(|| Signed::parse(line)).flatten();
        if is_begin || is_key {
            let Some((epoch, key)) = signed.as_ref().and_then(|signed| Some((signed.epoch, signed.key()?)))
            else {
                return false;
            };
            self.epoch = Some((epoch, key));
        }
        if is_begin {
            self.begun = Some(head.time.to_owned());
        }
        if is_key {
            self.key_line = Some(line.to_owned());
        }
        self.chain.advance(line);
        if is_checkpoint {
            self.chain.unsigned = 0;
            self.chain.checkpoint =
                signed.filter(|signed| signed.why == Why::Close.name()).map(|_| Why::Close);
        }
        true
    }

    /// The body of a record that tells this.
    fn told(&self, segment: &Segment) -> String {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy();
        let mut body = format!("\"segment\":\"{name}\",\"unsigned\":{}", self.chain.unsigned);
        let Rest { bytes, lines, hash } = &self.rest;
        if *bytes > 0 {
            let hash = hex(&hash.clone().finalize());
            body.push_str(&format!(",\"cut_bytes\":{bytes},\"cut_lines\":{lines},\"cut_sha256\":\"{hash}\""));
        }
        body
    }
}

/// Moves a file without any record out of the log's way; it goes if there is nothing whole in it.
fn set_aside(path: &Path, is_evidence: bool, disk: &dyn Disk) -> io::Result<()> {
    if is_evidence { disk.rename(path, &aside(path)) } else { disk.remove(path) }?;
    sync_around(path, disk)
}

/// Copies what stands behind the good bytes of a segment to a file of its own.
fn keep_rest(path: &Path, good: u64, disk: &dyn Disk) -> io::Result<()> {
    let mut to = disk.append(&aside(path))?;
    each_block(path, good, |block| to.write_all(block))?;
    to.sync()?;
    sync_around(path, disk)
}

/// Calls for the bytes of a file from a place on, in pieces.
fn each_block(path: &Path, from: u64, mut call: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        call(&buffer[..read])?;
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", clock::boot_ns()));
    name.into()
}

fn sync_around(path: &Path, disk: &dyn Disk) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| disk.sync_folder(folder))
}

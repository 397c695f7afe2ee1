//! Packs closed segments. A packed segment is zstd frames, one behind the other, each of which can be unpacked alone and
//! holds whole lines: `zstdcat` gives the segment back byte for byte, and a search can begin at any frame. The plain file
//! goes only when what was packed was read back and is the same.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zstd::zstd_safe::CParameter;

use super::LINE_MAX;
use super::index::{self, Block};
use super::read::WINDOW_LOG_MAX;
use super::segment::{self, Segment, sync_folder};

/// Plain bytes of one frame at most. A line is not longer, so frames end with one.
pub const BLOCK: usize = LINE_MAX;

/// Of the levels of zstd one that keeps up with the writer on a fraction of a core.
const LEVEL: i32 = 3;

/// What becomes a packed segment.
pub(super) const TEMPORARY: &str = "tmp";

/// A segment could not be packed. Its plain file is as it was.
#[derive(Debug, Error)]
pub enum PackError {
    /// Reading or writing failed.
    #[error("cannot pack the segment {}", path.display())]
    Io {
        /// The plain file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What was written reads back otherwise.
    #[error("the segment {} did not read back as it was packed", path.display())]
    Differs {
        /// The plain file.
        path: PathBuf,
    },
}

/// A segment that was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its bytes before.
    pub plain_bytes: u64,
    /// Its bytes now.
    pub packed_bytes: u64,
}

/// Packs a closed, plain segment and deletes its plain file. Whatever fails or ends this before, the segment is there in
/// one form at least; then it can simply be done again.
pub fn pack(segment: &Segment) -> Result<Packed, PackError> {
    let failed = |source| PackError::Io { path: segment.path.clone(), source };
    let packed = segment.packed();
    let temporary = packed.path.with_extension(TEMPORARY);
    let (blocks, hash) = write_frames(&segment.path, &temporary).map_err(failed)?;
    if hash_unpacked(&temporary).ok() != Some(hash) {
        let _ = std::fs::remove_file(&temporary);
        return Err(PackError::Differs { path: segment.path.clone() });
    }
    let finish = || {
        let packed_bytes = temporary.metadata()?.len();
        let plain_bytes = blocks.iter().map(|block| u64::from(block.plain_len)).sum();
        std::fs::rename(&temporary, &packed.path)?;
        let folder = segment.path.parent().unwrap_or(Path::new("."));
        // A search makes it if it is not there.
        let _ = index::save(&packed, &blocks);
        // The new name must last before the old one goes.
        sync_folder(folder)?;
        std::fs::remove_file(&segment.path)?;
        sync_folder(folder)?;
        Ok(Packed { plain_bytes, packed_bytes })
    };
    finish().map_err(failed)
}

/// Deletes what a crash has left of unfinished work. For the writer, before it packs anything.
pub fn tidy(folder: &Path) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == TEMPORARY) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// All plain segments but the last, which is being written: what there is to pack, oldest first.
pub fn closed(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = segment::list(folder)?;
    segments.pop();
    segments.retain(|segment| segment.form == segment::Form::Plain);
    Ok(segments)
}

/// Writes a file's bytes as frames and makes them durable; returns what is in these, and the hash of all.
fn write_frames(from: &Path, to: &Path) -> io::Result<(Vec<Block>, [u8; 32])> {
    let mut plain = File::open(from)?;
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    let (mut hash, mut blocks, mut offset) = (Sha256::new(), Vec::new(), 0);
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        let wanted = BLOCK - block.len();
        let read = (&mut plain).take(wanted as u64).read_to_end(&mut block)?;
        let is_last = read < wanted;
        let end = match memchr::memrchr(b'\n', &block) {
            Some(at) if !is_last => at + 1,
            // The end, or what is no line: that can be cut anywhere.
            _ => block.len(),
        };
        let lines: Vec<u8> = block.drain(..end).collect();
        hash.update(&lines);
        let frame = compressor.compress(&lines)?;
        out.write_all(&frame)?;
        let len = frame.len() as u32;
        let mut known = Block { offset, len, plain_len: lines.len() as u32, first: 0, content: None };
        known.learn(&lines);
        blocks.push(known);
        offset += u64::from(len);
        if is_last {
            break;
        }
    }
    out.sync_all()?;
    Ok((blocks, hash.finalize().into()))
}

fn hash_unpacked(path: &Path) -> io::Result<[u8; 32]> {
    let mut decoder = zstd::Decoder::new(File::open(path)?)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut reader = BufReader::with_capacity(128 << 10, decoder);
    let mut hash = Sha256::new();
    loop {
        let bytes = io::BufRead::fill_buf(&mut reader)?;
        if bytes.is_empty() {
            return Ok(hash.finalize().into());
        }
        hash.update(bytes);
        let len = bytes.len();
        io::BufRead::consume(&mut reader, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::read::{Line, Lines};

    /// Lines of all lengths, one of which is too long for a record, and half a line.
    fn plain() -> Vec<u8> {
        let mut plain = Vec::new();
        for n in 1..6_000 {
            plain
                .extend_from_slice(format!("{{\"seq\":{n},\"x\":\"{}\"}}\n", "y".repeat(n % 997)).as_bytes());
        }
        plain.extend_from_slice(&vec![b'z'; 5 * BLOCK / 2]);
        plain.extend_from_slice(b"\nhalf");
        plain
    }

    fn segment(folder: &Path, bytes: &[u8]) -> Segment {
        let segment = Segment::new(folder, 1);
        std::fs::write(&segment.path, bytes).unwrap();
        segment
    }

    #[test]
    fn packed_segment_is_frames_of_whole_lines_that_give_it_back_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, segment) = (plain(), segment(folder.path(), &plain()));
        let packed = pack(&segment).unwrap();
        let bytes = std::fs::read(segment.packed().path).unwrap();
        assert_eq!((packed.plain_bytes, packed.packed_bytes), (plain.len() as u64, bytes.len() as u64));
        assert!(!segment.path.exists());
        let (mut rest, mut back) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let len = zstd::zstd_safe::find_frame_compressed_size(rest).unwrap();
            let frame = zstd::bulk::decompress(&rest[..len], BLOCK).unwrap();
            let is_in_long_line = frame.iter().all(|byte| *byte == b'z');
            assert!(frame.ends_with(b"\n") || frame.ends_with(b"half") || is_in_long_line);
            back.extend_from_slice(&frame);
            rest = &rest[len..];
        }
        assert!(back == plain);
        assert!(zstd::decode_all(bytes.as_slice()).unwrap() == plain);
    }

    #[test]
    fn packed_segment_has_the_same_lines() {
        let folder = tempfile::tempdir().unwrap();
        let segment = segment(folder.path(), &plain());
        let told = |segment: &Segment| {
            let mut lines = Lines::open(segment).unwrap();
            let mut told = Vec::new();
            loop {
                match lines.next().unwrap() {
                    Line::Whole(line) => told.push(line.to_vec()),
                    Line::End => return told,
                    other => told.push(format!("{other:?}").into_bytes()),
                }
            }
        };
        // What follows half a line never comes.
        let mut lines = Lines::open(&segment).unwrap();
        let (mut count, mut last) = (0, String::new());
        while last != "Half(4)" {
            last = format!("{:?}", lines.next().unwrap());
            count += 1;
        }
        assert_eq!(count, 5_999 + 2);
        std::fs::write(&segment.path, &plain()[..plain().len() - 4]).unwrap();
        let before = told(&segment);
        assert_eq!(before.last().unwrap(), b"Long(2621441)");
        pack(&segment).unwrap();
        assert!(told(&segment.packed()) == before);
    }

    #[test]
    fn packing_that_was_ended_anywhere_can_be_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, segment) = (plain(), segment(folder.path(), &plain()));
        // A half written file; later both forms, since the plain one was not deleted yet.
        std::fs::write(segment.packed().path.with_extension(TEMPORARY), b"half a frame").unwrap();
        for _ in 0..2 {
            assert_eq!(segment::list(folder.path()).unwrap(), std::slice::from_ref(&segment));
            tidy(folder.path()).unwrap();
            pack(&segment).unwrap();
            assert_eq!(segment::list(folder.path()).unwrap(), [segment.packed()]);
            let bytes = std::fs::read(segment.packed().path).unwrap();
            assert!(zstd::decode_all(bytes.as_slice()).unwrap() == plain);
            std::fs::write(&segment.path, &plain).unwrap();
        }
        // The packed one, its index, and what was written last.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn only_closed_plain_segments_are_to_be_packed() {
        let folder = tempfile::tempdir().unwrap();
        let segments = [1, 5, 9].map(|first| Segment::new(folder.path(), first));
        for segment in &segments {
            std::fs::write(&segment.path, b"x\n").unwrap();
        }
        pack(&segments[0]).unwrap();
        assert_eq!(closed(folder.path()).unwrap(), [segments[1].clone()]);
    }
}

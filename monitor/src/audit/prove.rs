//! Proofs that one record is in a log, to be checked without the log: the record, its way to the root that a checkpoint has
//! signed, and the keys that lead from one that somebody has noted to the one that signed.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::hex::from_hex;
use super::key::PublicKey;
use super::merkle::{Hash, PathBuilder, root_of};
use super::read::{Line, Lines};
use super::record::{Head, Signed, is_signed_by};
use super::segment::{self, Segment};
use super::witness::Witness;
use super::{RecordKind, succession};
use crate::rules::hex;

/// A proof.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proof {
    /// The record's line.
    pub record: String,
    /// Hashes beside its way to the root, lowest first, in hex digits.
    pub path: Vec<String>,
    /// The checkpoint's line.
    pub checkpoint: String,
    /// `key` records from the noted key's successor to the key that signed the checkpoint.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// Why there is no proof.
#[derive(Debug, Error)]
pub enum ProveError {
    /// The log cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The folder or file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no such record.
    #[error("the log has no record {0}")]
    NoRecord(u64),
    /// Nothing has signed it.
    #[error("no checkpoint of its segment covers record {0}")]
    NoCheckpoint(u64),
    /// It is damaged.
    #[error("record {0} is not in a whole segment: `taffrail audit verify` tells more")]
    Damaged(u64),
}

/// What is wrong with a proof.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// It is no proof at all.
    #[error("`{0}` is not what a proof has there")]
    Form(&'static str),
    /// The path does not lead to the root.
    #[error("the record is not in the tree that the checkpoint has signed")]
    Path,
    /// The signature does not hold.
    #[error("the checkpoint is not signed by the key that it names")]
    Signature,
    /// The key is somebody else's.
    #[error("the key that signed does not go back to the key that was given")]
    Key,
    /// Nobody has kept the checkpoint.
    #[error("the checkpoint is not in the file that it was compared with")]
    NotKept,
}

/// Makes the proof of a record. With a key that was noted, it has the keys that lead from there.
pub fn prove(folder: &Path, seq: u64, pinned: Option<PublicKey>) -> Result<Proof, ProveError> {
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |source| ProveError::Unreadable { path, source }
    };
    let segments = segment::list(folder).map_err(unreadable(folder))?;
    let segment = segments.iter().rfind(|segment| segment.first <= seq).ok_or(ProveError::NoRecord(seq))?;
    let Found { record, checkpoint } = find(segment, seq).map_err(unreadable(&segment.path))?;
    let record = record.ok_or(ProveError::NoRecord(seq))?;
    let checkpoint = checkpoint.ok_or(ProveError::NoCheckpoint(seq))?;
    let signed = Signed::parse(&checkpoint).ok_or(ProveError::Damaged(seq))?;
    let size = signed.size;
    let mut path = PathBuilder::new(seq - segment.first, size);
    let mut left = size;
    each_line(segment, |line| {
        path.push(&Sha256::digest(line).into());
        left = left.saturating_sub(1);
        left > 0
    })
    .map_err(unreadable(&segment.path))?;
    let (noted, _) = succession::read(folder).map_err(unreadable(folder))?;
    let keys = pinned.map(|pinned| successors(&noted, pinned, signed.epoch)).unwrap_or_default();
    let text = |line: Vec<u8>| String::from_utf8(line).map_err(|_| ProveError::Damaged(seq));
    let proof = Proof {
        record: text(record)?,
        path: path.path().iter().map(|hash| hex(hash)).collect(),
        checkpoint: text(checkpoint)?,
        keys,
    };
    // What does not hold is given to nobody.
    check(&proof).map_err(|_| ProveError::Damaged(seq))?;
    Ok(proof)
}

/// Checks a proof by itself; gives the key that has signed, and the epoch.
pub fn check(proof: &Proof) -> Result<(PublicKey, u64), Refused> {
    let (record, checkpoint) = (proof.record.as_bytes(), proof.checkpoint.as_bytes());
    let seq = Head::parse(record).ok_or(Refused::Form("record"))?.seq;
    let kind = Head::parse(checkpoint).ok_or(Refused::Form("checkpoint"))?.kind;
    let signed = Signed::parse(checkpoint).filter(|_| kind == RecordKind::Checkpoint.name());
    let signed = signed.ok_or(Refused::Form("checkpoint"))?;
    let key = signed.key().ok_or(Refused::Form("checkpoint"))?;
    let path: Option<Vec<Hash>> = proof.path.iter().map(|hash| from_hex(hash.as_bytes())).collect();
    let path = path.ok_or(Refused::Form("path"))?;
    let entry = Sha256::digest(record).into();
    let index = seq.checked_sub(signed.first).ok_or(Refused::Path)?;
    let root = root_of(&entry, index, signed.size, &path);
    if root.is_none() || root != signed.root() {
        return Err(Refused::Path);
    }
    if !is_signed_by(checkpoint, &key) {
        return Err(Refused::Signature);
    }
    Ok((key, signed.epoch))
}

/// Checks that the key that has signed goes back to one that was noted.
pub fn check_key(proof: &Proof, signer: PublicKey, pinned: PublicKey) -> Result<(), Refused> {
    let mut current = pinned;
    for line in &proof.keys {
        let signed = Signed::parse(line.as_bytes()).ok_or(Refused::Form("keys"))?;
        if !is_key(line.as_bytes()) || !is_signed_by(line.as_bytes(), &current) {
            return Err(Refused::Key);
        }
        current = signed.key().ok_or(Refused::Form("keys"))?;
    }
    if current == signer { Ok(()) } else { Err(Refused::Key) }
}

/// Checks that somebody has kept the checkpoint.
pub fn check_kept(proof: &Proof, kept: &Witness) -> Result<(), Refused> {
    if kept.has(proof.checkpoint.as_bytes()) { Ok(()) } else { Err(Refused::NotKept) }
}

fn is_key(line: &[u8]) -> bool {
    Head::parse(line).is_some_and(|head| head.kind == RecordKind::Key.name())
}

/// The lines that lead from a key to that of an epoch, as far as they are there.
fn successors(noted: &[Vec<u8>], pinned: PublicKey, epoch: u64) -> Vec<String> {
    let (mut current, mut lines) = (pinned, Vec::new());
    for line in noted {
        let Some(signed) = Signed::parse(line).filter(|signed| signed.epoch <= epoch) else { continue };
        if let Some(key) = signed.key().filter(|key| *key != current && is_signed_by(line, &current)) {
            lines.push(String::from_utf8_lossy(line).into_owned());
            current = key;
        }
    }
    lines
}

/// What a proof is made from.
#[derive(Default)]
struct Found {
    /// The record's line.
    record: Option<Vec<u8>>,
    /// That of the first checkpoint behind it.
    checkpoint: Option<Vec<u8>>,
}

fn find(segment: &Segment, seq: u64) -> io::Result<Found> {
    let mut found = Found::default();
    each_line(segment, |line| {
        match Head::parse(line) {
            Some(head) if head.seq == seq => found.record = Some(line.to_owned()),
            Some(head) if head.seq > seq && head.kind == RecordKind::Checkpoint.name() => {
                found.checkpoint = Some(line.to_owned());
            }
            _ => {}
        }
        found.checkpoint.is_none()
    })?;
    Ok(found)
}

/// Calls for each whole line of a segment, until it has had enough.
fn each_line(segment: &Segment, mut call: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut lines = Lines::open(segment)?;
    while let Line::Whole(line) = lines.next()? {
        if !call(line) {
            break;
        }
    }
    Ok(())
}

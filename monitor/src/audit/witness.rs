//! What others have kept of a log: the records that must be there, byte for byte. `verify --against` asks the checkpoints of an
//! anchor, `keys.ndjson` is asked always.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::RecordKind;
use super::merkle::Hash;
use super::read::{Line, Lines};
use super::record::Head;

/// Records that somebody has kept.
#[derive(Default)]
pub struct Witness {
    kept: BTreeMap<u64, Kept>,
}

struct Kept {
    hash: Hash,
    node: Vec<u8>,
    /// What the log has there.
    found: Option<Hash>,
}

impl Witness {
    /// The checkpoints in a file of NDJSON; all other lines are passed over.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut lines = Lines::open_file(path)?;
        let mut witness = Self::default();
        loop {
            match lines.next()? {
                Line::Whole(line) => {
                    if Head::parse(line).is_some_and(|head| head.kind == RecordKind::Checkpoint.name()) {
                        witness.add(line);
                    }
                }
                Line::Long(_) => {}
                Line::Half(_) | Line::End => return Ok(witness),
            }
        }
    }

    /// Adds a record's line. Of two with the same number the later one counts.
    pub fn add(&mut self, line: &[u8]) {
        if let Some(head) = Head::parse(line) {
            let hash = Sha256::digest(line).into();
            self.kept.insert(head.seq, Kept { hash, node: head.node.to_owned(), found: None });
        }
    }

    /// Whether this record was kept.
    pub fn has(&self, line: &[u8]) -> bool {
        let kept = Head::parse(line).and_then(|head| self.kept.get(&head.seq));
        kept.is_some_and(|kept| kept.hash[..] == Sha256::digest(line)[..])
    }

    /// The log has this record.
    pub fn meet(&mut self, seq: u64, hash: &Hash) {
        if let Some(kept) = self.kept.get_mut(&seq) {
            kept.found = Some(*hash);
        }
    }

    /// Compares with a log of a node that has the records from `first` to `last`. Gives how many were there, and what is
    /// wrong.
    pub fn conclude(&self, node: &[u8], first: u64, last: u64) -> (u64, Vec<String>) {
        let (mut good, mut wrong) = (0, Vec::new());
        for (seq, kept) in &self.kept {
            if kept.node != node {
                continue;
            }
            match kept.found {
                Some(found) if found == kept.hash => good += 1,
                Some(_) => wrong.push(format!("record {seq} is another one than the one that was kept")),
                None if *seq > last => {
                    wrong.push(format!("record {seq} was kept, but the log ends with record {last}"));
                }
                // Deleted by retention; a hole is found by the sequence.
                None if *seq < first => {}
                None => wrong.push(format!("record {seq} was kept, but is not there")),
            }
        }
        (good, wrong)
    }
}

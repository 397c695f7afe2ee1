//! What others have kept of a log: the records that must be there, byte for byte. `verify --against` asks the checkpoints of an
//! anchor, `keys.ndjson` is asked always.

use std::collections::{BTreeMap, BTreeSet};
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
    /// By number: several nodes can have one, and somebody can have added what never was.
    kept: BTreeMap<u64, Vec<Kept>>,
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

    /// Adds a record's line. None takes the place of another: of two of one number and node one is wrong.
    pub fn add(&mut self, line: &[u8]) {
        if let Some(head) = Head::parse(line) {
            let hash = Sha256::digest(line).into();
            let of_number = self.kept.entry(head.seq).or_default();
            if !of_number.iter().any(|kept| (kept.hash, &*kept.node) == (hash, head.node)) {
                of_number.push(Kept { hash, node: head.node.to_owned(), found: None });
            }
        }
    }

    /// Whether this record was kept.
    pub fn has(&self, line: &[u8]) -> bool {
        let kept = Head::parse(line).and_then(|head| self.kept.get(&head.seq));
        kept.is_some_and(|kept| kept.iter().any(|kept| kept.hash[..] == Sha256::digest(line)[..]))
    }

    /// The log has this record.
    pub fn meet(&mut self, seq: u64, hash: &Hash) {
        for kept in self.kept.get_mut(&seq).into_iter().flatten() {
            kept.found = Some(*hash);
        }
    }

    /// Compares with a log that has the records from `first` to `last`, of these nodes if others can have kept theirs in
    /// the same place. Gives how many were there, and what is wrong.
    pub fn conclude(&self, nodes: Option<&BTreeSet<Vec<u8>>>, first: u64, last: u64) -> (u64, Vec<String>) {
        let (mut good, mut wrong) = (0, Vec::new());
        let all = self.kept.iter().flat_map(|(seq, kept)| kept.iter().map(move |kept| (seq, kept)));
        for (seq, kept) in all.filter(|(_, kept)| nodes.is_none_or(|nodes| nodes.contains(&kept.node))) {
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

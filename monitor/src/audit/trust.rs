//! Whose signatures hold: follows the keys from epoch to epoch, checks each checkpoint, and tells whether all of it goes back
//! to a key that somebody has noted.

use std::collections::BTreeMap;

use serde::Serialize;

use super::key::PublicKey;
use super::merkle::Tree;
use super::record::{Signed, is_signed_by};
use crate::rules::hex;

/// An epoch that was met.
#[derive(Debug, Serialize)]
pub struct Epoch {
    /// Its number.
    pub epoch: u64,
    /// Its public key.
    pub key: String,
    /// The record from which on it is met.
    pub from_seq: u64,
    /// Whether the key before it has signed it, or it is the first.
    pub is_signed: bool,
}

/// What a record means for trust.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// It cannot be genuine.
    Forged(String),
    /// It may be, but the proof is missing.
    Unproven(String),
}

/// What is known of the keys.
#[derive(Default)]
pub struct Trust {
    /// The key that signs here.
    current: Option<(u64, PublicKey)>,
    /// The key that all must go back to.
    pinned: Option<PublicKey>,
    /// The current key goes back to it.
    descends: bool,
    /// Keys of `keys.ndjson`, and whether they go back to the pinned one.
    noted: BTreeMap<u64, (PublicKey, bool)>,
    /// Epochs, as they are met.
    pub epochs: Vec<Epoch>,
    /// Checkpoints that hold.
    pub checkpoints: u64,
    /// Those of them that do not go back to the pinned key, if there is one.
    pub unpinned: u64,
    /// Whether the last of them goes back to the pinned key.
    pub is_pinned: bool,
}

impl Trust {
    /// Begins, with the lines of `keys.ndjson` and the key that was noted.
    pub fn new(noted: &[Vec<u8>], pinned: Option<PublicKey>) -> Self {
        let mut trust = Self { pinned, ..Self::default() };
        for line in noted {
            let Some((key, signed)) = Signed::parse(line).and_then(|signed| Some((signed.key()?, signed)))
            else {
                continue;
            };
            let signer = match trust.noted.get(&signed.signed_by) {
                Some((signer, descends)) => Some((*signer, *descends || pinned == Some(*signer))),
                // The line of the pinned key itself may be missing.
                None => pinned.map(|signer| (signer, true)),
            };
            let inherits = signer.is_some_and(|(signer, descends)| descends && is_signed_by(line, &signer));
            trust.noted.insert(signed.epoch, (key, inherits || pinned == Some(key)));
        }
        trust
    }

    /// A segment begins, with the key that signs there.
    pub fn segment(&mut self, seq: u64, signed: &Signed) -> Result<(), Finding> {
        let named = signed.key().map(|key| (signed.epoch, key));
        let Some((epoch, key)) = named else {
            return Err(Finding::Forged(format!("record {seq} names no key")));
        };
        if self.current.is_none() {
            let noted = self.noted.get(&epoch).filter(|(noted, _)| *noted == key);
            self.descends = self.pinned == Some(key) || noted.is_some_and(|(_, descends)| *descends);
            self.enter(epoch, key, seq, true);
        }
        if self.current != named {
            return Err(Finding::Forged(format!("record {seq} names another key than the one that signs")));
        }
        Ok(())
    }

    /// A key takes over.
    pub fn key(&mut self, seq: u64, line: &[u8], signed: &Signed) -> Result<(), Finding> {
        let (epoch, named) = (signed.epoch, signed.key());
        let forged = |what: &str| Err(Finding::Forged(format!("record {seq}: {what}")));
        let Some(key) = named else { return forged("it names no key") };
        let is_own = signed.signed_by == epoch;
        if is_own {
            if !is_signed_by(line, &key) {
                return forged("the key has not signed itself");
            }
            if self.current == Some((epoch, key)) {
                return Ok(());
            }
            self.descends = self.pinned == Some(key);
            self.enter(epoch, key, seq, false);
            let message = format!(
                "record {seq}: no earlier key has signed that of epoch {epoch}: who wrote from here on is not proven"
            );
            return Err(Finding::Unproven(message));
        }
        let Some((current, signer)) = self.current else { return forged("no key is known before it") };
        if signed.signed_by != current || epoch <= current || !is_signed_by(line, &signer) {
            return forged("the new key is not signed by the one before it");
        }
        self.descends |= self.pinned == Some(key);
        self.enter(epoch, key, seq, true);
        Ok(())
    }

    /// A checkpoint over the segment's records so far.
    pub fn checkpoint(
        &mut self,
        seq: u64,
        line: &[u8],
        signed: &Signed,
        (first, tree): (u64, &Tree),
    ) -> Result<(), Finding> {
        let forged = |what: &str| Err(Finding::Forged(format!("checkpoint {seq}: {what}")));
        let named = signed.key().map(|key| (signed.epoch, key));
        let Some((_, key)) = self.current.filter(|current| named == Some(*current)) else {
            return forged("its key is not the one that signs here");
        };
        if !is_signed_by(line, &key) {
            return forged("its signature does not hold");
        }
        if (signed.first, signed.size, signed.root()) != (first, tree.size(), Some(tree.root())) {
            return forged("its root is not that of the records before it");
        }
        self.checkpoints += 1;
        self.unpinned += u64::from(self.pinned.is_some() && !self.descends);
        self.is_pinned = self.descends;
        Ok(())
    }

    fn enter(&mut self, epoch: u64, key: PublicKey, from_seq: u64, is_signed: bool) {
        self.current = Some((epoch, key));
        self.epochs.push(Epoch { epoch, key: hex(&key), from_seq, is_signed });
    }
}

//! A record as bytes: [`Chain`] puts lines together, [`Head`] and [`Signed`] take them apart. The line's bytes are the
//! record's canonical form: what is hashed and signed is never written anew.

use std::io::Write as _;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::RecordKind;
use super::hex::{from_hex, push_hex};
use super::key::{Epoch, PublicKey};
use super::merkle::{Hash, Tree};
use super::queue::Entry;
use crate::clock::{self, Clock};
use crate::event::text::json_string;

/// Where the log stands: its last record, and the tree of the segment that is open.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Number of the last record, 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Number of the segment's first record.
    pub first: u64,
    /// Tree over the segment's records.
    pub tree: Tree,
    /// Records since the last checkpoint.
    pub unsigned: u64,
    /// Why there is a checkpoint, if the last record is one.
    pub checkpoint: Option<Why>,
}

impl Chain {
    /// Before any record.
    pub fn new() -> Self {
        Self { seq: 0, hash: [0; 32], first: 1, tree: Tree::default(), unsigned: 0, checkpoint: None }
    }

    /// Appends a record's line and moves on.
    pub fn line(&mut self, origin: &Origin, entry: &Entry<'_>, lines: &mut Vec<u8>) {
        let start = lines.len();
        self.open_line(origin, entry, lines);
        lines.push(b'}');
        self.advance(&lines[start..]);
        lines.push(b'\n');
    }

    /// The same for a record that is signed.
    pub fn signed_line(&mut self, origin: &Origin, entry: &Entry<'_>, key: &Epoch, lines: &mut Vec<u8>) {
        let start = lines.len();
        self.open_line(origin, entry, lines);
        let signature = key.sign(&lines[start..]);
        lines.extend_from_slice(SIGNATURE);
        push_hex(lines, &signature);
        lines.extend_from_slice(b"\"}");
        self.advance(&lines[start..]);
        lines.push(b'\n');
    }

    /// Appends a checkpoint over all of the segment's records so far.
    pub fn checkpoint(&mut self, origin: &Origin, key: &Epoch, why: Why, lines: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(400);
        // Writing to memory cannot fail.
        let _ = write!(body, "\"first\":{},\"size\":{},\"root\":\"", self.first, self.tree.size());
        push_hex(&mut body, &self.tree.root());
        let _ = write!(body, "\",{},\"why\":\"{}\"", epoch_members(key.number, &key.public()), why.name());
        self.signed_line(origin, &now(RecordKind::Checkpoint, &body), key, lines);
        (self.unsigned, self.checkpoint) = (0, Some(why));
    }

    /// Appends the first record of a new segment.
    pub fn begin_segment(&mut self, origin: &Origin, epoch: u64, key: &PublicKey, lines: &mut Vec<u8>) {
        (self.first, self.tree) = (self.seq + 1, Tree::default());
        self.line(origin, &now(RecordKind::Segment, epoch_members(epoch, key).as_bytes()), lines);
    }

    /// Appends the record that a key takes over; it is signed by the one before it, or by itself if there is none.
    pub fn key(&mut self, origin: &Origin, new: &Epoch, signer: &Epoch, lines: &mut Vec<u8>) {
        let Epoch { number, .. } = signer;
        let body = format!("{},\"signed_by\":{number}", epoch_members(new.number, &new.public()));
        self.signed_line(origin, &now(RecordKind::Key, body.as_bytes()), signer, lines);
    }

    /// Takes in a record that is there already; `line` has no newline.
    pub fn advance(&mut self, line: &[u8]) {
        self.seq += 1;
        self.hash = Sha256::digest(line).into();
        self.tree.push(&self.hash);
        self.unsigned += 1;
        self.checkpoint = None;
    }

    fn open_line(&self, origin: &Origin, entry: &Entry<'_>, lines: &mut Vec<u8>) {
        let Entry { kind, time_ns, boot_ns, body } = entry;
        let _ = write!(lines, "{{\"seq\":{},\"prev\":\"", self.seq + 1);
        push_hex(lines, &self.hash);
        lines.extend_from_slice(b"\",\"kind\":\"");
        lines.extend_from_slice(kind.name().as_bytes());
        lines.extend_from_slice(b"\",\"time\":\"");
        lines.extend_from_slice(clock::rfc3339(*time_ns).as_bytes());
        let _ = write!(lines, "\",\"boot_ns\":{boot_ns}");
        lines.extend_from_slice(&origin.members);
        if !body.is_empty() {
            lines.push(b',');
            lines.extend_from_slice(body);
        }
    }
}

/// Where records come from: the members that are the same in each.
pub struct Origin {
    members: Vec<u8>,
}

impl Origin {
    /// Of a node and a boot.
    pub fn new(node: &str, boot_id: &str) -> Self {
        let mut members = b",\"node\":".to_vec();
        json_string(node.as_bytes(), &mut members);
        members.extend_from_slice(b",\"boot_id\":");
        json_string(boot_id.as_bytes(), &mut members);
        Self { members }
    }
}

/// Why there is a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There were many records.
    Records,
    /// Some time has passed.
    Time,
    /// Nothing has happened for some time.
    Heartbeat,
    /// The segment is closed.
    Rotation,
    /// Old segments are deleted.
    Retention,
    /// The key's epoch ends.
    Key,
    /// The log is closed in good order.
    Close,
}

impl Why {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Why::Records => "records",
            Why::Time => "time",
            Why::Heartbeat => "heartbeat",
            Why::Rotation => "rotation",
            Why::Retention => "retention",
            Why::Key => "key",
            Why::Close => "close",
        }
    }
}

/// A record about the log itself.
pub fn now(kind: RecordKind, body: &[u8]) -> Entry<'_> {
    let boot_ns = clock::boot_ns();
    Entry { kind, time_ns: Clock::now().realtime_ns(boot_ns), boot_ns, body }
}

fn epoch_members(number: u64, key: &PublicKey) -> String {
    let mut digits = Vec::with_capacity(64);
    push_hex(&mut digits, key);
    format!("\"epoch\":{number},\"key\":\"{}\"", String::from_utf8_lossy(&digits))
}

/// The members that each record begins with.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its number.
    pub seq: u64,
    /// The hash of the record before it.
    pub prev: Hash,
    /// What it is about.
    pub kind: &'a str,
    /// When, by the wall clock.
    pub time: &'a str,
    /// The node's name, as it stands there.
    pub node: &'a [u8],
}

impl<'a> Head<'a> {
    /// Of a line; `None` if it does not begin as a record must. What follows the head is not looked at.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (seq, rest) = number(line.strip_prefix(b"{\"seq\":")?)?;
        let (prev, rest) = rest.strip_prefix(b",\"prev\":\"")?.split_at_checked(64)?;
        let (kind, rest) = until_quote(rest.strip_prefix(b"\",\"kind\":\"")?)?;
        let (time, rest) = until_quote(rest.strip_prefix(b",\"time\":\"")?)?;
        let (_, rest) = number(rest.strip_prefix(b",\"boot_ns\":")?)?;
        let is_time =
            |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
        let node = rest.strip_prefix(b",\"node\":\"")?;
        let node = &node[..end_of_text(node)?];
        let is_whole = line.ends_with(b"}")
            && !kind.is_empty()
            && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && time.len() == TIME.len()
            && time.as_bytes().iter().zip(TIME).all(is_time);
        is_whole.then_some(Self { seq, prev: from_hex(prev)?, kind, time, node })
    }
}

/// The form of a time.
const TIME: &[u8] = b"0000-00-00T00:00:00.000000000Z";

/// A number without sign or leading zeros, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at(len);
    if len > 1 && digits[0] == b'0' {
        return None;
    }
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// A text without escapes, and what follows its end.
fn until_quote(text: &[u8]) -> Option<(&str, &[u8])> {
    let len = text.iter().position(|byte| *byte == b'"')?;
    let (text, rest) = text.split_at(len);
    let text = std::str::from_utf8(text).ok().filter(|text| !text.contains('\\'))?;
    Some((text, &rest[1..]))
}

/// Where a JSON text ends, behind its opening quote.
fn end_of_text(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// What is between a signed record's other members and the digits of its signature.
const SIGNATURE: &[u8] = b",\"signature\":\"";

/// The members of records that are signed, and of those that begin a segment.
#[derive(Deserialize)]
pub struct Signed {
    /// Number of the segment's first record (checkpoints).
    #[serde(default)]
    pub first: u64,
    /// How many of the segment's records the checkpoint covers.
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    root: String,
    /// The epoch.
    pub epoch: u64,
    key: String,
    /// Why there is a checkpoint.
    #[serde(default)]
    pub why: String,
    /// The epoch whose key has signed a `key` record.
    #[serde(default)]
    pub signed_by: u64,
}

impl Signed {
    /// Of a line.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The public key of the epoch.
    pub fn key(&self) -> Option<PublicKey> {
        from_hex(self.key.as_bytes())
    }

    /// The root of the tree.
    pub fn root(&self) -> Option<Hash> {
        from_hex(self.root.as_bytes())
    }
}

/// Whether a line ends with the signature of a key over all that stands before it.
pub fn is_signed_by(line: &[u8], key: &PublicKey) -> bool {
    let parts = || {
        let (line, signature) = line.strip_suffix(b"\"}")?.split_last_chunk::<128>()?;
        Some((line.strip_suffix(SIGNATURE)?, from_hex::<64>(signature)?))
    };
    let Some((message, signature)) = parts() else { return false };
    let signature = Signature::from_bytes(&signature);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

//! Checks a log from its files alone: each record's form, number and place in the chain, the roots and signatures of its
//! checkpoints, and the succession of its keys. It reads streaming, in bounded memory, also while the log is being written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key::PublicKey;
use super::log::is_being_written;
use super::merkle::{Hash, Tree};
use super::read::{Line, Lines};
use super::record::{Head, Signed, Why};
use super::segment::{self, Form, Segment};
use super::trust::{Epoch, Finding, Trust};
use super::witness::Witness;
use super::{CHECKPOINT_RECORDS_MAX, LINE_MAX, RecordKind, succession};
use crate::rules::hex;

/// What the log must agree with besides itself.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Hash of a record that must be there.
    pub head: Option<Hash>,
    /// Public key that all keys must go back to.
    pub key: Option<PublicKey>,
    /// File with checkpoints that must be there.
    pub against: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Number of the first record.
    pub first_seq: u64,
    /// Number of the last record.
    pub last_seq: u64,
    /// Time of the first record.
    pub first_time: String,
    /// Time of the last record.
    pub last_time: String,
    /// Hash of the last record: keep it elsewhere to prove later that nothing was cut off or rewritten.
    pub head: String,
    /// Records by kind.
    pub kinds: BTreeMap<String, u64>,
    /// Events that gap records say were lost.
    pub lost_events: u64,
    /// The same by place and what was lost.
    pub gaps: BTreeMap<String, Gap>,
    /// Checkpoints that hold.
    pub checkpoints: u64,
    /// Records behind the last one that holds: nobody has signed these yet.
    pub unsigned: u64,
    /// Keys, in the order in which they signed.
    pub epochs: Vec<Epoch>,
    /// Whether the head that was expected was passed or reached; `None` if none was expected.
    pub expected_head_found: Option<bool>,
    /// Checkpoints of the file that the log was compared with that are in it.
    pub kept_found: Option<u64>,
    /// Somebody writes to the log now.
    pub is_being_written: bool,
    /// Signs that the log was changed.
    pub tampered: Vec<Problem>,
    /// What is missing, without a sign of change.
    pub incomplete: Vec<Problem>,
    /// What is odd but neither: a last line that is just being written, kinds that this version does not know.
    pub notes: Vec<Problem>,
}

/// What was lost at one place.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// How many events.
    pub count: u64,
    /// In how many gaps.
    pub gaps: u64,
    /// From this time of the boot clock, in ns, of the first of them.
    pub from_boot_ns: u64,
    /// To this one, of the last of them.
    pub to_boot_ns: u64,
}

/// One finding.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The segment's file name.
    pub file: String,
    /// Line, from 1; 0 if it is the whole file.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

/// At most this many problems of a sort are kept: a damaged log has one per line.
const PROBLEMS_MAX: usize = 100;

/// At most this many kinds of record and of gap are told apart: whoever changed the log can have made up any number.
const NAMES_MAX: usize = 1000;

/// How many bytes are read between two calls for progress.
const PROGRESS_BYTES: u64 = 8 << 20;

/// The members of a gap that count.
#[derive(Deserialize)]
struct GapRecord {
    #[serde(default, rename = "where")]
    place: String,
    #[serde(default)]
    what: String,
    #[serde(default)]
    count: u64,
    #[serde(default)]
    records: BTreeMap<String, u64>,
    #[serde(default)]
    from_boot_ns: u64,
    #[serde(default)]
    to_boot_ns: u64,
}

/// The member of a retention record that counts.
#[derive(Deserialize)]
struct Retention {
    deleted_to_seq: u64,
}

/// The members of a recovery record that count.
#[derive(Deserialize)]
struct Recovery {
    #[serde(default)]
    cut_bytes: u64,
    #[serde(default)]
    cut_lines: u64,
}

/// Checks the log of a folder. `progress` is told now and then how many bytes were read, and in which segment that was.
pub fn verify(folder: &Path, wanted: &Wanted, progress: &mut dyn FnMut(u64, u64)) -> io::Result<Report> {
    let was_being_written = is_being_written(folder);
    // What others have kept was in the log before it was kept, so it is read first.
    let (noted, _) = succession::read(folder)?;
    let against = wanted.against.as_deref().map(Witness::read).transpose()?;
    let segments = segment::list(folder)?;
    let mut checker = Checker {
        report: Report { expected_head_found: wanted.head.map(|_| false), ..Report::default() },
        prev: None,
        is_closed: false,
        first: 0,
        tree: Tree::default(),
        retained_from: 0,
        told_retained_from: 0,
        node: Vec::new(),
        nodes: BTreeSet::new(),
        expected_head: wanted.head,
        trust: Trust::new(&noted, wanted.key),
        against,
        noted: Witness::default(),
        half: None,
        progress,
    };
    noted.iter().for_each(|line| checker.noted.add(line));
    for (at, segment) in segments.iter().enumerate() {
        checker.segment(segment, at + 1 == segments.len())?;
    }
    checker.report.is_being_written = was_being_written || is_being_written(folder);
    Ok(checker.finish(segments.first(), wanted))
}

struct Checker<'a> {
    report: Report,
    /// Hash of the record before, once there is one.
    prev: Option<Hash>,
    /// The record before closed the log.
    is_closed: bool,
    /// First record of the segment.
    first: u64,
    /// Its records.
    tree: Tree,
    /// Retention records say that what is below this number was deleted.
    retained_from: u64,
    /// The same, as no checkpoint vouches for yet.
    told_retained_from: u64,
    /// The node that the last record is of.
    node: Vec<u8>,
    /// All that the log names.
    nodes: BTreeSet<Vec<u8>>,
    expected_head: Option<Hash>,
    trust: Trust,
    against: Option<Witness>,
    noted: Witness,
    /// The last segment ends with half a line.
    half: Option<Problem>,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Checker<'_> {
    fn segment(&mut self, segment: &Segment, is_last: bool) -> io::Result<()> {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut lines = match open(segment) {
            // Deleted by retention since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            lines => lines?,
        };
        self.report.segments += 1;
        let (before, mut number, mut told) = (self.report.bytes, 0, 0);
        loop {
            let line = lines.next();
            number += 1;
            let at = |message: String| Problem { file: name.clone(), line: number, message };
            match line {
                Ok(Line::Whole(line)) => match self.record(line, (number == 1).then_some(segment.first)) {
                    Ok(()) => {}
                    Err(Finding::Forged(message)) => push(&mut self.report.tampered, at(message)),
                    Err(Finding::Unproven(message)) => push(&mut self.report.incomplete, at(message)),
                },
                Ok(Line::Long(_)) => {
                    let problem = at(format!("a line of more than {LINE_MAX} bytes"));
                    push(&mut self.report.tampered, problem);
                }
                Ok(Line::Half(len)) => {
                    let problem = at(format!("the last {len} bytes are no whole record"));
                    if is_last {
                        self.half = Some(problem);
                    } else {
                        push(&mut self.report.tampered, problem);
                    }
                    break;
                }
                Ok(Line::End) => break,
                // What the disk gave cannot be unpacked.
                Err(error) if segment.form == Form::Packed && error.raw_os_error().is_none() => {
                    push(&mut self.report.tampered, at(format!("it cannot be unpacked: {error}")));
                    break;
                }
                Err(error) => return Err(error),
            }
            self.report.bytes = before + lines.offset();
            if lines.offset() >= told + PROGRESS_BYTES {
                told = lines.offset();
                (self.progress)(self.report.bytes, segment.first);
            }
        }
        Ok(())
    }

    /// Checks one record; `named` is the number that the file's name promises for it.
    fn record(&mut self, line: &[u8], named: Option<u64>) -> Result<(), Finding> {
        let hash: Hash = Sha256::digest(line).into();
        let prev = self.prev.replace(hash);
        if self.expected_head == Some(hash) {
            self.report.expected_head_found = Some(true);
        }
        let judged = match Head::parse(line) {
            Some(head) => self.head(line, head, named, (&hash, prev)),
            None => Err(Finding::Forged("not a record: it does not begin as records do".to_owned())),
        };
        self.tree.push(&hash);
        judged
    }

    /// The same for one that begins as a record.
    fn head(
        &mut self,
        line: &[u8],
        head: Head<'_>,
        named: Option<u64>,
        (hash, prev): (&Hash, Option<Hash>),
    ) -> Result<(), Finding> {
        let Head { seq, prev: own_prev, kind, time, node } = head;
        let report = &mut self.report;
        let is_first = report.records == 0;
        let last_seq = std::mem::replace(&mut report.last_seq, seq);
        report.records += 1;
        count(&mut report.kinds, kind);
        time.clone_into(&mut report.last_time);
        if is_first {
            report.first_seq = seq;
            time.clone_into(&mut report.first_time);
        }
        if self.node != node {
            node.clone_into(&mut self.node);
            if self.nodes.len() < NAMES_MAX {
                self.nodes.insert(node.to_owned());
            }
        }
        self.noted.meet(seq, hash);
        if let Some(against) = &mut self.against {
            against.meet(seq, hash);
        }
        let left_unsigned = named.is_some() && report.unsigned > 0;
        if named.is_some() {
            (self.first, self.tree) = (seq, Tree::default());
        }
        report.unsigned += 1;
        let is_too_long = report.unsigned == CHECKPOINT_RECORDS_MAX + 1;
        self.is_closed = false;
        let meant = self.meaning(line, seq, kind);
        let forged = |message: String| Err(Finding::Forged(message));
        if let Some(named) = named
            && named != seq
        {
            return forged(format!("record {seq} begins a segment named for record {named}"));
        }
        if named.is_some() != (kind == RecordKind::Segment.name()) {
            return forged(format!(
                "record {seq}: a segment begins with a `segment` record, and has no other"
            ));
        }
        if !is_first && Some(seq) != last_seq.checked_add(1) {
            return forged(format!("record {seq} follows record {last_seq}"));
        }
        if prev.is_some_and(|prev| prev != own_prev) {
            return forged(format!(
                "record {seq} does not continue the record before it: one of them was changed"
            ));
        }
        if seq == 1 && own_prev != Hash::default() {
            return forged("the first record has a predecessor".to_owned());
        }
        if left_unsigned {
            return forged(format!("the segment before record {seq} does not end with a checkpoint"));
        }
        if is_too_long {
            return forged(format!(
                "there are more than {CHECKPOINT_RECORDS_MAX} records without a checkpoint before record {seq}"
            ));
        }
        meant
    }

    /// What a record's kind asks for.
    fn meaning(&mut self, line: &[u8], seq: u64, kind: &str) -> Result<(), Finding> {
        let Some(kind) = RecordKind::ALL.iter().find(|known| known.name() == kind) else {
            let message = format!("record {seq} is of a kind that this version does not know");
            push(&mut self.report.notes, Problem { file: String::new(), line: 0, message });
            return json(line, seq);
        };
        match kind {
            RecordKind::Segment => self.trust.segment(seq, &parse(line, seq)?),
            RecordKind::Key => self.trust.key(seq, line, &parse(line, seq)?),
            RecordKind::Checkpoint => {
                let signed: Signed = parse(line, seq)?;
                self.trust.checkpoint(seq, line, &signed, (self.first, &self.tree))?;
                self.report.unsigned = 0;
                // Only what is signed excuses that something is missing.
                self.retained_from = self.retained_from.max(self.told_retained_from);
                self.is_closed = signed.why == Why::Close.name();
                Ok(())
            }
            RecordKind::Gap => {
                self.gap(parse(line, seq)?);
                Ok(())
            }
            RecordKind::Retention => {
                let Retention { deleted_to_seq } = parse(line, seq)?;
                self.told_retained_from = self.told_retained_from.max(deleted_to_seq.saturating_add(1));
                Ok(())
            }
            RecordKind::Recovery => {
                let Recovery { cut_bytes, cut_lines } = parse(line, seq)?;
                let message = format!(
                    "record {seq} tells that {cut_bytes} bytes were cut off before it, {cut_lines} whole lines among them"
                );
                if cut_lines > 0 {
                    return Err(Finding::Unproven(message));
                }
                if cut_bytes > 0 {
                    push(&mut self.report.notes, Problem { file: String::new(), line: 0, message });
                }
                Ok(())
            }
            _ => json(line, seq),
        }
    }

    fn gap(&mut self, gap: GapRecord) {
        let GapRecord { place, what, count, records, from_boot_ns, to_boot_ns } = gap;
        let lost = records.values().fold(count, |sum, count| sum.saturating_add(*count));
        self.report.lost_events = self.report.lost_events.saturating_add(lost);
        let name = format!("{place} {what}").trim_end().to_owned();
        if self.report.gaps.len() >= NAMES_MAX && !self.report.gaps.contains_key(&name) {
            return;
        }
        let gap = self.report.gaps.entry(name).or_insert(Gap { from_boot_ns, ..Gap::default() });
        (gap.count, gap.gaps, gap.to_boot_ns) = (gap.count.saturating_add(lost), gap.gaps + 1, to_boot_ns);
    }

    fn finish(mut self, first: Option<&Segment>, wanted: &Wanted) -> Report {
        let file = first.and_then(|segment| segment.path.file_name()).unwrap_or_default();
        let file = file.to_string_lossy().into_owned();
        let at = |message: String| Problem { file: file.clone(), line: 0, message };
        let report = &mut self.report;
        report.head = self.prev.map(|hash| hex(&hash)).unwrap_or_default();
        (report.checkpoints, report.epochs) =
            (self.trust.checkpoints, std::mem::take(&mut self.trust.epochs));
        let (first_seq, last_seq) = (report.first_seq, report.last_seq);
        if report.records == 0 {
            report.incomplete.push(at("there are no records".to_owned()));
        } else if first_seq > 1 && self.retained_from < first_seq {
            report.incomplete.push(at(format!(
                "the log begins with record {first_seq}, and no record says that earlier ones were deleted"
            )));
        }
        let is_open = report.is_being_written;
        if let Some(half) = self.half {
            push(if is_open { &mut report.notes } else { &mut report.incomplete }, half);
        }
        if is_open && !self.is_closed && report.records > 0 {
            report.notes.push(at(format!(
                "somebody holds the log's lock, as a daemon that writes it does: its end cannot be judged, and nobody has signed the last {} records",
                report.unsigned
            )));
        }
        if !is_open && !self.is_closed && report.records > 0 {
            report.incomplete.push(at(format!(
                "the log was not closed: its daemon was killed, or its end is missing; nobody has signed the last {} records",
                report.unsigned
            )));
        }
        if report.expected_head_found == Some(false) {
            let message = "no record has the expected hash: the log was cut or rewritten since it was noted";
            report.tampered.push(at(message.to_owned()));
        }
        if wanted.key.is_some() && report.checkpoints == 0 {
            report.incomplete.push(at("there is no checkpoint that the key could have signed".to_owned()));
        } else if wanted.key.is_some() && !self.trust.is_pinned {
            let message =
                "the last checkpoint does not go back to the key that was given: somebody else has signed it";
            report.tampered.push(at(message.to_owned()));
        } else if self.trust.unpinned > 0 {
            report.incomplete.push(at(format!(
                "{} checkpoints do not go back to the key that was given: who signed them is not proven; the log's first key proves all",
                self.trust.unpinned
            )));
        }
        // The log's own file, whatever the node was called.
        if report.records > 0 {
            let (_, wrong) = self.noted.conclude(None, first_seq, last_seq);
            report
                .tampered
                .extend(wrong.into_iter().map(|wrong| at(format!("{}: {wrong}", succession::FILE))));
        }
        if let Some(against) = self.against {
            let (good, wrong) = against.conclude(Some(&self.nodes), first_seq, last_seq);
            if good == 0 && wrong.is_empty() {
                let message = "no checkpoint of this log is in the file that it was compared with";
                report.incomplete.push(at(message.to_owned()));
            }
            report.kept_found = Some(good);
            report.tampered.extend(wrong.into_iter().map(at));
        }
        self.report
    }
}

/// The members of a record that count.
fn parse<T: DeserializeOwned>(line: &[u8], seq: u64) -> Result<T, Finding> {
    serde_json::from_slice(line)
        .map_err(|error| Finding::Forged(format!("record {seq} is not as its kind must be: {error}")))
}

/// Whether a record is JSON at all.
fn json(line: &[u8], seq: u64) -> Result<(), Finding> {
    parse::<IgnoredAny>(line, seq).map(drop)
}

/// Counts a kind.
fn count(kinds: &mut BTreeMap<String, u64>, kind: &str) {
    if let Some(count) = kinds.get_mut(kind) {
        *count += 1;
    } else if kinds.len() < NAMES_MAX {
        kinds.insert(kind.to_owned(), 1);
    }
}

/// Opens a segment. It may be packed since the folder was listed.
fn open(segment: &Segment) -> io::Result<Lines> {
    match Lines::open(segment) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Lines::open(&segment.packed()),
        lines => lines,
    }
}

fn push(list: &mut Vec<Problem>, problem: Problem) {
    if list.len() < PROBLEMS_MAX {
        list.push(problem);
    }
}

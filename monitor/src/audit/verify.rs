//! Checks a log from its files alone: each record's place in the chain, its number, its form. It reads
//! streaming, in bounded memory, also while the log is being written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::segment::{self, Segment};
use super::{GENESIS, LINE_MAX, RecordKind};
use crate::rules::hex;

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
    /// Whether the head that was expected was passed or reached; `None` if none was expected.
    pub expected_head_found: Option<bool>,
    /// Signs that the log was changed.
    pub tampered: Vec<Problem>,
    /// What is missing, without a sign of change.
    pub incomplete: Vec<Problem>,
    /// What is odd but neither: a last line that is just being written, kinds that this version does not know.
    pub notes: Vec<Problem>,
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

/// The members that each record must have.
#[derive(Deserialize)]
struct Head {
    seq: u64,
    prev: String,
    kind: String,
    time: String,
    boot_ns: u64,
    #[serde(rename = "node")]
    _node: String,
    #[serde(rename = "boot_id")]
    _boot_id: String,
}

/// The members of a gap that count.
#[derive(Deserialize)]
struct GapCounts {
    #[serde(default)]
    count: u64,
    #[serde(default)]
    records: BTreeMap<String, u64>,
}

/// The member of a retention record that counts.
#[derive(Deserialize)]
struct Retention {
    deleted_to_seq: u64,
}

/// Checks the log of a folder.
pub fn verify(folder: &Path, expected_head: Option<&str>) -> io::Result<Report> {
    let segments = segment::list(folder)?;
    let mut checker = Checker {
        report: Report { expected_head_found: expected_head.map(|_| false), ..Report::default() },
        prev: None,
        retained_from: 0,
        expected_head,
    };
    for (at, segment) in segments.iter().enumerate() {
        checker.segment(segment, at + 1 == segments.len())?;
    }
    Ok(checker.finish(segments.first()))
}

struct Checker<'a> {
    report: Report,
    /// Hash of the record before, once there is one.
    prev: Option<String>,
    /// Retention records say that what is below this number was deleted.
    retained_from: u64,
    expected_head: Option<&'a str>,
}

impl Checker<'_> {
    fn segment(&mut self, segment: &Segment, is_last: bool) -> io::Result<()> {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.report.segments += 1;
        let file = match File::open(&segment.path) {
            Ok(file) => file,
            // Deleted by retention since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            let len = (&mut reader).take(LINE_MAX as u64).read_until(b'\n', &mut line)?;
            if len == 0 {
                return Ok(());
            }
            number += 1;
            self.report.bytes += len as u64;
            let at = |message: String| Problem { file: name.clone(), line: number, message };
            if line.pop_if(|byte| *byte == b'\n').is_some() {
                let is_first = number == 1;
                if let Err(message) = self.record(&line, is_first.then_some(segment.first)) {
                    push(&mut self.report.tampered, at(message));
                }
            } else if len == LINE_MAX {
                push(&mut self.report.tampered, at(format!("a line of more than {LINE_MAX} bytes")));
                self.report.bytes += skip_line(&mut reader)?;
            } else {
                let problem = at(format!("the last {len} bytes are no whole record"));
                // A writer may be just writing it, or a crash has left it: the next start will say so.
                push(if is_last { &mut self.report.notes } else { &mut self.report.tampered }, problem);
                return Ok(());
            }
        }
    }

    /// Checks one record; `named` is the number that the file's name promises for it.
    fn record(&mut self, line: &[u8], named: Option<u64>) -> Result<(), String> {
        let hash = hex(&Sha256::digest(line));
        let prev = self.prev.replace(hash.clone());
        if self.expected_head == Some(hash.as_str()) {
            self.report.expected_head_found = Some(true);
        }
        let head: Head = serde_json::from_slice(line).map_err(|error| format!("not a record: {error}"))?;
        let first = self.report.records == 0;
        let time = head.time.clone();
        let last_seq = std::mem::replace(&mut self.report.last_seq, head.seq);
        self.report.records += 1;
        *self.report.kinds.entry(head.kind.clone()).or_default() += 1;
        self.report.last_time = head.time.clone();
        self.report.head = hash;
        if head.kind == RecordKind::Gap.name()
            && let Ok(GapCounts { count, records }) = serde_json::from_slice(line)
        {
            let lost = records.values().fold(count, |sum, count| sum.saturating_add(*count));
            self.report.lost_events = self.report.lost_events.saturating_add(lost);
        }
        if head.kind == RecordKind::Retention.name()
            && let Ok(Retention { deleted_to_seq }) = serde_json::from_slice(line)
        {
            self.retained_from = self.retained_from.max(deleted_to_seq.saturating_add(1));
        }
        if !RecordKind::ALL.iter().any(|kind| kind.name() == head.kind) {
            let message = format!("record {} is of a kind that this version does not know", head.seq);
            push(&mut self.report.notes, Problem { file: String::new(), line: 0, message });
        }
        if first {
            self.report.first_seq = head.seq;
            self.report.first_time = head.time.clone();
        }
        let Head { seq, prev: own_prev, kind, boot_ns, .. } = &head;
        let order = format!(
            "{{\"seq\":{seq},\"prev\":\"{own_prev}\",\"kind\":\"{kind}\",\"time\":\"{time}\",\"boot_ns\":{boot_ns},\"node\":"
        );
        if !line.starts_with(order.as_bytes()) {
            return Err("its members are not in their order".to_owned());
        }
        if let Some(named) = named
            && named != head.seq
        {
            return Err(format!("record {} begins a segment named for record {named}", head.seq));
        }
        if !first && Some(head.seq) != last_seq.checked_add(1) {
            return Err(format!("record {} follows record {last_seq}", head.seq));
        }
        match prev {
            Some(prev) if prev != head.prev => Err(format!(
                "record {} does not continue the record before it: one of them was changed",
                head.seq
            )),
            None if head.seq == 1 && head.prev != GENESIS => {
                Err("the first record has a predecessor".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn finish(mut self, first: Option<&Segment>) -> Report {
        let file = first.and_then(|segment| segment.path.file_name()).unwrap_or_default();
        let file = file.to_string_lossy().into_owned();
        let at = |message: String| Problem { file: file.clone(), line: 0, message };
        let first_seq = self.report.first_seq;
        if self.report.records == 0 {
            self.report.incomplete.push(at("there are no records".to_owned()));
        } else if first_seq > 1 && self.retained_from < first_seq {
            let message = format!(
                "the log begins with record {first_seq}, and no record says that earlier ones were deleted"
            );
            self.report.incomplete.push(at(message));
        }
        if self.report.expected_head_found == Some(false) {
            let message = "no record has the expected hash: the log was cut or rewritten since it was noted";
            self.report.tampered.push(at(message.to_owned()));
        }
        self.report
    }
}

/// Reads past the end of the line; returns how many bytes.
fn skip_line(reader: &mut impl io::BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let (len, found) = match memchr::memchr(b'\n', buffer) {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        reader.consume(len);
        skipped += len as u64;
        if found || len == 0 {
            return Ok(skipped);
        }
    }
}

fn push(list: &mut Vec<Problem>, problem: Problem) {
    if list.len() < PROBLEMS_MAX {
        list.push(problem);
    }
}

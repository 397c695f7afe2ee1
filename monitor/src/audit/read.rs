//! Reads the log without the writer's lock, also while it is written. [`Lines`] are the lines of one segment; a
//! [`Cursor`] goes through all of them in order and follows the end, whatever becomes of the files meanwhile: segments
//! that are closed, packed or deleted. What is not there any more is told ([`Step::Skipped`]), never passed over in
//! silence. Nothing here judges whether a record is genuine: that is [`super::verify`]'s part.
//!
//! Following looks at the files again and again instead of asking the kernel to tell: two or three `stat` calls each
//! [`POLL`] cost nothing that can be measured, need no limit raised, and work on every file system.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;

use super::LINE_MAX;
use super::segment::{self, Form, Segment};

/// How long it can take until [`Cursor::wait`] sees a new record.
pub const POLL: Duration = Duration::from_millis(50);

/// The log cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Its folder cannot.
    #[error("cannot read the log folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// One of its segments cannot.
    #[error("cannot read the segment {}", path.display())]
    Segment {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// All segments of a folder, oldest first.
pub fn segments(folder: &Path) -> Result<Vec<Segment>, ReadError> {
    segment::list(folder).map_err(|source| ReadError::Folder { path: folder.to_owned(), source })
}

/// The number of a line that has the form of a record: every record begins with it.
pub fn seq_of(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let len = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = rest.split_at(len);
    let is_number = rest.starts_with(b",") && !digits.starts_with(b"0");
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// The number of the log's last record; `None` if there is no record.
pub fn last_seq(folder: &Path) -> Result<Option<u64>, ReadError> {
    Ok(last_line(folder)?.as_deref().and_then(seq_of))
}

/// The line of the log's last record; `None` if there is no record.
pub fn last_line(folder: &Path) -> Result<Option<Vec<u8>>, ReadError> {
    for segment in segments(folder)?.iter().rev() {
        let failed = |source| ReadError::Segment { path: segment.path.clone(), source };
        let mut lines = match Lines::open(segment) {
            // It was deleted or packed meanwhile, so it was not the last.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lines => lines.map_err(failed)?,
        };
        lines.go_near_end().map_err(failed)?;
        let mut last = None;
        loop {
            match lines.next().map_err(failed)? {
                Line::Whole(line) if seq_of(line).is_some() => last = Some(line.to_vec()),
                Line::Whole(_) => {}
                Line::Long(_) => {}
                Line::Half(_) | Line::End => break,
            }
        }
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line, without its newline.
    Whole(&'a [u8]),
    /// A line of so many bytes, more than [`LINE_MAX`] with its newline: no record, and not kept.
    Long(u64),
    /// The segment ends with so many bytes without a newline: a line that is being written, or that a crash has cut.
    Half(u64),
    /// The segment ends here.
    End,
}

/// The lines of one segment, from its beginning.
pub struct Lines {
    source: Source,
    buffer: Vec<u8>,
    /// What of the buffer was not given out.
    unread: Range<usize>,
    /// Where in the segment's plain bytes the unread ones begin.
    offset: u64,
}

enum Source {
    Plain(File),
    Packed(Box<zstd::Decoder<'static, io::BufReader<File>>>),
}

/// As [`Line`], but for the place of a line's bytes in the buffer.
enum Found {
    Whole(Range<usize>),
    Long(u64),
    Half(u64),
    End,
}

/// A frame that needs more memory than 8 MiB to be unpacked is none of ours.
pub(super) const WINDOW_LOG_MAX: u32 = 23;

impl Lines {
    /// Opens a segment.
    pub fn open(segment: &Segment) -> io::Result<Self> {
        match segment.form {
            Form::Plain => Self::open_file(&segment.path),
            Form::Packed => {
                let mut decoder = zstd::Decoder::new(File::open(&segment.path)?)?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Ok(Self::new(Source::Packed(Box::new(decoder))))
            }
        }
    }

    /// Opens another file of lines.
    pub fn open_file(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Source::Plain(File::open(path)?)))
    }

    fn new(source: Source) -> Self {
        Self { source, buffer: vec![0; 128 << 10], unread: 0..0, offset: 0 }
    }

    /// The next line. After [`Line::Half`] and [`Line::End`] a plain segment may have grown.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> io::Result<Line<'_>> {
        Ok(match self.find()? {
            Found::Whole(range) => Line::Whole(&self.buffer[range]),
            Found::Long(len) => Line::Long(len),
            Found::Half(len) => Line::Half(len),
            Found::End => Line::End,
        })
    }

    /// Where the next line begins in the segment's plain bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn find(&mut self) -> io::Result<Found> {
        let mut searched = 0;
        loop {
            let Range { start, end } = self.unread;
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[start + searched..end]) {
                let len = searched + at;
                self.pass(len + 1);
                return Ok(if len < LINE_MAX {
                    Found::Whole(start..start + len)
                } else {
                    Found::Long(len as u64 + 1)
                });
            }
            searched = self.unread.len();
            if searched >= LINE_MAX {
                return self.pass_long();
            }
            if !self.fill()? {
                return Ok(if searched == 0 { Found::End } else { Found::Half(searched as u64) });
            }
        }
    }

    fn pass(&mut self, len: usize) {
        self.unread.start += len;
        self.offset += len as u64;
    }

    /// Takes back the line that was found last.
    fn put_back(&mut self, line: &Range<usize>) {
        self.offset -= line.len() as u64 + 1;
        self.unread.start = line.start;
    }

    /// Passes over a line that is too long, without keeping it.
    fn pass_long(&mut self) -> io::Result<Found> {
        let start = self.offset;
        loop {
            let newline = memchr::memchr(b'\n', &self.buffer[self.unread.clone()]);
            self.pass(newline.map_or(self.unread.len(), |at| at + 1));
            if newline.is_some() || !self.fill()? {
                return Ok(Found::Long(self.offset - start));
            }
        }
    }

    /// Reads more into the buffer; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let room = &mut self.buffer[self.unread.end..];
        let read = loop {
            let read = match &mut self.source {
                Source::Plain(file) => file.read(room),
                Source::Packed(decoder) => decoder.read(room),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.unread.end += read;
        Ok(read > 0)
    }

    /// Forgets half a line that was read, since its rest may come or it may be cut off; it is read again.
    fn forget_half(&mut self) -> io::Result<()> {
        if let Source::Plain(file) = &mut self.source {
            self.unread = 0..0;
            file.seek(SeekFrom::Start(self.offset))?;
        }
        Ok(())
    }

    /// Passes over all but the end of a plain segment, at least one whole line of it.
    fn go_near_end(&mut self) -> io::Result<()> {
        if let Source::Plain(file) = &mut self.source {
            let len = file.metadata()?.len();
            self.offset = file.seek(SeekFrom::Start(len.saturating_sub(2 * LINE_MAX as u64)))?;
            self.unread = 0..0;
        }
        Ok(())
    }

    /// The length of the file, if it is one that grows.
    fn file_len(&self) -> io::Result<Option<u64>> {
        match &self.source {
            Source::Plain(file) => Ok(Some(file.metadata()?.len())),
            Source::Packed(_) => Ok(None),
        }
    }
}

/// What a [`Cursor`] meets.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record.
    Record {
        /// Its number.
        seq: u64,
        /// Its line without the newline.
        line: &'a [u8],
    },
    /// These records are not in the log: old segments were deleted, or something is missing.
    Skipped {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// Something is there that is no record in its place: no whole line, too long a line, another text, or a record whose
    /// number was passed already.
    Damaged {
        /// In this segment.
        segment: PathBuf,
        /// At this place of its plain bytes.
        offset: u64,
        /// So many bytes; `None` if all that follows in the segment cannot be unpacked.
        bytes: Option<u64>,
    },
    /// There is nothing more for now.
    End,
}

/// A place in the log, from which records are read in order, each once.
pub struct Cursor {
    folder: PathBuf,
    next: u64,
    /// Records behind this one are not given out yet.
    limit: u64,
    open: Option<Open>,
    /// The segment that was read last, to its end.
    done: Option<u64>,
    /// How the log looked before it was read to its end.
    seen: Look,
}

struct Open {
    segment: Segment,
    lines: Lines,
    /// The first record of the next segment, which no record here reaches.
    bound: u64,
    /// Lines before the cursor's place are not of interest.
    is_seeking: bool,
    /// Nothing is written to it any more.
    is_closed: bool,
}

/// What shows that something was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    len: Option<u64>,
    /// The segment that would come next is there.
    has_next: bool,
    /// When something was created, renamed or deleted.
    folder_time: Option<SystemTime>,
}

impl Cursor {
    /// A cursor whose first record is number `from` (numbers begin with 1). It does not matter whether that record is
    /// there yet, or any more.
    pub fn new(folder: &Path, from: u64) -> Self {
        let (folder, next) = (folder.to_owned(), from.max(1));
        Self { folder, next, limit: u64::MAX, open: None, done: None, seen: Look::default() }
    }

    /// The number of the record that comes next: what to keep in order to go on later.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// From now on no record behind number `limit` is given out. Who runs beside the writer sets it to the last record
    /// that is durable, since one that is not can still be taken back.
    pub fn set_limit(&mut self, limit: u64) {
        // What was read ahead of the old limit may have been taken back meanwhile, and others be in its place.
        if self.limit != limit
            && let Some(open) = &mut self.open
            && open.lines.forget_half().is_err()
        {
            self.open = None;
        }
        self.limit = limit;
    }

    /// Goes one step. Never waits.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Result<Step<'_>, ReadError> {
        let (seq, line) = loop {
            if self.next > self.limit {
                return Ok(Step::End);
            }
            let Some(open) = &mut self.open else {
                if self.open_segment()? {
                    continue;
                }
                return Ok(Step::End);
            };
            let offset = open.lines.offset();
            let (bytes, line) = match open.lines.find() {
                Ok(Found::Whole(line)) => (line.len() as u64 + 1, line),
                Ok(Found::Long(len)) => (len, 0..0),
                Ok(Found::Half(_) | Found::End) if !open.is_closed => {
                    if self.look_again()? {
                        continue;
                    }
                    return Ok(Step::End);
                }
                Ok(Found::End) => {
                    self.leave();
                    continue;
                }
                Ok(Found::Half(len)) => {
                    return Ok(Step::Damaged { segment: self.leave(), offset, bytes: Some(len) });
                }
                // What the disk gave cannot be unpacked.
                Err(error) if open.segment.form == Form::Packed && error.raw_os_error().is_none() => {
                    return Ok(Step::Damaged { segment: self.leave(), offset, bytes: None });
                }
                Err(source) => {
                    return Err(ReadError::Segment { path: open.segment.path.clone(), source });
                }
            };
            match seq_of(&open.lines.buffer[line.clone()]) {
                Some(seq) if seq == self.next && seq < open.bound => {
                    open.is_seeking = false;
                    break (seq, line);
                }
                Some(seq) if seq > self.next && seq < open.bound => {
                    // The record itself is for the next step.
                    open.is_seeking = false;
                    open.lines.put_back(&line);
                    let from = std::mem::replace(&mut self.next, seq);
                    return Ok(Step::Skipped { from, to: seq - 1 });
                }
                seq if open.is_seeking && seq < Some(self.next) => {}
                _ => {
                    let segment = open.segment.path.clone();
                    return Ok(Step::Damaged { segment, offset, bytes: Some(bytes) });
                }
            }
        };
        self.next = seq + 1;
        Ok(match &self.open {
            Some(open) => Step::Record { seq, line: &open.lines.buffer[line] },
            None => Step::End,
        })
    }

    /// Is done with the open segment.
    fn leave(&mut self) -> PathBuf {
        let Some(Open { segment, .. }) = self.open.take() else { return PathBuf::new() };
        self.done = Some(segment.first);
        self.seen = Look::default();
        segment.path
    }

    /// Waits until there may be more, or the time is over; `false` if it is.
    pub fn wait(&self, timeout: Duration) -> Result<bool, ReadError> {
        let deadline = Instant::now() + timeout;
        loop {
            let is_held = self.next > self.limit;
            if !is_held && self.look()? != self.seen {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(POLL));
            // Only the caller knows whether the limit has moved.
            if is_held {
                return Ok(true);
            }
        }
    }

    fn look(&self) -> Result<Look, ReadError> {
        let len = match &self.open {
            Some(Open { lines, segment, .. }) => lines
                .file_len()
                .map_err(|source| ReadError::Segment { path: segment.path.clone(), source })?,
            None => None,
        };
        let folder_time = self.folder.metadata().and_then(|found| found.modified());
        let folder_time =
            folder_time.map_err(|source| ReadError::Folder { path: self.folder.clone(), source })?;
        let has_next = Segment::new(&self.folder, self.next).path.exists();
        Ok(Look { len, has_next, folder_time: Some(folder_time) })
    }

    /// At the end of a segment that may be written: whether it is worth reading on.
    fn look_again(&mut self) -> Result<bool, ReadError> {
        let look = self.look()?;
        let before = std::mem::replace(&mut self.seen, look);
        let Some(open) = &mut self.open else { return Ok(true) };
        let failed = |source| ReadError::Segment { path: open.segment.path.clone(), source };
        open.lines.forget_half().map_err(failed)?;
        if look == before {
            return Ok(false);
        }
        if look.len < Some(open.lines.offset()) {
            // The writer could not make records durable and took them back.
            self.open = None;
            return Ok(true);
        }
        if look.has_next || look.folder_time != before.folder_time {
            let first = open.segment.first;
            // One more read to its end, now that it cannot grow any more.
            open.is_closed = segments(&self.folder)?.last().is_some_and(|last| last.first > first);
        }
        Ok(true)
    }

    /// Opens the segment that the next record is in, or the first one behind it; `false` if there is none.
    fn open_segment(&mut self) -> Result<bool, ReadError> {
        let look = self.look()?;
        if self.done.is_some() && look == self.seen {
            return Ok(false);
        }
        self.seen = look;
        let segments = segments(&self.folder)?;
        let left = &segments[segments.partition_point(|segment| Some(segment.first) <= self.done)..];
        let at = left.partition_point(|segment| segment.first <= self.next).saturating_sub(1);
        let Some(segment) = left.get(at) else { return Ok(false) };
        let lines = match Lines::open(segment) {
            // Packed or deleted since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.seen = Look::default();
                return Ok(true);
            }
            lines => lines.map_err(|source| ReadError::Segment { path: segment.path.clone(), source })?,
        };
        self.open = Some(Open {
            bound: left.get(at + 1).map_or(u64::MAX, |next| next.first),
            is_seeking: segment.first < self.next,
            is_closed: segment.form == Form::Packed || at + 1 < left.len(),
            segment: segment.clone(),
            lines,
        });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;
    use crate::audit::archive::{closed, pack};
    use crate::audit::tests::{bodies, options, write};

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    fn append(segment: &Segment, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(&segment.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn records(seqs: Range<u64>) -> String {
        seqs.map(|seq| format!("{{\"seq\":{seq},\"prev\":\"\"}}\n")).collect()
    }

    /// The next step, in short.
    fn step(cursor: &mut Cursor) -> String {
        match cursor.next().unwrap() {
            Step::Record { seq, line } => {
                assert_eq!(seq_of(line), Some(seq));
                seq.to_string()
            }
            Step::Skipped { from, to } => format!("{from}-{to}"),
            Step::Damaged { offset, bytes, .. } => format!("{bytes:?}@{offset}"),
            Step::End => "end".to_owned(),
        }
    }

    /// All steps up to the end.
    fn steps(cursor: &mut Cursor) -> String {
        let mut steps = Vec::new();
        while steps.last().is_none_or(|last| last != "end") {
            steps.push(step(cursor));
        }
        steps.join(" ")
    }

    #[test]
    fn cursor_goes_through_all_segments_from_any_record_on() {
        let folder = tempfile::tempdir().unwrap();
        for first in [1, 4, 7] {
            append(&Segment::new(folder.path(), first), &records(first..first + 3));
        }
        pack(&Segment::new(folder.path(), 4)).unwrap();
        let all = "1 2 3 4 5 6 7 8 9 end";
        for from in 1..=9 {
            let mut cursor = Cursor::new(folder.path(), from);
            assert_eq!(steps(&mut cursor), all[2 * (from as usize - 1)..]);
            assert_eq!(cursor.position(), 10);
        }
        assert_eq!(steps(&mut Cursor::new(folder.path(), 10)), "end");
        assert_eq!(last_seq(folder.path()).unwrap(), Some(9));
    }

    #[test]
    fn half_a_line_is_given_out_once_its_newline_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::new(folder.path(), 1);
        let mut cursor = Cursor::new(folder.path(), 1);
        assert_eq!(steps(&mut cursor), "end");
        let text = records(1..3);
        for byte in text.chars().map(String::from) {
            append(&segment, &byte);
            assert!(cursor.wait(LONG).unwrap());
            let told = steps(&mut cursor);
            assert_eq!(told.contains(' '), byte == "\n", "{told}");
            assert!(!cursor.wait(SHORT).unwrap());
        }
        assert_eq!(cursor.position(), 3);
    }

    #[test]
    fn half_a_line_that_a_crash_left_is_told_and_one_that_was_cut_off_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::new(folder.path(), 1);
        append(&segment, &(records(1..3) + "{\"seq\":3,\"pr"));
        let mut cursor = Cursor::new(folder.path(), 1);
        assert_eq!(steps(&mut cursor), "1 2 end");
        let mut other = Cursor::new(folder.path(), 1);
        assert_eq!(steps(&mut other), "1 2 end");
        // The next writer cuts it off.
        let len = records(1..3).len() as u64;
        OpenOptions::new().write(true).open(&segment.path).unwrap().set_len(len).unwrap();
        append(&segment, &(records(3..4) + "{\"seq\":4,"));
        assert_eq!(steps(&mut cursor), "3 end");
        append(&Segment::new(folder.path(), 4), &records(4..5));
        assert_eq!(steps(&mut cursor), format!("Some(9)@{} 4 end", records(1..4).len()));
    }

    #[test]
    fn what_retention_deleted_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let segments = [1, 4, 7, 10].map(|first| Segment::new(folder.path(), first));
        for segment in &segments[..3] {
            append(segment, &records(segment.first..segment.first + 3));
        }
        let mut cursor = Cursor::new(folder.path(), 1);
        assert_eq!(step(&mut cursor), "1");
        segments[0].remove().unwrap();
        segments[1].remove().unwrap();
        // The file that is open can be read to its end.
        assert_eq!(steps(&mut cursor), "2 3 4-6 7 8 9 end");
        assert_eq!(steps(&mut Cursor::new(folder.path(), 2)), "2-6 7 8 9 end");
        segments[2].remove().unwrap();
        append(&segments[3], &records(10..11));
        assert_eq!(steps(&mut Cursor::new(folder.path(), 2)), "2-9 10 end");
        assert_eq!(steps(&mut cursor), "10 end");
    }

    #[test]
    fn what_is_no_record_in_its_place_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(LINE_MAX);
        let text = format!("{}{long}\nno\n{}", records(1..2), records(1..2));
        append(&Segment::new(folder.path(), 1), &(text + &records(4..5) + &records(900..901)));
        append(&Segment::new(folder.path(), 5), &records(5..6));
        let after = records(1..2).len() as u64;
        let (no, twice) = (after + LINE_MAX as u64 + 1, after + LINE_MAX as u64 + 4);
        let far = twice + 2 * after;
        assert_eq!(
            steps(&mut Cursor::new(folder.path(), 1)),
            format!(
                "1 Some({})@{after} Some(3)@{no} Some({after})@{twice} 2-3 4 Some({})@{far} 5 end",
                LINE_MAX + 1,
                after + 2,
            )
        );
    }

    #[test]
    fn records_that_are_not_durable_are_held_back_and_may_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::new(folder.path(), 1);
        append(&segment, &records(1..6));
        let (mut cursor, mut other) = (Cursor::new(folder.path(), 1), Cursor::new(folder.path(), 1));
        cursor.set_limit(2);
        assert_eq!(steps(&mut cursor), "1 2 end");
        assert_eq!(steps(&mut other), "1 2 3 4 5 end");
        let file = OpenOptions::new().write(true).open(&segment.path).unwrap();
        file.set_len(records(1..3).len() as u64).unwrap();
        assert!(other.wait(LONG).unwrap());
        assert_eq!(steps(&mut other), "end");
        append(&segment, &records(3..4));
        cursor.set_limit(3);
        assert!(cursor.wait(LONG).unwrap());
        assert_eq!(steps(&mut cursor), "3 end");
        append(&segment, &records(4..8));
        assert_eq!(steps(&mut other), "6 7 end");
    }

    #[test]
    fn damaged_frames_are_told_whatever_the_damage() {
        let folder = tempfile::tempdir().unwrap();
        let segment = Segment::new(folder.path(), 1);
        append(&segment, &records(1..200));
        pack(&segment).unwrap();
        append(&Segment::new(folder.path(), 200), &records(200..201));
        let good = std::fs::read(segment.packed().path).unwrap();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                std::fs::write(segment.packed().path, &bad).unwrap();
                let (mut cursor, mut next, mut damaged) = (Cursor::new(folder.path(), 1), 1, false);
                let mut told = 0;
                loop {
                    match cursor.next().unwrap() {
                        Step::Record { seq, .. } => {
                            assert_eq!(seq, next);
                            next += 1;
                            told += 1;
                        }
                        Step::Skipped { from, to } => {
                            assert_eq!(from, next);
                            next = to + 1;
                        }
                        Step::Damaged { .. } => damaged = true,
                        Step::End => break,
                    }
                }
                // One bit of a frame's head means nothing.
                assert!(damaged || told == 200, "byte {at}, bit {bit} of {}", good.len());
                assert_eq!(next, 201);
            }
        }
    }

    #[test]
    fn cursor_has_each_record_while_they_are_written_packed_and_closed() {
        const RECORDS: usize = 400;
        const RUNS: usize = 30;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut options = options(path);
        options.policy.segment_bytes = 16 << 10;
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                for _ in 0..RUNS {
                    write(options.clone(), bodies(RECORDS));
                }
            });
            scope.spawn(move || {
                while !writer.is_finished() {
                    for segment in closed(path).unwrap_or_default() {
                        pack(&segment).unwrap();
                    }
                }
            });
            let mut cursor = Cursor::new(path, 1);
            while cursor.position() <= (RUNS * RECORDS) as u64 {
                let next = cursor.position();
                match cursor.next().unwrap() {
                    Step::Record { seq, .. } => assert_eq!(seq, next),
                    Step::End => assert!(cursor.wait(LONG).unwrap()),
                    other => panic!("{other:?}"),
                }
            }
        });
        assert!(segments(path).unwrap().len() >= RUNS / 2);
    }
}

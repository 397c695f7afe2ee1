//! A place in the log, from which all segments are read in order, whatever becomes of the files meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::super::segment::{Form, Segment};
use super::{Found, Lines, POLL, ReadError, segments, seq_of};

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
        // What fails from here on is tried again, though nothing changes.
        let before = std::mem::take(&mut self.seen);
        let Some(open) = &mut self.open else { return Ok(true) };
        let failed = |source| ReadError::Segment { path: open.segment.path.clone(), source };
        open.lines.forget_half().map_err(failed)?;
        if look == before {
            self.seen = look;
            return Ok(false);
        }
        if look.len < Some(open.lines.offset()) {
            // The writer could not make records durable and took them back.
            (self.open, self.seen) = (None, look);
            return Ok(true);
        }
        if look.has_next || look.folder_time != before.folder_time {
            let first = open.segment.first;
            // One more read to its end, now that it cannot grow any more.
            open.is_closed = segments(&self.folder)?.last().is_some_and(|last| last.first > first);
        }
        self.seen = look;
        Ok(true)
    }

    /// Opens the segment that the next record is in, or the first one behind it; `false` if there is none.
    fn open_segment(&mut self) -> Result<bool, ReadError> {
        let look = self.look()?;
        if self.done.is_some() && look == self.seen {
            return Ok(false);
        }
        // See `look_again`.
        self.seen = Look::default();
        let segments = segments(&self.folder)?;
        let left = &segments[segments.partition_point(|segment| Some(segment.first) <= self.done)..];
        let at = left.partition_point(|segment| segment.first <= self.next).saturating_sub(1);
        let Some(segment) = left.get(at) else {
            self.seen = look;
            return Ok(false);
        };
        let lines = match Lines::open(segment) {
            // Packed or deleted since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            lines => lines.map_err(|source| ReadError::Segment { path: segment.path.clone(), source })?,
        };
        self.seen = look;
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

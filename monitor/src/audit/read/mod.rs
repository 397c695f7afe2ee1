//! Reads the log without the writer's lock, also while it is written. [`Lines`] are the lines of one segment; a
//! [`Cursor`] goes through all of them in order and follows the end, whatever becomes of the files meanwhile: segments
//! that are closed, packed or deleted. What is not there any more is told ([`Step::Skipped`]), never passed over in
//! silence. Nothing here judges whether a record is genuine: that is [`super::verify`]'s part.
//!
//! Following looks at the files again and again instead of asking the kernel to tell: two or three `stat` calls each
//! [`POLL`] cost nothing that can be measured, need no limit raised, and work on every file system.

mod cursor;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::LINE_MAX;
use super::segment::{self, Form, Segment};

pub use cursor::{Cursor, Step};

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

#[cfg(test)]
mod tests;

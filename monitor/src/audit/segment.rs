//! Segments: files named by the sequence number of their first record.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Digits in a name: enough for any 64-bit number, so that names sort as numbers do.
const DIGITS: usize = 20;

/// How a segment is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// `N.ndjson`: lines as they were written.
    Plain,
    /// `N.ndjson.zst`: the same bytes as zstd frames, one behind the other.
    Packed,
}

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Sequence number of its first record.
    pub first: u64,
    /// How it is kept.
    pub form: Form,
    /// Where it is.
    pub path: PathBuf,
}

impl Segment {
    /// The plain segment that starts with a record.
    pub fn new(folder: &Path, first: u64) -> Self {
        Self { first, form: Form::Plain, path: folder.join(format!("{first:0DIGITS$}.ndjson")) }
    }

    /// The same segment in its other form.
    pub fn packed(&self) -> Self {
        Self { first: self.first, form: Form::Packed, path: self.sibling("ndjson.zst") }
    }

    /// Where its skip index is, if there is one.
    pub fn index_path(&self) -> PathBuf {
        self.sibling("idx")
    }

    /// Deletes it, with its index.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)?;
        match std::fs::remove_file(self.index_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sibling(&self, extension: &str) -> PathBuf {
        self.path.with_file_name(format!("{:0DIGITS$}.{extension}", self.first))
    }
}

/// All segments of a folder, oldest first. Other files are passed over. Of a segment that is there in both forms, since
/// its plain form is about to go, that one is told.
pub fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some((number, extension)) = name.and_then(|name| name.split_once('.'))
            && let Some(form) = form_of(extension)
            && number.len() == DIGITS
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(first) = number.parse()
            && entry.file_type()?.is_file()
        {
            segments.push(Segment { first, form, path });
        }
    }
    segments.sort();
    segments.dedup_by_key(|segment| segment.first);
    Ok(segments)
}

fn form_of(extension: &str) -> Option<Form> {
    match extension {
        "ndjson" => Some(Form::Plain),
        "ndjson.zst" => Some(Form::Packed),
        _ => None,
    }
}

/// Makes what was created, renamed or deleted in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

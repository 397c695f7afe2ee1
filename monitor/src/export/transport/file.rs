//! Standard output, and a file that is appended to: one event a line. A file that somebody has moved away (as logrotate
//! does) is made anew. A batch counts as taken when it is on the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Batch, Failure, Receiver, Sending, Stage, Transport};

pub static STDOUT: Receiver = Receiver {
    scheme: "stdout",
    about: "`stdout:`: standard output, one event a line.",
    open: |_| Box::pin(async { Ok(Box::new(Stdout) as Box<dyn Transport>) }),
    ..FILE
};

pub static FILE: Receiver = Receiver {
    scheme: "file",
    about: "`file:///var/log/events.json`: a file that is appended to, one event a line. Moved away, it is made anew.",
    format: "json",
    takes: |format| format.name != "otlp",
    port: 0,
    max_event_bytes: crate::audit::LINE_MAX,
    batch_wait: Duration::ZERO,
    open: |settings| {
        let path =
            settings.to.to_file_path().map_err(|()| Failure::new(Stage::Settings, "the address is no path"));
        Box::pin(async move { Ok(Box::new(Appended { path: path?, file: None }) as Box<dyn Transport>) })
    },
};

struct Stdout;

impl Transport for Stdout {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        let written = io::stdout().lock().write_all(&lines(batch)).and_then(|()| io::stdout().flush());
        Box::pin(
            async move { written.map(|()| Vec::new()).map_err(|error| Failure::new(Stage::Accepted, error)) },
        )
    }
}

struct Appended {
    path: PathBuf,
    file: Option<File>,
}

impl Transport for Appended {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        let written = self.append(&lines(batch));
        let failed = |error| Failure::new(Stage::Accepted, format_args!("{}: {error}", self.path.display()));
        let written = written.map(|()| Vec::new()).map_err(failed);
        Box::pin(async move { written })
    }
}

impl Appended {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let file = match self.file.take().filter(|file| is_at(file, &self.path)) {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
                end_line(&self.path, &file)?;
                file
            }
        };
        let before = file.metadata()?.len();
        let written = (&file).write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() && file.metadata().is_ok_and(|now| now.is_file()) {
            // Half a batch would be there twice in the end, and half a line would break a reader.
            let _ = file.set_len(before);
        }
        self.file = Some(file);
        written
    }
}

/// Half a line, as a crash leaves one, must not spoil the next one.
fn end_line(path: &Path, mut file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, found.len() - 1)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// Whether the file is still the one at that path.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
    matches!((file.metadata(), path.metadata()), (Ok(file), Ok(there)) if identity(file.clone()) == identity(there.clone()))
}

fn lines(batch: &Batch) -> Vec<u8> {
    let mut lines = Vec::with_capacity(batch.bytes.len() + batch.events.len());
    for (_, bytes) in batch.iter() {
        lines.extend_from_slice(bytes);
        lines.push(b'\n');
    }
    lines
}

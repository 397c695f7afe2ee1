//! Writes checkpoints to a second path, best on another machine or on a medium that cannot be written twice: they say later
//! what the log was. A thread of its own does it, since such a path may hang and the log must not.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::trouble::Troubles;

/// What it is called in the log.
const WHAT: &str = "anchor";

/// Checkpoints that may wait; those that find no place are counted.
const WAITING_MAX: usize = 64;

/// How long the end of the daemon waits for the last checkpoints.
const PATIENCE: Duration = Duration::from_secs(2);

/// The second path.
pub struct Anchor {
    lines: Option<SyncSender<Vec<u8>>>,
    troubles: Troubles,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
}

impl Anchor {
    /// Starts the thread.
    pub fn start(path: PathBuf, troubles: Troubles) -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<Vec<u8>>(WAITING_MAX);
        let (alive, ended) = sync_channel(0);
        let theirs = troubles.clone();
        std::thread::Builder::new().name("anchor".to_owned()).spawn(move || {
            let _alive = alive;
            for line in waiting {
                if let Err(error) = append(&path, &line) {
                    theirs.add(WHAT, &error);
                }
            }
        })?;
        Ok(Self { lines: Some(lines), troubles, ended })
    }

    /// Writes a line there, some time.
    pub fn send(&self, line: &[u8]) {
        let sent = self.lines.as_ref().map(|lines| lines.try_send(line.to_owned()));
        if let Some(Err(error)) = sent {
            self.troubles.add(WHAT, &error);
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.lines = None;
        // That it hung up, or that it does not in time: both are the end.
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

/// The file is opened anew each time: it may be rotated or mounted away.
fn append(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut last = *b"\n";
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    // Half a line of a write that failed must not spoil this one.
    let bytes = if last == *b"\n" { line.to_owned() } else { [b"\n", line].concat() };
    file.write_all(&bytes)?;
    file.sync_data()
}

//! The log as the daemon holds it: opened alone, appended to from any thread, closed in good order.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::disk::{Disk, RealDisk};
use super::queue::{Entry, Shared, Stats};
use super::writer::Writer;
use crate::event::text::escaped;

/// Where to write, and as whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder; it is made if it is not there.
    pub folder: PathBuf,
    /// This node's name.
    pub node: String,
    /// This boot's id.
    pub boot_id: String,
    /// How.
    pub policy: Policy,
    pub(super) disk: Arc<dyn Disk>,
    /// How long to wait before the disk is tried again.
    pub(super) retry: Duration,
}

impl Options {
    /// With the default policy.
    pub fn new(folder: PathBuf, node: String, boot_id: String) -> Self {
        let (policy, retry) = (Policy::default(), Duration::from_millis(500));
        Self { folder, node, boot_id, policy, disk: Arc::new(RealDisk), retry }
    }
}

/// How to write. Zero means "never" or "no limit", where it makes sense.
#[derive(Clone, Debug)]
pub struct Policy {
    /// A segment that has grown to this many bytes is closed.
    pub segment_bytes: u64,
    /// So is one that is this old.
    pub segment_age: Duration,
    /// Closed segments beyond this many bytes in all are deleted, oldest first.
    pub retention_bytes: u64,
    /// So are those that were written to last this long ago.
    pub retention_age: Duration,
    /// Records wait at most this long for others before they are made durable.
    pub commit_interval: Duration,
    /// There is a checkpoint behind this many records at the latest.
    pub checkpoint_records: u64,
    /// And this long after a record at the latest.
    pub checkpoint_interval: Duration,
    /// While nothing happens there is one this often.
    pub heartbeat: Duration,
    /// A key signs for this long.
    pub key_interval: Duration,
    /// Folder of the secret keys; `None` is `keys` in the log's folder.
    pub key_folder: Option<PathBuf>,
    /// Checkpoints are written to this file too.
    pub anchor: Option<PathBuf>,
    /// Less than so many free bytes is a full disk.
    pub min_free_bytes: u64,
    /// What is done then.
    pub full_disk: FullDisk,
    /// Whether closed segments are packed.
    pub pack: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segment_age: Duration::from_secs(86_400),
            retention_bytes: 1 << 30,
            retention_age: Duration::ZERO,
            commit_interval: Duration::from_millis(50),
            checkpoint_records: 10_000,
            checkpoint_interval: Duration::from_secs(10),
            heartbeat: Duration::from_secs(60),
            key_interval: Duration::from_secs(3600),
            key_folder: None,
            anchor: None,
            min_free_bytes: 64 << 20,
            full_disk: FullDisk::StopEvents,
            pack: true,
        }
    }
}

/// What is done when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullDisk {
    /// The oldest segments are deleted.
    DropOldest,
    /// Events are counted instead of recorded; alerts and all else go on.
    StopEvents,
}

impl FullDisk {
    /// All of them.
    pub const ALL: [FullDisk; 2] = [FullDisk::DropOldest, FullDisk::StopEvents];

    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            FullDisk::DropOldest => "drop_oldest",
            FullDisk::StopEvents => "stop_events",
        }
    }
}

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder, or that of the keys, cannot be made, or used.
    #[error("cannot use the log folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others may write there.
    #[error("others may write to {} (mode {mode:03o})", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another process writes there.
    #[error("another taffrail (pid {holder}) writes to {}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// That process.
        holder: String,
    },
    /// The secrets there are those of another log.
    #[error("the keys in {} are those of the log {log}", path.display())]
    Keys {
        /// The folder of the secrets.
        path: PathBuf,
        /// The other log.
        log: String,
    },
    /// The log that is there cannot be read.
    #[error("cannot go on with the log in {}", path.display())]
    Recover {
        /// The segment.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            OpenError::Folder { .. } => {
                "choose another folder with `-o log.dir=PATH`, or run as a user who may write there"
            }
            OpenError::Open { .. } => "take the right to write from group and others: `chmod go-w FOLDER`",
            OpenError::Locked { .. } => "stop the other one, or choose another folder with `-o log.dir=PATH`",
            OpenError::Keys { .. } => {
                "give each log its own `log.key_dir`; if that log was moved here, delete the file `log` beside its keys"
            }
            OpenError::Recover { .. } => {
                "check the disk; `taffrail audit verify` shows how far the log can be read"
            }
        }
    }
}

/// The log could not be closed in good order.
#[derive(Debug, Error)]
#[error("{records} records could not be written to the log")]
pub struct CloseError {
    /// How many records are missing at the end.
    pub records: u64,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The log, open for writing.
pub struct Log {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Option<io::Error>>>,
    /// Public key of the epoch in which the log was opened, as hex digits.
    key: String,
    /// Holds the locks: of the log, and of its keys if they are elsewhere.
    _locks: (File, Option<File>),
}

impl Log {
    /// Opens the log of a folder for writing, alone.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let folder = options.folder.clone();
        let unusable = |source| OpenError::Folder { path: folder.clone(), source };
        make_folder(&folder).map_err(unusable)?;
        let mode = folder.metadata().map_err(unusable)?.mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(OpenError::Open { path: folder, mode });
        }
        let keys = options.policy.key_folder.clone();
        let locks = (lock(&folder)?, keys.map(|keys| lock_keys(&keys, &folder)).transpose()?);
        let shared = Arc::new(Shared::default());
        let writer = Writer::open(options, Arc::clone(&shared))?;
        let key = crate::rules::hex(&writer.public_key());
        let thread = std::thread::Builder::new()
            .name("record".to_owned())
            .spawn(move || writer.run())
            .map_err(unusable)?;
        Ok(Self { shared, thread: Some(thread), key, _locks: locks })
    }

    /// Adds a record. Waits while the disk is far behind.
    pub fn append(&self, entry: Entry<'_>) {
        self.shared.append(&entry);
    }

    /// How far the log is durable, for those who read it meanwhile.
    pub fn durable(&self) -> Durable {
        Durable(Arc::clone(&self.shared))
    }

    /// What the log has done.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// The public key that signed when the log was opened: what to note elsewhere.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Writes what is waiting, makes it durable and ends.
    pub fn close(mut self) -> Result<(), CloseError> {
        let error = self.end();
        match error {
            None => Ok(()),
            Some(source) => {
                let records = self.shared.stats.failed.load(Ordering::Relaxed);
                Err(CloseError { records, source })
            }
        }
    }

    fn end(&mut self) -> Option<io::Error> {
        self.shared.close();
        let thread = self.thread.take()?;
        thread.join().unwrap_or_else(|_| Some(io::Error::other("the writing thread failed")))
    }
}

/// Tells how far the log is durable, also when it is closed.
#[derive(Clone)]
pub struct Durable(Arc<Shared>);

impl Durable {
    /// The number of the last record that cannot be taken back.
    pub fn seq(&self) -> u64 {
        self.0.stats.durable_seq.load(Ordering::Acquire)
    }

    /// What the log has done.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// Bytes of records that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.0.queued_bytes()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes a folder that is nobody else's business, if it is not there.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The file that a writer locks.
const LOCK: &str = "lock";

/// How long to try for the lock: who verifies the log holds it for a moment, to see whether it is held.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// Takes the folder's lock file, and leaves our pid in it for others to see.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Folder { path: folder.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(LOCK))
        .map_err(unusable)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(OpenError::Locked { path: folder.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
    Ok(file)
}

/// Takes a folder of secrets for one log alone: what another one makes of the same numbers would be the end of this one's.
fn lock_keys(keys: &Path, log: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Folder { path: keys.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(keys).map_err(unusable)?;
    let log = log.canonicalize().map_err(unusable)?;
    if keys.canonicalize().map_err(unusable)? == log {
        return Err(unusable(io::Error::other(
            "the keys need a folder of their own, which may be in the log's",
        )));
    }
    let lock = lock(keys)?;
    let mut own = log.into_os_string().into_vec();
    own.push(b'\n');
    let path = keys.join("log");
    match std::fs::read(&path) {
        Ok(known) if known == own => {}
        // Without its end it was not written to the end.
        Ok(known) if known.ends_with(b"\n") => {
            let log = escaped(known.trim_ascii_end());
            return Err(OpenError::Keys { path: keys.to_owned(), log });
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {
            std::fs::write(&path, &own).map_err(unusable)?;
            for durable in [&path, keys] {
                File::open(durable).and_then(|file| file.sync_all()).map_err(unusable)?;
            }
        }
    }
    Ok(lock)
}

/// Whether somebody writes to the log of a folder now.
pub fn is_being_written(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

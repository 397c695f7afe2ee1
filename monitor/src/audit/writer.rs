//! Writes the log. [`Log::append`] hands records to one thread, which chains them, writes them in batches and
//! makes each batch durable with one `fdatasync`. When the disk is slow, `append` waits, the kernel's rings
//! fill, and loss is counted there. When the disk fails, the thread keeps trying: alerts are kept in bounded
//! memory, events are counted, and the first thing that is written when it works again says so.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::recover::{Chain, find_end, set_aside};
use super::segment::{self, Segment};
use super::{GENESIS, LINE_MAX, RecordKind};
use crate::clock::{self, Clock};
use crate::event::text::json_string;
use crate::rules::hex;

/// How to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder; it is made if it is not there.
    pub folder: PathBuf,
    /// A segment that has grown to this many bytes is closed.
    pub segment_bytes: u64,
    /// Closed segments beyond this many bytes in all are deleted, oldest first; 0 keeps all.
    pub retention_bytes: u64,
    /// Records wait at most this long for others before they are made durable.
    pub commit_interval: Duration,
    /// This node's name.
    pub node: String,
    /// This boot's id.
    pub boot_id: String,
}

/// One record to be.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What it is about.
    pub kind: RecordKind,
    /// When, by the wall clock, in ns since 1970.
    pub time_ns: u64,
    /// When, by the boot clock, in ns.
    pub boot_ns: u64,
    /// JSON members without outer braces; may be empty.
    pub body: &'a [u8],
}

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder cannot be made, or used.
    #[error("cannot use the log folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process writes there.
    #[error("another taffrail (pid {holder}) writes to {}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// That process.
        holder: String,
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
            OpenError::Locked { .. } => "stop the other one, or choose another folder with `-o log.dir=PATH`",
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

/// What the log has done; all counters only grow.
#[derive(Debug, Default)]
pub struct Stats {
    /// Sequence number of the last record that is durable.
    pub durable_seq: AtomicU64,
    /// How many of the entries that were handed in are durable, or told as lost.
    pub settled: AtomicU64,
    /// Bytes written.
    pub bytes: AtomicU64,
    /// Times that a batch was made durable.
    pub commits: AtomicU64,
    /// Records that could not be written.
    pub failed: AtomicU64,
}

/// The log, open for writing.
pub struct Log {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Option<io::Error>>>,
    /// Holds the lock.
    _lock: File,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something was added, or room was made.
    changed: Condvar,
    stats: Stats,
}

#[derive(Default)]
struct Queue {
    frames: Vec<u8>,
    /// Something in it must not wait.
    urgent: bool,
    closed: bool,
}

/// Bytes that may wait for the writing thread.
const QUEUE_MAX: usize = 8 << 20;

/// Bytes of alerts that are kept while the disk does not work.
const KEPT_MAX: usize = 4 << 20;

/// How long to wait before the disk is tried again.
const RETRY: Duration = Duration::from_millis(500);

impl Log {
    /// Opens the log of a folder for writing, alone.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let folder = options.folder.clone();
        let unusable = |source| OpenError::Folder { path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(unusable)?;
        let lock = lock(&folder)?;
        let mut writer = Writer::recover(options)?;
        // Whether the folder takes anything at all shows now, not at the first event.
        if writer.file.is_none() {
            writer.file = Some(writer.create_segment().map_err(unusable)?);
        }
        let shared = Arc::new(Shared::default());
        shared.stats.durable_seq.store(writer.chain.seq, Ordering::Relaxed);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("record".to_owned())
            .spawn(move || writer.run(&theirs))
            .map_err(unusable)?;
        Ok(Self { shared, thread: Some(thread), _lock: lock })
    }

    /// Adds a record. Waits while the disk is far behind.
    pub fn append(&self, entry: Entry<'_>) {
        let mut queue = self.shared.lock();
        while queue.frames.len() > QUEUE_MAX && !queue.closed {
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let was_empty = queue.frames.is_empty();
        push_frame(&mut queue.frames, &entry);
        let urgent = entry.kind != RecordKind::Event;
        let wake = was_empty || (urgent && !queue.urgent) || queue.frames.len() > QUEUE_MAX / 2;
        queue.urgent |= urgent;
        drop(queue);
        if wake {
            self.shared.changed.notify_all();
        }
    }

    /// What the log has done.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
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
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        let thread = self.thread.take()?;
        thread.join().unwrap_or_else(|_| Some(io::Error::other("the writing thread failed")))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the folder's lock file, and leaves our pid in it for others to see.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let unusable = |source| OpenError::Folder { path: folder.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::Locked { path: folder.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
    Ok(file)
}

/// A record in the queue: kind, length, both times, body.
fn push_frame(frames: &mut Vec<u8>, entry: &Entry<'_>) {
    let Entry { kind, time_ns, boot_ns, body } = entry;
    let oversize = format!("\"oversize_bytes\":{}", body.len());
    // No record comes near that; but a line that readers refuse would break the log.
    let body = if body.len() > LINE_MAX / 2 { oversize.as_bytes() } else { body };
    frames.push(*kind as u8);
    frames.extend_from_slice(&(body.len() as u32).to_ne_bytes());
    frames.extend_from_slice(&time_ns.to_ne_bytes());
    frames.extend_from_slice(&boot_ns.to_ne_bytes());
    frames.extend_from_slice(body);
}

/// Takes the first record off the queue's bytes.
fn pop_frame<'a>(frames: &mut &'a [u8]) -> Option<Entry<'a>> {
    let (head, rest) = frames.split_at_checked(21)?;
    let number =
        |range: std::ops::Range<usize>| head[range].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
    let (body, rest) = rest.split_at_checked(number(1..5) as usize)?;
    *frames = rest;
    let kind = *RecordKind::ALL.get(usize::from(head[0]))?;
    Some(Entry { kind, time_ns: number(5..13), boot_ns: number(13..21), body })
}

const _: () = assert!(cfg!(target_endian = "little"));

/// What was found at the end of a log that did not end in good order.
struct Found {
    file: String,
    /// Half a line was cut off: its bytes and their hash.
    cut: Option<(u64, String)>,
    /// Whole lines behind the last record that are no records.
    damaged_lines: u64,
}

struct Writer {
    options: Options,
    chain: Chain,
    file: Option<File>,
    /// Bytes in the open segment that are known to be good.
    segment_len: u64,
    found: Vec<Found>,
    /// The open segment is new, so the older ones may be too much.
    rotated: bool,
    /// Alerts that could not be written yet, as frames.
    kept: Vec<u8>,
    /// Entries that were taken from the queue so far.
    taken: u64,
    /// Records that could not be written, by kind.
    lost: Vec<(RecordKind, u64)>,
    lost_since_ns: u64,
    /// The members of each record that never change.
    constant: Vec<u8>,
}

impl Writer {
    /// Finds the end of the log that is there, and cuts off what is no whole record.
    fn recover(options: Options) -> Result<Self, OpenError> {
        let mut constant = b",\"node\":".to_vec();
        json_string(options.node.as_bytes(), &mut constant);
        constant.extend_from_slice(b",\"boot_id\":");
        json_string(options.boot_id.as_bytes(), &mut constant);
        let mut writer = Self {
            chain: Chain { seq: 0, hash: GENESIS.to_owned() },
            file: None,
            segment_len: 0,
            found: Vec::new(),
            rotated: false,
            kept: Vec::new(),
            taken: 0,
            lost: Vec::new(),
            lost_since_ns: 0,
            constant,
            options,
        };
        let segments = segment::list(&writer.options.folder)
            .map_err(|source| OpenError::Folder { path: writer.options.folder.clone(), source })?;
        // The last segment with a record in it says where the chain stands.
        for segment in segments.iter().rev() {
            let recover = |source| OpenError::Recover { path: segment.path.clone(), source };
            let end = find_end(&segment.path).map_err(recover)?;
            if end.cut.is_some() || end.damaged_lines > 0 {
                let file = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                writer.found.push(Found { file, cut: end.cut.clone(), damaged_lines: end.damaged_lines });
            }
            let Some(last) = end.last else {
                set_aside(&segment.path).map_err(recover)?;
                continue;
            };
            let file = OpenOptions::new().append(true).open(&segment.path).map_err(recover)?;
            if end.cut.is_some() {
                file.set_len(end.len).and_then(|()| file.sync_all()).map_err(recover)?;
            }
            writer.chain = last;
            writer.segment_len = end.len;
            // Whole lines that are no records stay where they are, as evidence; what is new goes elsewhere.
            writer.file = (end.damaged_lines == 0).then_some(file);
            break;
        }
        Ok(writer)
    }

    /// The thread: returns the error that is left when the log is closed.
    fn run(mut self, shared: &Shared) -> Option<io::Error> {
        let mut failed = None;
        let mut frames = Vec::new();
        for Found { file, cut, damaged_lines } in std::mem::take(&mut self.found) {
            let (bytes, hash) = cut.unwrap_or_default();
            let body = format!(
                "\"segment\":\"{file}\",\"cut_bytes\":{bytes},\"cut_sha256\":\"{hash}\",\"damaged_lines\":{damaged_lines}"
            );
            push_frame(&mut frames, &now(RecordKind::Recovery, body.as_bytes()));
        }
        if !frames.is_empty() {
            failed = self.commit(&frames, &shared.stats).err();
        }
        loop {
            let (frames, closed) = self.wait(shared);
            if !frames.is_empty() || !self.kept.is_empty() || !self.lost.is_empty() {
                failed = self.commit(&frames, &shared.stats).err();
            }
            if closed {
                let mut kept = self.kept.as_slice();
                while pop_frame(&mut kept).is_some() {
                    shared.stats.failed.fetch_add(1, Ordering::Relaxed);
                }
                return failed;
            }
        }
    }

    /// Waits for records, and then for more of them, but not for long.
    fn wait(&self, shared: &Shared) -> (Vec<u8>, bool) {
        let mut queue = shared.lock();
        let retrying = !self.kept.is_empty() || !self.lost.is_empty();
        let patience = if retrying { RETRY } else { Duration::from_secs(3600) };
        let deadline = Instant::now() + patience;
        while queue.frames.is_empty() && !queue.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = wait_for(shared, queue, left);
        }
        let deadline = Instant::now() + self.options.commit_interval;
        while !queue.urgent
            && !queue.closed
            && queue.frames.len() <= QUEUE_MAX / 2
            && !queue.frames.is_empty()
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = wait_for(shared, queue, left);
        }
        queue.urgent = false;
        let frames = std::mem::take(&mut queue.frames);
        let closed = queue.closed;
        drop(queue);
        shared.changed.notify_all();
        (frames, closed)
    }

    /// Writes what was lost or kept before, then these records, and makes all of it durable. If that fails
    /// the log is as it was: alerts are kept, the rest is counted.
    fn commit(&mut self, frames: &[u8], stats: &Stats) -> io::Result<()> {
        let before = self.chain.clone();
        let mut lines = Vec::with_capacity(frames.len() * 2);
        if !self.lost.is_empty() {
            let body = self.gap_body();
            self.line(&now(RecordKind::Gap, &body), &mut lines);
        }
        let kept = std::mem::take(&mut self.kept);
        for (mut rest, is_new) in [(kept.as_slice(), false), (frames, true)] {
            while let Some(entry) = pop_frame(&mut rest) {
                self.line(&entry, &mut lines);
                self.taken += u64::from(is_new);
            }
        }
        match self.write(&before, &lines) {
            Ok(()) => {
                self.lost.clear();
                stats.durable_seq.store(self.chain.seq, Ordering::Release);
                stats.settled.store(self.taken, Ordering::Release);
                stats.bytes.fetch_add(lines.len() as u64, Ordering::Relaxed);
                stats.commits.fetch_add(1, Ordering::Relaxed);
                self.retain();
                Ok(())
            }
            Err(error) => {
                self.chain = before;
                self.undo();
                self.keep_alerts(&kept, frames, stats);
                Err(error)
            }
        }
    }

    /// Appends one record's line and moves the chain on.
    fn line(&mut self, entry: &Entry<'_>, lines: &mut Vec<u8>) {
        let start = lines.len();
        self.chain.seq += 1;
        let time = clock::rfc3339(entry.time_ns);
        // Writing to memory cannot fail.
        let _ = write!(
            lines,
            "{{\"seq\":{},\"prev\":\"{}\",\"kind\":\"{}\",\"time\":\"",
            self.chain.seq,
            self.chain.hash,
            entry.kind.name()
        );
        lines.extend_from_slice(time.as_bytes());
        let _ = write!(lines, "\",\"boot_ns\":{}", entry.boot_ns);
        lines.extend_from_slice(&self.constant);
        if !entry.body.is_empty() {
            lines.push(b',');
            lines.extend_from_slice(entry.body);
        }
        lines.push(b'}');
        self.chain.hash = hex(&Sha256::digest(&lines[start..]));
        lines.push(b'\n');
    }

    fn write(&mut self, before: &Chain, lines: &[u8]) -> io::Result<()> {
        if self.segment_len >= self.options.segment_bytes {
            self.file = None;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let after = std::mem::replace(&mut self.chain, before.clone());
                let created = self.create_segment();
                self.chain = after;
                created?
            }
        };
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        self.file = Some(file);
        written?;
        self.segment_len += lines.len() as u64;
        Ok(())
    }

    /// Starts the segment of the next record.
    fn create_segment(&mut self) -> io::Result<File> {
        let segment = Segment::new(&self.options.folder, self.chain.seq + 1);
        if segment.path.exists() {
            // What a failed write left there could not be taken back.
            set_aside(&segment.path)?;
        }
        self.rotated = true;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&segment.path)?;
        File::open(&self.options.folder)?.sync_all()?;
        self.segment_len = file.metadata()?.len();
        Ok(file)
    }

    /// Takes back what a failed write left.
    fn undo(&mut self) {
        if let Some(file) = &self.file
            && file.set_len(self.segment_len).is_err()
        {
            // What is there cannot be trusted: the next records go to a segment of their own, and the
            // verifier will say that this one ends with half a record.
            self.file = None;
        }
    }

    fn keep_alerts(&mut self, kept: &[u8], frames: &[u8], stats: &Stats) {
        if self.lost.is_empty() {
            self.lost_since_ns = clock::boot_ns();
        }
        for mut rest in [kept, frames] {
            while let Some(entry) = pop_frame(&mut rest) {
                if entry.kind != RecordKind::Event && self.kept.len() + entry.body.len() < KEPT_MAX {
                    push_frame(&mut self.kept, &entry);
                    continue;
                }
                stats.failed.fetch_add(1, Ordering::Relaxed);
                match self.lost.iter_mut().find(|(kind, _)| *kind == entry.kind) {
                    Some((_, count)) => *count += 1,
                    None => self.lost.push((entry.kind, 1)),
                }
            }
        }
    }

    fn gap_body(&self) -> Vec<u8> {
        let counts: Vec<String> =
            self.lost.iter().map(|(kind, count)| format!("\"{}\":{count}", kind.name())).collect();
        let (from, to) = (self.lost_since_ns, clock::boot_ns());
        let counts = counts.join(",");
        format!("\"where\":\"log\",\"records\":{{{counts}}},\"from_boot_ns\":{from},\"to_boot_ns\":{to}")
            .into_bytes()
    }

    /// Deletes the oldest segments beyond the limit, and says so in the log first.
    fn retain(&mut self) {
        if self.options.retention_bytes == 0 || !std::mem::take(&mut self.rotated) {
            return;
        }
        let Ok(mut segments) = segment::list(&self.options.folder) else { return };
        // The open one is no old one.
        let Some(open) = segments.pop() else { return };
        let sizes: Vec<u64> =
            segments.iter().map(|segment| segment.path.metadata().map_or(0, |found| found.len())).collect();
        let mut total: u64 = sizes.iter().sum();
        let mut gone = 0;
        while total > self.options.retention_bytes && gone < segments.len() {
            total -= sizes[gone];
            gone += 1;
        }
        if gone == 0 {
            return;
        }
        let next = segments.get(gone).map_or(open.first, |segment| segment.first);
        let (first, last) = (segments[0].first, next - 1);
        let body = format!("\"deleted_from_seq\":{first},\"deleted_to_seq\":{last},\"segments\":{gone}");
        let before = self.chain.clone();
        let mut lines = Vec::new();
        self.line(&now(RecordKind::Retention, body.as_bytes()), &mut lines);
        if self.write(&before, &lines).is_err() {
            self.chain = before;
            self.undo();
            return;
        }
        for segment in &segments[..gone] {
            // One that cannot be deleted is tried again with the next segment.
            let _ = std::fs::remove_file(&segment.path);
        }
    }
}

fn wait_for<'a>(shared: &Shared, queue: MutexGuard<'a, Queue>, time: Duration) -> MutexGuard<'a, Queue> {
    shared.changed.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner).0
}

/// A record about the log itself.
fn now(kind: RecordKind, body: &[u8]) -> Entry<'_> {
    let boot_ns = clock::boot_ns();
    Entry { kind, time_ns: Clock::now().realtime_ns(boot_ns), boot_ns, body }
}

//! What waits to be written: records as frames in one piece of memory, so that adding one costs a copy.

use std::sync::atomic::AtomicU64;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{LINE_MAX, RecordKind};
use crate::vitals::{Durations, Pulse};

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
    /// Records that no checkpoint covers.
    pub unsigned: AtomicU64,
    /// When the oldest of them was written, by the boot clock, in ns; 0 if there is none.
    pub unsigned_since_ns: AtomicU64,
    /// The writing thread.
    pub pulse: Pulse,
    /// How long it took to write a batch and to make it durable.
    pub commit_time: Durations,
}

/// What the writing thread and the others share.
#[derive(Default)]
pub struct Shared {
    queue: Mutex<Queue>,
    /// Something was added, or room was made.
    changed: Condvar,
    /// What the log has done.
    pub stats: Stats,
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

impl Shared {
    /// Adds a record. Waits while the disk is far behind.
    pub fn append(&self, entry: &Entry<'_>) {
        let mut queue = self.lock();
        while queue.frames.len() > QUEUE_MAX && !queue.closed {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let was_empty = queue.frames.is_empty();
        push_frame(&mut queue.frames, entry);
        let urgent = entry.kind != RecordKind::Event;
        let wake = was_empty || (urgent && !queue.urgent) || queue.frames.len() > QUEUE_MAX / 2;
        queue.urgent |= urgent;
        drop(queue);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Bytes that wait for the writing thread.
    pub fn queued_bytes(&self) -> usize {
        self.lock().frames.len()
    }

    /// Nothing is added any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for records until a deadline, and then for more of them, but not for long. Tells whether the queue is closed.
    pub fn take(&self, deadline: Option<Instant>, commit_interval: Duration) -> (Vec<u8>, bool) {
        let mut queue = self.lock();
        while queue.frames.is_empty() && !queue.closed {
            let Some(deadline) = deadline else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.wait(queue, left);
        }
        let deadline = Instant::now() + commit_interval;
        while !queue.urgent
            && !queue.closed
            && queue.frames.len() <= QUEUE_MAX / 2
            && !queue.frames.is_empty()
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.wait(queue, left);
        }
        queue.urgent = false;
        let frames = std::mem::take(&mut queue.frames);
        let closed = queue.closed;
        drop(queue);
        self.changed.notify_all();
        (frames, closed)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, time: Duration) -> MutexGuard<'a, Queue> {
        self.changed.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Appends a record as a frame: kind, length, both times, body.
pub fn push_frame(frames: &mut Vec<u8>, entry: &Entry<'_>) {
    let Entry { kind, time_ns, boot_ns, body } = entry;
    let oversize;
    let mut body = *body;
    if body.len() > LINE_MAX / 2 {
        // No record comes near that; but a line that readers refuse would break the log.
        oversize = format!("\"oversize_bytes\":{}", body.len());
        body = oversize.as_bytes();
    }
    frames.push(*kind as u8);
    frames.extend_from_slice(&(body.len() as u32).to_ne_bytes());
    frames.extend_from_slice(&time_ns.to_ne_bytes());
    frames.extend_from_slice(&boot_ns.to_ne_bytes());
    frames.extend_from_slice(body);
}

/// Takes the first record off frames.
pub fn pop_frame<'a>(frames: &mut &'a [u8]) -> Option<Entry<'a>> {
    let (&kind, rest) = frames.split_first()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (time_ns, rest) = rest.split_first_chunk()?;
    let (boot_ns, rest) = rest.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(u32::from_ne_bytes(*len) as usize)?;
    *frames = rest;
    let kind = *RecordKind::ALL.get(usize::from(kind))?;
    Some(Entry { kind, time_ns: u64::from_ne_bytes(*time_ns), boot_ns: u64::from_ne_bytes(*boot_ns), body })
}

//! The receive thread, which takes records out of the rings into batches, and the one that looks ahead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::Message;
use crate::clock;
use crate::enrich::resolve::{self, Asker};
use crate::probe;
use crate::probe::loss::LossReader;
use crate::vitals::Vitals;

/// Records that were taken together.
#[derive(Default)]
pub struct Batch {
    bytes: BytesMut,
    ends: Vec<usize>,
}

/// A batch is sent once it has grown to this many bytes.
const BATCH_BYTES: usize = 128 << 10;

/// Batches that wait for the match thread.
const QUEUE: usize = 4;

impl Batch {
    pub(super) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}

/// The queue to the match thread.
pub fn queue() -> (SyncSender<Message>, Receiver<Message>) {
    sync_channel(QUEUE)
}

/// How often the kernel's counters of lost events are read.
const LOSS_INTERVAL: Duration = Duration::from_millis(200);

/// The thread that looks ahead: asks about new cgroups before their events are handled, until `stop` is set.
pub fn look_ahead(mut ahead: probe::receive::Ahead, asker: &Asker, stop: &AtomicBool) {
    resolve::hurry();
    while !stop.load(Ordering::Acquire) {
        ahead.take(LOSS_INTERVAL, |record| asker.look_ahead(record));
    }
}

/// The receive thread: until `stop` is set, and then once more.
pub fn receive(
    mut rings: probe::receive::Receiver,
    mut losses: LossReader,
    to_match: &SyncSender<Message>,
    stop: &AtomicBool,
    vitals: &Vitals,
) {
    let mut next_losses = Instant::now() + LOSS_INTERVAL;
    // Batches go round, so that a flood allocates nothing.
    let (give_back, empty) = sync_channel::<Batch>(QUEUE + 2);
    // A flood may never let the rings run empty: neither losses nor the end wait for that.
    let mut end_ns = None;
    loop {
        if end_ns.is_none() && stop.load(Ordering::Acquire) {
            end_ns = Some(clock::boot_ns());
        }
        vitals.receive.begin();
        let mut batch = empty.try_recv().unwrap_or_default();
        let more = rings.round(end_ns.unwrap_or_else(clock::boot_ns), |record| {
            batch.push(record);
            batch.bytes.len() < BATCH_BYTES
        });
        if batch.ends.is_empty() {
            // There is room for all batches that there are.
            let _ = give_back.try_send(batch);
        } else {
            vitals.sent.add(1);
            if to_match.send(Message::Batch(batch, give_back.clone())).is_err() {
                return;
            }
        }
        let ended = end_ns.is_some() && !more;
        if ended || Instant::now() >= next_losses {
            next_losses = Instant::now() + LOSS_INTERVAL;
            let new = losses.new_losses();
            vitals.take_tallies(losses.tallies());
            vitals.losses.used.set(losses.entries() as u64);
            if !new.is_empty() && to_match.send(Message::Losses(new)).is_err() {
                return;
            }
        }
        if ended {
            // The other end may be gone already.
            let _ = to_match.send(Message::End);
            return;
        }
        if !more {
            vitals.receive.end();
            rings.wait();
        }
    }
}

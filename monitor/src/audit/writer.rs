//! The one thread that writes the log: it makes records of what waits, in batches, and makes each batch durable with one
//! `fdatasync`. When the disk fails it keeps trying: alerts are kept in bounded memory, events are counted, and the first
//! thing that is written when it works again says so. It signs, closes segments, changes keys and deletes what is old;
//! whatever of that does not work is tried again, and the log tells.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::anchor::Anchor;
use super::key::{Epoch, Keys, PublicKey};
use super::log::{FullDisk, Options};
use super::packer::Packer;
use super::queue::{Shared, pop_frame, push_frame};
use super::record::{Chain, Head, Origin, Why, now};
use super::recover::{Recovered, recover};
use super::retention::Closed;
use super::tail::Tail;
use super::trouble::{Trouble, Troubles};
use super::{OpenError, RecordKind, retention, succession};
use crate::clock::{self, Clock};
use crate::event::text::json_string;

/// Bytes of alerts that are kept while the disk does not work.
const KEPT_MAX: usize = 4 << 20;

/// How often it is looked whether old segments are to go, and told what does not work.
const UPKEEP: Duration = Duration::from_secs(10);

/// What writes the log.
pub struct Writer {
    options: Options,
    shared: Arc<Shared>,
    origin: Origin,
    chain: Chain,
    tail: Tail,
    keys: Keys,
    epoch: Epoch,
    /// The record that the epoch began is not in the log yet.
    is_unannounced: bool,
    /// That record is not in `keys.ndjson` yet, or older secrets are not erased.
    unfinished_key: Option<Vec<u8>>,
    anchor: Option<Anchor>,
    /// Records that could not be written yet and are kept, as frames.
    kept: Vec<u8>,
    /// Entries that were handed in and taken so far.
    taken: u64,
    /// Records that are not in the log, by kind, and why.
    lost: BTreeMap<&'static str, u64>,
    lost_since_ns: u64,
    lost_why: &'static str,
    /// The disk is full, so that events are not recorded.
    is_full: bool,
    troubles: Troubles,
    /// Those that the batch on its way tells.
    telling: BTreeMap<&'static str, Trouble>,
    packer: Option<Packer>,
    /// The segment is closed then at the latest, if age matters.
    segment_due: Instant,
    /// And the key changed.
    key_due: Instant,
    /// The oldest record that no checkpoint covers was written then.
    unsigned_since: Option<Instant>,
    last_record: Instant,
    /// Nothing is tried again before.
    not_before: Instant,
    last_upkeep: Option<Instant>,
}

/// Lines on their way, and where the chain is behind them.
struct Batch {
    chain: Chain,
    lines: Vec<u8>,
    /// Those of the lines that are signed.
    signed: Vec<Range<usize>>,
}

impl Batch {
    fn checkpoint(&mut self, origin: &Origin, epoch: &Epoch, why: Why) {
        let start = self.lines.len();
        self.chain.checkpoint(origin, epoch, why, &mut self.lines);
        self.signed.push(start..self.lines.len());
    }

    fn key(&mut self, origin: &Origin, new: &Epoch, signer: &Epoch) -> Vec<u8> {
        let start = self.lines.len();
        self.chain.key(origin, new, signer, &mut self.lines);
        self.signed.push(start..self.lines.len());
        self.lines[start..self.lines.len() - 1].to_vec()
    }
}

impl Writer {
    /// Finds the end of the log that is there, and the key that goes on signing; begins a log where there is none.
    pub fn open(options: Options, shared: Arc<Shared>) -> Result<Self, OpenError> {
        let (folder, disk) = (options.folder.clone(), options.disk.clone());
        let recovered = recover(&folder, disk.as_ref())?;
        let key_folder = options.policy.key_folder.clone().unwrap_or_else(|| folder.join("keys"));
        let unusable = |source| OpenError::Folder { path: key_folder.clone(), source };
        let keys = Keys::open(disk.clone(), &key_folder).map_err(unusable)?;
        let (epoch, is_unannounced) = choose_epoch(&keys, &recovered, &options).map_err(unusable)?;
        let unusable = |source| OpenError::Folder { path: folder.clone(), source };
        let troubles = Troubles::default();
        let anchor = options.policy.anchor.clone().map(|path| Anchor::start(path, troubles.clone()));
        let anchor = anchor.transpose().map_err(unusable)?;
        let Recovered { chain, open, key_line, begun, found, .. } = recovered;
        let mut tail = Tail::new(disk, &folder);
        if let Some((path, len)) = &open {
            let failed = |source| OpenError::Recover { path: path.clone(), source };
            tail.resume(path, *len).map_err(failed)?;
        }
        let mut kept = Vec::new();
        for body in found {
            push_frame(&mut kept, &now(RecordKind::Recovery, body.as_bytes()));
        }
        let (since, policy) = (Instant::now(), &options.policy);
        // A key that no record of the segment announces is at least as old as the segment.
        let announced = key_line.as_deref().and_then(Head::parse).map(|head| head.time.to_owned());
        let announced = announced.or(begun.clone()).filter(|_| !is_unannounced);
        let key_due = since + left(policy.key_interval, announced.as_deref());
        let mut writer = Self {
            origin: Origin::new(&options.node, &options.boot_id),
            tail,
            keys,
            epoch,
            is_unannounced,
            // Whether it is noted and older secrets are erased is not known; both can be done again.
            unfinished_key: (!is_unannounced).then(|| key_line.unwrap_or_default()),
            anchor,
            kept,
            taken: 0,
            lost: BTreeMap::new(),
            lost_since_ns: 0,
            lost_why: "",
            is_full: false,
            troubles,
            telling: BTreeMap::new(),
            packer: None,
            segment_due: since + left(policy.segment_age, begun.as_deref()),
            key_due,
            unsigned_since: (chain.unsigned > 0).then_some(since),
            last_record: since,
            last_upkeep: None,
            not_before: since,
            chain,
            shared,
            options,
        };
        // Whether the folder takes anything at all shows now, not at the first event.
        if open.is_none() {
            writer.begin_segment().map_err(unusable)?;
        }
        if writer.options.policy.pack {
            let packer = Packer::start(folder.clone(), writer.chain.first, writer.troubles.clone())
                .map_err(unusable)?;
            writer.packer = Some(packer);
        }
        // What does not work now is tried again.
        let _ = writer.commit(&[], false);
        writer.note_unsigned();
        writer.shared.stats.durable_seq.store(writer.chain.seq, Ordering::Release);
        Ok(writer)
    }

    /// The public key that signs.
    pub fn public_key(&self) -> PublicKey {
        self.epoch.public()
    }

    /// The thread: returns the error that is left when the log is closed.
    pub fn run(mut self) -> Option<io::Error> {
        loop {
            self.shared.stats.pulse.end();
            let (frames, closed) = self.shared.take(self.deadline(), self.options.policy.commit_interval);
            self.shared.stats.pulse.begin();
            let mut left = frames.as_slice();
            self.taken += std::iter::from_fn(|| pop_frame(&mut left)).count() as u64;
            let failed = self.commit(&frames, closed).err();
            if failed.is_none() && self.lost.is_empty() {
                self.shared.stats.settled.store(self.taken, Ordering::Release);
            }
            if closed {
                let mut kept = self.kept.as_slice();
                while pop_frame(&mut kept).is_some() {
                    self.shared.stats.failed.fetch_add(1, Ordering::Relaxed);
                }
                return failed;
            }
        }
    }

    /// When there is something to do even if nothing comes.
    fn deadline(&self) -> Option<Instant> {
        let policy = &self.options.policy;
        let waits = !self.kept.is_empty() || !self.lost.is_empty() || self.is_unannounced;
        let retry = waits.then(|| Instant::now() + self.options.retry);
        let checkpoint = self.unsigned_since.map(|since| since + policy.checkpoint_interval);
        let heartbeat = (!policy.heartbeat.is_zero()).then(|| self.last_record + policy.heartbeat);
        let first = [retry, checkpoint, heartbeat].into_iter().flatten().min();
        first.map(|at| at.max(self.not_before))
    }

    /// Writes what was lost or kept before, then these records, and makes all of it durable. If that fails
    /// the log is as it was: alerts are kept, the rest is counted.
    fn commit(&mut self, frames: &[u8], closing: bool) -> io::Result<()> {
        self.is_full = self.is_out_of_room();
        let frames = if self.is_full { self.without_events(frames) } else { Cow::Borrowed(frames) };
        self.upkeep();
        let mut batch = Batch {
            chain: self.chain.clone(),
            lines: Vec::with_capacity(frames.len() * 2 + 4096),
            signed: Vec::new(),
        };
        let announced = self.is_unannounced.then(|| batch.key(&self.origin, &self.epoch, &self.epoch));
        let tells_loss = self.add_own(&mut batch, closing);
        let kept = std::mem::take(&mut self.kept);
        for mut rest in [kept.as_slice(), &frames] {
            while let Some(entry) = pop_frame(&mut rest) {
                batch.chain.line(&self.origin, &entry, &mut batch.lines);
                if batch.chain.unsigned >= self.options.policy.checkpoint_records {
                    batch.checkpoint(&self.origin, &self.epoch, Why::Records);
                }
            }
        }
        if let Some(why) = self.checkpoint_due(&batch.chain, closing) {
            batch.checkpoint(&self.origin, &self.epoch, why);
        }
        if batch.lines.is_empty() {
            return Ok(());
        }
        match self.put(batch) {
            Ok(()) => {
                self.telling.clear();
                if tells_loss {
                    self.lost.clear();
                }
                if announced.is_some() {
                    (self.is_unannounced, self.unfinished_key) = (false, announced);
                }
                Ok(())
            }
            Err(error) => {
                self.not_before = Instant::now() + self.options.retry;
                self.troubles.put_back(std::mem::take(&mut self.telling));
                self.troubles.add("write", &error);
                self.keep_alerts(&kept, &frames);
                Err(error)
            }
        }
    }

    /// Writes lines and makes them durable: then the chain is where they end.
    fn put(&mut self, batch: Batch) -> io::Result<()> {
        let begun = Instant::now();
        self.tail.put(&batch.lines)?;
        let Batch { chain, lines, signed } = batch;
        let at = Instant::now();
        if chain.unsigned == 0 {
            self.unsigned_since = None;
        } else if self.unsigned_since.is_none() || chain.unsigned < chain.seq - self.chain.seq {
            self.unsigned_since = Some(at);
        }
        self.last_record = at;
        self.chain = chain;
        let stats = &self.shared.stats;
        stats.durable_seq.store(self.chain.seq, Ordering::Release);
        stats.bytes.fetch_add(lines.len() as u64, Ordering::Relaxed);
        stats.commits.fetch_add(1, Ordering::Relaxed);
        stats.commit_time.add((at - begun).as_nanos() as u64);
        self.note_unsigned();
        if let Some(anchor) = &self.anchor {
            signed.into_iter().for_each(|range| anchor.send(&lines[range]));
        }
        Ok(())
    }

    /// Notes what somebody who gets at the key now could still change.
    fn note_unsigned(&self) {
        let stats = &self.shared.stats;
        let since_ns = self
            .unsigned_since
            .map_or(0, |since| clock::boot_ns().saturating_sub(since.elapsed().as_nanos() as u64));
        stats.unsigned.store(self.chain.unsigned, Ordering::Relaxed);
        stats.unsigned_since_ns.store(since_ns, Ordering::Relaxed);
    }

    /// Adds records about the log itself; tells whether one of them says what was lost.
    fn add_own(&mut self, batch: &mut Batch, closing: bool) -> bool {
        // While the disk is full, what is lost is told now and then: each record takes of the room that is left.
        let lost_for = clock::boot_ns().saturating_sub(self.lost_since_ns);
        let tells_loss =
            !self.lost.is_empty() && (!self.is_full || closing || Duration::from_nanos(lost_for) >= UPKEEP);
        if tells_loss {
            let body = self.gap_body();
            batch.chain.line(&self.origin, &now(RecordKind::Gap, &body), &mut batch.lines);
        }
        let at = Instant::now();
        if closing || self.last_upkeep.is_none_or(|last| at >= last + UPKEEP) {
            self.last_upkeep = Some(at);
            self.telling = self.troubles.take();
            for (what, Trouble { count, error }) in &self.telling {
                let mut body = format!("\"what\":\"{what}\",\"count\":{count},\"error\":").into_bytes();
                json_string(error.as_bytes(), &mut body);
                batch.chain.line(&self.origin, &now(RecordKind::Degraded, &body), &mut batch.lines);
            }
        }
        tells_loss
    }

    fn checkpoint_due(&self, chain: &Chain, closing: bool) -> Option<Why> {
        let (policy, now) = (&self.options.policy, Instant::now());
        let is_signed = chain.unsigned == 0;
        if closing {
            return (chain.checkpoint != Some(Why::Close)).then_some(Why::Close);
        }
        if !is_signed && self.unsigned_since.is_some_and(|since| now >= since + policy.checkpoint_interval) {
            return Some(Why::Time);
        }
        let is_idle = !policy.heartbeat.is_zero() && now >= self.last_record + policy.heartbeat;
        is_idle.then_some(Why::Heartbeat)
    }

    /// Closes segments, changes keys, deletes what is old. What fails is tried again at the next batch.
    fn upkeep(&mut self) {
        let policy = &self.options.policy;
        let (at, age) = (Instant::now(), policy.segment_age);
        let is_grown = self.tail.len() >= Some(policy.segment_bytes);
        let is_old = !age.is_zero() && at >= self.segment_due;
        let is_key_old = !policy.key_interval.is_zero() && at >= self.key_due;
        if let Some(line) = self.unfinished_key.take()
            && let Err(error) = self.finish_key(&line)
        {
            self.unfinished_key = Some(line);
            self.troubles.add("key", &error);
        }
        if self.is_unannounced {
            return;
        }
        if is_key_old
            && self.unfinished_key.is_none()
            && let Err(error) = self.change_key()
        {
            self.troubles.add("key", &error);
        }
        if (is_grown || is_old)
            && let Err(error) = self.rotate()
        {
            self.troubles.add("rotation", &error);
        }
        if self.last_upkeep.is_none_or(|last| at >= last + UPKEEP)
            && let Err(error) = self.retain()
        {
            self.troubles.add("retention", &error);
        }
    }

    /// A batch that begins where the log is.
    fn batch(&self) -> Batch {
        Batch { chain: self.chain.clone(), lines: Vec::new(), signed: Vec::new() }
    }

    /// Signs the open segment to its end and begins the next one.
    fn rotate(&mut self) -> io::Result<()> {
        if self.chain.unsigned > 0 {
            let mut batch = self.batch();
            batch.checkpoint(&self.origin, &self.epoch, Why::Rotation);
            self.put(batch)?;
        }
        self.begin_segment()?;
        if let Some(packer) = &self.packer {
            packer.set_open(self.chain.first);
        }
        self.retain()
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let mut batch = self.batch();
        batch.chain.begin_segment(&self.origin, self.epoch.number, &self.epoch.public(), &mut batch.lines);
        self.tail.begin(batch.chain.first, &batch.lines)?;
        self.chain = batch.chain;
        let now = Instant::now();
        self.segment_due = now + self.options.policy.segment_age;
        self.unsigned_since = Some(now);
        self.note_unsigned();
        Ok(())
    }

    /// Gives the pen to a new key: its secret is durable before the log names it, and the log names it before the old
    /// secret is erased.
    fn change_key(&mut self) -> io::Result<()> {
        let new = self.keys.create(self.epoch.number + 1)?;
        let mut batch = self.batch();
        // What the old key has to answer for ends here.
        batch.checkpoint(&self.origin, &self.epoch, Why::Key);
        let line = batch.key(&self.origin, &new, &self.epoch);
        self.put(batch)?;
        self.epoch = new;
        self.key_due = Instant::now() + self.options.policy.key_interval;
        self.unfinished_key = Some(line.clone());
        self.finish_key(&line)?;
        self.unfinished_key = None;
        Ok(())
    }

    /// Notes the epoch's record where it outlives old segments, and erases older secrets.
    fn finish_key(&mut self, line: &[u8]) -> io::Result<()> {
        if !line.is_empty() {
            succession::add(&self.options.disk, &self.options.folder, line)?;
        }
        self.keys.erase_all_but(self.epoch.number)
    }

    /// Deletes the oldest segments beyond the limits, and says so in the log first.
    fn retain(&mut self) -> io::Result<()> {
        let policy = &self.options.policy;
        let (bytes, age) = (policy.retention_bytes, policy.retention_age);
        if bytes == 0 && age.is_zero() {
            return Ok(());
        }
        let closed = retention::closed(&self.options.folder, self.chain.first)?;
        let gone = retention::beyond(&closed, bytes, age);
        self.delete(&closed[..gone], "limit")
    }

    /// Deletes segments; the log says so first.
    fn delete(&mut self, gone: &[Closed], why: &str) -> io::Result<()> {
        let Some(body) = deletion(gone, why) else { return Ok(()) };
        let mut batch = self.batch();
        batch.chain.line(&self.origin, &now(RecordKind::Retention, body.as_bytes()), &mut batch.lines);
        // What is missing from then on is excused by nothing that is not signed.
        batch.checkpoint(&self.origin, &self.epoch, Why::Retention);
        self.put(batch)?;
        self.remove(gone)
    }

    fn remove(&self, gone: &[Closed]) -> io::Result<()> {
        if let (Some(packer), Some(last)) = (&self.packer, gone.last()) {
            packer.set_deleted(last.last + 1);
        }
        retention::delete(self.options.disk.as_ref(), &self.options.folder, gone)
    }

    /// Whether events cannot be recorded for want of room. Makes room if that is the policy.
    fn is_out_of_room(&mut self) -> bool {
        let min = self.options.policy.min_free_bytes;
        let Ok(free) = self.options.disk.free_bytes(&self.options.folder) else { return false };
        // Once it was full there must be a little more, so that it does not flutter.
        let wanted = if self.is_full { min.saturating_add(min / 8) } else { min };
        if free >= wanted {
            return false;
        }
        match self.options.policy.full_disk {
            FullDisk::StopEvents => true,
            FullDisk::DropOldest => !self.drop_oldest(wanted - free),
        }
    }

    /// Deletes the oldest closed segments that hold so many bytes; `false` if there is none.
    fn drop_oldest(&mut self, bytes: u64) -> bool {
        let Ok(closed) = retention::closed(&self.options.folder, self.chain.first) else { return false };
        let gone = &closed[..retention::that_hold(&closed, bytes)];
        if gone.is_empty() {
            return false;
        }
        if self.delete(gone, "full_disk").is_ok() {
            return true;
        }
        // There was not even room to say it first.
        if let Err(error) = self.remove(gone) {
            self.troubles.add("retention", &error);
            return false;
        }
        let body = deletion(gone, "full_disk").unwrap_or_default();
        push_frame(&mut self.kept, &now(RecordKind::Retention, body.as_bytes()));
        true
    }

    /// Counts the events of a batch as lost, and gives what is left.
    fn without_events<'a>(&mut self, mut frames: &[u8]) -> Cow<'a, [u8]> {
        let mut left = Vec::new();
        while let Some(entry) = pop_frame(&mut frames) {
            if entry.kind == RecordKind::Event {
                self.lose(entry.kind, "full_disk");
            } else {
                push_frame(&mut left, &entry);
            }
        }
        Cow::Owned(left)
    }

    fn lose(&mut self, kind: RecordKind, why: &'static str) {
        if self.lost.is_empty() {
            self.lost_since_ns = clock::boot_ns();
            self.lost_why = why;
        }
        self.shared.stats.failed.fetch_add(1, Ordering::Relaxed);
        *self.lost.entry(kind.name()).or_default() += 1;
    }

    fn keep_alerts(&mut self, kept: &[u8], frames: &[u8]) {
        for mut rest in [kept, frames] {
            while let Some(entry) = pop_frame(&mut rest) {
                if entry.kind != RecordKind::Event && self.kept.len() + entry.body.len() < KEPT_MAX {
                    push_frame(&mut self.kept, &entry);
                } else {
                    self.lose(entry.kind, "error");
                }
            }
        }
    }

    fn gap_body(&self) -> Vec<u8> {
        let counts: Vec<String> =
            self.lost.iter().map(|(kind, count)| format!("\"{kind}\":{count}")).collect();
        let (from, to) = (self.lost_since_ns, clock::boot_ns());
        let (counts, why) = (counts.join(","), self.lost_why);
        format!("\"where\":\"log\",\"why\":\"{why}\",\"records\":{{{counts}}},\"from_boot_ns\":{from},\"to_boot_ns\":{to}")
            .into_bytes()
    }
}

/// The body of the record that segments are deleted.
fn deletion(gone: &[Closed], why: &str) -> Option<String> {
    let (first, last, count) = (gone.first()?.segment.first, gone.last()?.last, gone.len());
    Some(format!(
        "\"deleted_from_seq\":{first},\"deleted_to_seq\":{last},\"segments\":{count},\"why\":\"{why}\""
    ))
}

/// The key that goes on signing: that which the log names, if its secret is here; else a new one. Tells whether the log has
/// yet to name it.
fn choose_epoch(keys: &Keys, recovered: &Recovered, options: &Options) -> io::Result<(Epoch, bool)> {
    if let Some((number, public)) = recovered.epoch
        && let Some(epoch) = keys.load(number)?.filter(|epoch| epoch.public() == public)
    {
        return Ok((epoch, false));
    }
    let (noted, _) = succession::read(&options.folder)?;
    let noted = noted.iter().filter_map(|line| Some(super::record::Signed::parse(line)?.epoch)).max();
    let named = recovered.epoch.map(|(number, _)| number);
    let highest = noted.into_iter().chain(named).chain(keys.numbers()?.pop()).max().unwrap_or(0);
    Ok((keys.create(highest.saturating_add(1))?, true))
}

/// What is left of a time for something that a record says began then.
fn left(interval: Duration, began: Option<&str>) -> Duration {
    let now_ns = i128::from(Clock::now().realtime_ns(clock::boot_ns()));
    let began_ns = began
        .and_then(|time| time.parse::<jiff::Timestamp>().ok())
        .map_or(now_ns, jiff::Timestamp::as_nanosecond);
    interval.saturating_sub(Duration::from_nanos(u64::try_from(now_ns - began_ns).unwrap_or(0)))
}

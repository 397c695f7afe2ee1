//! The work of one exporter: reads the log from its position on, writes each record in the receiver's form, sends
//! batches, and moves the position when the receiver has them. At least once, in order. Whatever goes wrong costs
//! nothing but lag: the log is the only buffer, and after a failure it is read again.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::cursor::{Files, Position};
use super::dead;
use super::record::Record;
use super::settings::Settings;
use super::standing::Standing;
use super::transport::{Batch, Event, Failure, Refused, Stage, Transport};
use crate::audit::read::{Cursor, ReadError, Step};
use crate::audit::{Durable, RecordKind};
use crate::clock;
use crate::event::json::Members;
use crate::rules::hex;

/// How often the log is looked at while there is nothing in it.
const POLL: Duration = Duration::from_millis(50);

/// How often the position is made durable. After a crash, what was sent since is sent again.
const SAVE: Duration = Duration::from_millis(250);

/// Waiting after failures: the first time, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// How often the log is told that sending still fails.
const TELL: Duration = Duration::from_secs(600);

/// Failures in a row after which nothing more is tried at the end.
const DRAIN_FAILURES: u32 = 4;

/// How long what was sent may be under way.
const UNDER_WAY: Duration = Duration::from_secs(30);

/// Records that are read at once, if few of them are to be sent.
const READ_MAX: usize = 10_000;

/// What an exporter is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Go on.
    Running,
    /// Send what is in the log, and end.
    Draining,
    /// End.
    Stopped,
}

/// Takes what is to be told in the log; `false`: nobody does any more.
pub type Tell = Box<dyn Fn(RecordKind, Vec<u8>) -> bool + Send>;

/// An exporter at work.
pub struct Exporter {
    /// How it is doing.
    pub standing: Arc<Standing>,
    settings: Settings,
    log: PathBuf,
    files: Files,
    position: Position,
    /// Whether there was a position before: what is missing before the first one is no loss.
    is_new: bool,
    cursor: Cursor,
    durable: Option<Durable>,
    tell: Tell,
    phase: watch::Receiver<Phase>,
    transport: Option<Box<dyn Transport>>,
    /// What was sent and is not known to be safe, oldest first.
    unsettled: VecDeque<Sent>,
    /// The last record that was read, and its line.
    read: (u64, Vec<u8>),
    /// The highest number that was read or skipped: what is read again was counted already.
    seen: u64,
    /// The highest record that arrived, or of which it is told that it was deleted before.
    accounted: u64,
    /// There is a loss that nobody takes word of: nothing behind it is read, and the next start meets it again.
    is_unheard: bool,
    /// Failures since something got through.
    failures: u32,
    told: Option<Instant>,
    saved: (Instant, u64),
    /// When the next event may be sent.
    pace: Instant,
}

/// A batch that was sent.
struct Sent {
    seq: u64,
    hash: String,
    events: u64,
    when: Instant,
}

/// What becomes of a batch.
type Delivered = ControlFlow<Ended>;

/// Why a batch is not sent any more.
enum Ended {
    /// Because of those before it: all of them are read again.
    Rewound,
    /// Because it is time to end.
    Stopped,
}

impl Exporter {
    /// Gets ready; the first record is the one behind its position. Without `durable` nobody writes the log meanwhile.
    pub fn new(
        settings: Settings,
        log: &Path,
        durable: Option<Durable>,
        tell: Tell,
        phase: watch::Receiver<Phase>,
    ) -> std::io::Result<Self> {
        let files = Files::new(log, &settings.name);
        let found = files.load()?;
        let is_new = found.is_none();
        let position = found.unwrap_or_default();
        let now = Instant::now();
        let cursor = Cursor::new(log, position.seq + 1);
        let (read, seen) = ((position.seq, Vec::new()), position.seq);
        let standing = Standing { name: settings.name.clone(), ..Standing::default() };
        Ok(Self {
            standing: Arc::new(standing),
            settings,
            log: log.to_owned(),
            files,
            position,
            is_new,
            cursor,
            durable,
            tell,
            phase,
            transport: None,
            unsettled: VecDeque::new(),
            read,
            seen,
            accounted: seen,
            is_unheard: false,
            failures: 0,
            told: None,
            saved: (now, u64::MAX),
            pace: now,
        })
    }

    /// Works until it is told to end.
    pub async fn run(&mut self) {
        self.check_log();
        self.note("started");
        let mut batch = Batch::default();
        loop {
            self.note_standing();
            // Before the log is read: what is written until it drains has to go out.
            let phase = *self.phase.borrow();
            self.look_for_replay();
            batch.clear();
            let is_at_end = match self.fill_or_wait(&mut batch).await {
                Ok(is_at_end) => is_at_end,
                Err(error) => {
                    self.position.is_unreadable = true;
                    self.fail(&Failure::new(Stage::Settings, with_causes(&error)));
                    if self.back_off(None).await.is_break() {
                        break;
                    }
                    false
                }
            };
            let delivered =
                if batch.events.is_empty() { ControlFlow::Continue(()) } else { self.deliver(&batch).await };
            match delivered {
                ControlFlow::Continue(()) => self.sent(batch.events.len() as u64),
                ControlFlow::Break(Ended::Rewound) => continue,
                ControlFlow::Break(Ended::Stopped) => break,
            }
            if let Err(failure) = self.settle() {
                self.fail(&failure);
                if self.back_off(failure.after).await.is_break() {
                    break;
                }
                self.rewind(self.position.seq);
                continue;
            }
            let is_last = phase == Phase::Draining || self.is_unheard;
            let is_done = is_last && is_at_end && self.unsettled.is_empty();
            if phase == Phase::Stopped || is_done {
                break;
            }
            if is_at_end {
                self.save(SAVE);
                self.pause(POLL).await;
            }
        }
        self.save(Duration::ZERO);
    }

    /// Sleeps, but not when it is time to end.
    async fn pause(&mut self, time: Duration) {
        // A sender that is gone is an end too; the phase says so at the next look.
        let _ = timeout(time, self.phase.changed()).await;
    }

    /// Whether the log is the one of the position; if it began anew, so does the exporter.
    fn check_log(&mut self) {
        if self.position.seq == 0 {
            return;
        }
        let mut next = Cursor::new(&self.log, self.position.seq + 1);
        let follows = match next.next() {
            Ok(Step::Record { line, .. }) => {
                let prev =
                    Record::parse(line).ok().and_then(|record| record.text("", "prev").map(str::to_owned));
                self.position.hash.is_empty() || prev.is_none_or(|prev| prev == self.position.hash)
            }
            Ok(Step::End) => match crate::audit::read::last_seq(&self.log) {
                Ok(last) => last.unwrap_or_default() >= self.position.seq,
                Err(_) => true,
            },
            _ => true,
        };
        if !follows {
            self.position.hash.clear();
            self.rewind(0);
            (self.is_new, self.seen, self.accounted) = (true, 0, 0);
            self.note("began_anew");
        }
    }

    fn look_for_replay(&mut self) {
        let Some(from) = self.files.wanted_replay() else { return };
        self.rewind(from.saturating_sub(1));
        self.note("replay");
        self.save(Duration::ZERO);
        // If that fails, it is sent once more: better than never.
        let _ = self.files.forget_replay();
    }

    /// Reads again from behind a record.
    fn rewind(&mut self, seq: u64) {
        if seq != self.position.seq {
            self.position.seq = seq;
            self.position.hash.clear();
        }
        self.unsettled.clear();
        self.transport = None;
        self.cursor = Cursor::new(&self.log, seq + 1);
        self.read.0 = seq;
    }

    /// Reads a batch; one that is not full waits for more, if others are to be waited for. Returns whether all of the
    /// log was read.
    async fn fill_or_wait(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        let mut is_at_end = self.fill(batch)?;
        if is_at_end && !batch.events.is_empty() && *self.phase.borrow() == Phase::Running {
            let wait = self.settings.batch_wait;
            if !wait.is_zero() {
                self.pause(wait).await;
                is_at_end = self.fill(batch)?;
            }
        }
        Ok(is_at_end)
    }

    /// It only fails with nothing in the batch.
    fn fill(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        if self.is_unheard {
            return Ok(true);
        }
        let most = match self.settings.rate {
            0 => self.settings.batch_events,
            // A second's worth.
            rate => self.settings.batch_events.min(rate as usize),
        };
        let mut damaged: Vec<(u64, String)> = Vec::new();
        let limit = self.durable.as_ref().map_or(u64::MAX, Durable::seq);
        self.cursor.set_limit(limit);
        let mut records = 0;
        let mut failed = None;
        let is_at_end = loop {
            let is_full = batch.events.len() >= most || batch.bytes.len() >= self.settings.batch_bytes;
            if is_full || records >= READ_MAX {
                break false;
            }
            records += 1;
            let step = match self.cursor.next() {
                Ok(step) => step,
                // What was found before is sent and told all the same: it is passed over now.
                Err(error) => {
                    failed = Some(error);
                    break false;
                }
            };
            match step {
                Step::Record { seq, line } => {
                    let is_again = seq <= self.seen;
                    // From now on what is deleted is something that it has lost.
                    self.is_new = false;
                    self.seen = self.seen.max(seq);
                    self.read.0 = seq;
                    self.read.1.clear();
                    self.read.1.extend_from_slice(line);
                    let problem = match Record::parse(line) {
                        Ok(record) if !self.settings.wants(&record) => continue,
                        Ok(record) => {
                            let start = batch.bytes.len();
                            let max = self.settings.max_event_bytes;
                            if self.settings.format.encode(&record, max, &mut batch.bytes) {
                                batch.events.push(Event::new(&record, start..batch.bytes.len()));
                                continue;
                            }
                            format!("it is longer than {max} bytes, also when cut")
                        }
                        Err(error) => with_causes(&error),
                    };
                    if !is_again {
                        damaged.push((seq, problem));
                    }
                }
                Step::Skipped { from, to } => {
                    // What was sent but had not arrived is lost, too.
                    if !self.skip(from.max(self.accounted + 1), to) {
                        self.is_unheard = true;
                        break true;
                    }
                    self.accounted = self.accounted.max(to);
                    self.seen = self.seen.max(to);
                }
                Step::Damaged { .. } if self.read.0 < self.seen => {}
                Step::Damaged { segment, offset, bytes } => {
                    let bytes = bytes.map_or("all that follows".to_owned(), |bytes| format!("{bytes} bytes"));
                    damaged
                        .push((0, format!("{} at {offset}: {bytes} that are no record", segment.display())));
                }
                Step::End => break true,
            }
        };
        self.bury(damaged);
        match failed {
            Some(error) if batch.events.is_empty() => return Err(error),
            None if self.position.is_unreadable => self.worked(),
            _ => {}
        }
        Ok(is_at_end)
    }

    /// Records that are not there any more. Returns whether that is told, if it has to be.
    fn skip(&mut self, from: u64, to: u64) -> bool {
        // What was deleted before this exporter was there is nothing that it has lost.
        let is_before = self.is_new && from == 1;
        if is_before || from > to {
            return true;
        }
        let mut body = Vec::new();
        let mut members = Members::within(&mut body);
        members.text("where", b"export");
        members.text("what", self.settings.name.as_bytes());
        members.number("count", (to - from + 1) as i64);
        members.number("from_seq", from as i64);
        members.number("to_seq", to as i64);
        let is_told = (self.tell)(RecordKind::Gap, body);
        if is_told {
            self.position.dropped += to - from + 1;
        }
        is_told
    }

    /// Keeps what will never be sent: its number, 0 if it is no record, and the reason.
    fn bury(&mut self, dead: Vec<(u64, String)>) {
        let before = self.position.refused;
        self.position.refused += dead.len() as u64;
        if let Err(error) = dead::bury(&self.files, &self.log, dead) {
            log::warn!("exporter {}: cannot keep dead letters: {error}", self.settings.name);
        }
        // The first one, and then ever more rarely.
        if self.position.refused >= (before + 1).next_power_of_two() {
            self.note("refused");
        }
    }

    /// Sends a batch, however often it takes.
    async fn deliver(&mut self, batch: &Batch) -> Delivered {
        loop {
            self.wait_for_pace(batch.events.len()).await;
            let failure = match self.attempt(batch).await {
                Ok(refused) => {
                    self.worked();
                    let dead = |Refused { index, reason }| Some((batch.events.get(index)?.seq, reason));
                    self.bury(refused.into_iter().filter_map(dead).collect());
                    return ControlFlow::Continue(());
                }
                Err(failure) => failure,
            };
            if failure.is_refusal {
                // The receiver is there: which of them is it?
                self.worked();
                let count = batch.events.len();
                if count == 1 {
                    let seq = batch.events.first().map_or(0, |event| event.seq);
                    self.bury(vec![(seq, failure.why)]);
                    return ControlFlow::Continue(());
                }
                for half in [0..count / 2, count / 2..count] {
                    Box::pin(self.deliver(&batch.part(half))).await?;
                }
                return ControlFlow::Continue(());
            }
            self.fail(&failure);
            self.back_off(failure.after).await?;
            if !self.unsettled.is_empty() {
                self.rewind(self.position.seq);
                return ControlFlow::Break(Ended::Rewound);
            }
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Result<Vec<Refused>, Failure> {
        let mut transport = match self.transport.take() {
            Some(transport) => transport,
            None => (self.settings.receiver.open)(&self.settings).await?,
        };
        let sent = transport.send(batch).await;
        // One that has refused something is as good as before.
        if transport.outlives_failures() || sent.as_ref().map_or_else(|failure| failure.is_refusal, |_| true)
        {
            self.transport = Some(transport);
        }
        sent
    }

    async fn wait_for_pace(&mut self, events: usize) {
        if self.settings.rate == 0 {
            return;
        }
        while Instant::now() < self.pace && *self.phase.borrow() != Phase::Stopped {
            self.pause(self.pace - Instant::now()).await;
        }
        self.pace = Instant::now() + Duration::from_secs_f64(events as f64 / self.settings.rate as f64);
    }

    /// Waits after a failure, longer each time, and never as long as another exporter that failed at the same moment.
    async fn back_off(&mut self, after: Option<Duration>) -> Delivered {
        let (first, most) = BACK_OFF;
        let wait = first.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(most);
        let jitter = 0.5 + (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 54) as f64;
        let wait = wait.mul_f64(jitter).max(after.unwrap_or_default().min(10 * most));
        let until = Instant::now() + wait;
        while Instant::now() < until {
            let is_enough = match *self.phase.borrow_and_update() {
                Phase::Running => false,
                // At the end, a receiver that does not answer is not waited for.
                Phase::Draining => self.failures >= DRAIN_FAILURES,
                Phase::Stopped => true,
            };
            if is_enough {
                return ControlFlow::Break(Ended::Stopped);
            }
            self.pause(until - Instant::now()).await;
        }
        ControlFlow::Continue(())
    }

    /// A batch went out, or only records that are not for this receiver were read.
    fn sent(&mut self, events: u64) {
        let (seq, line) = &self.read;
        let last = self.unsettled.back().map_or(self.position.seq, |sent| sent.seq);
        if *seq > last || events > 0 {
            let hash = hex(&Sha256::digest(line));
            self.unsettled.push_back(Sent { seq: *seq, hash, events, when: Instant::now() });
        }
    }

    /// Moves the position over what is safe.
    fn settle(&mut self) -> Result<(), Failure> {
        let Some(oldest) = self.unsettled.front() else { return Ok(()) };
        let (has_arrived, wait) = match &mut self.transport {
            Some(transport) => (transport.has_arrived()?, transport.settles_after()),
            None => (true, Duration::ZERO),
        };
        if !has_arrived {
            let is_stuck = oldest.when.elapsed() > UNDER_WAY;
            let stuck = || Failure::new(Stage::Accepted, "what was sent does not arrive");
            return if is_stuck { Err(stuck()) } else { Ok(()) };
        }
        while let Some(sent) = self.unsettled.pop_front_if(|sent| sent.when.elapsed() >= wait) {
            self.position.seq = sent.seq;
            self.accounted = self.accounted.max(sent.seq);
            self.position.hash = sent.hash;
            self.position.sent += sent.events;
        }
        self.save(SAVE);
        Ok(())
    }

    /// Makes the position durable, unless that was done a moment ago or it is the same.
    fn save(&mut self, interval: Duration) {
        let (when, seq) = self.saved;
        if self.position.seq == seq || when.elapsed() < interval {
            return;
        }
        match self.files.save(&self.position) {
            Ok(()) => self.saved = (Instant::now(), self.position.seq),
            Err(error) => {
                self.saved.0 = Instant::now();
                log::warn!("exporter {}: cannot save its position: {error}", self.settings.name);
            }
        }
    }

    fn note_standing(&self) {
        let Position { seq, sent, failed, refused, dropped, error, .. } = &self.position;
        let standing = &self.standing;
        standing.seq.set(*seq);
        standing.sent.set(*sent);
        standing.failed.set(*failed);
        standing.refused.set(*refused);
        standing.dropped.set(*dropped);
        standing.failing.set(error.is_some().into());
    }

    fn worked(&mut self) {
        self.failures = 0;
        if self.position.error.take().is_some() {
            self.position.failing_since = None;
            self.position.is_unreadable = false;
            self.told = None;
            self.saved.1 = u64::MAX;
            self.note("recovered");
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        self.position.failed += 1;
        self.position.error = Some(failure.to_string());
        self.note_standing();
        if self.position.failing_since.is_none() {
            let now = clock::rfc3339(clock::Clock::now().realtime_ns(clock::boot_ns()));
            self.position.failing_since = Some(String::from_utf8_lossy(now.as_bytes()).into_owned());
        }
        if self.told.is_none_or(|told| told.elapsed() > TELL) {
            self.told = Some(Instant::now());
            log::warn!("exporter {}: {failure}", self.settings.name);
            self.note("failing");
            self.saved.1 = u64::MAX;
            self.save(Duration::ZERO);
        }
    }

    /// Tells the log what became of the exporter.
    fn note(&self, state: &str) {
        let Position { seq, sent, failed, refused, dropped, error, .. } = &self.position;
        let mut body = Vec::new();
        let mut members = Members::within(&mut body);
        members.text("exporter", self.settings.name.as_bytes());
        members.text("state", state.as_bytes());
        members.number("position", *seq as i64);
        if let Some(durable) = &self.durable {
            members.number("lag", durable.seq().saturating_sub(*seq) as i64);
        }
        for (name, count) in [("sent", sent), ("failed", failed), ("refused", refused), ("dropped", dropped)]
        {
            members.number(name, *count as i64);
        }
        members.optional("error", error.as_deref());
        (self.tell)(RecordKind::Export, body);
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = write!(text, "{error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    String::from_utf8(text).unwrap_or_default()
}

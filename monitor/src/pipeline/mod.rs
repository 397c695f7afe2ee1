//! All stages wired, to be read from top to bottom: two threads, and the log's third.
//!
//! The *receive* thread takes records out of the rings into batches. The *match* thread decodes, enriches and
//! matches them and hands the results to a [`Sink`]. Between them stands a short queue; when it is full the
//! rings fill up, and the kernel counts what they cannot take. A recording takes the place of the receive
//! thread in a replay; everything behind it is the same.

mod decide;
mod held;
pub mod inbox;
mod live;
pub mod receive;
mod sink;
mod takeover;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use taffrail_common::event::Header;

use crate::audit::RecordKind;
use crate::capture::{self, Frame, Note};
use crate::clock::{self, Clock};
use crate::config::Settings;
use crate::detect::Detector;
use crate::detect::memory::{Limits, Memory, Occurrence, Report};
use crate::enrich::container::Container;
use crate::enrich::metadata::api::{Apis, Told, Workloads};
use crate::enrich::resolve::Asker;
use crate::enrich::users::Names;
use crate::enrich::{Enricher, Finding, Handled, Subject};
use crate::event::field::KindSet;
use crate::event::{self, Event};
use crate::probe::handover::Ledger;
use crate::probe::loss::Loss;
use crate::probe::{self};
use crate::rules::RuleSet;
use crate::rules::kinds::EXE_HASH;
use crate::scope::Scope;
use crate::vitals::Vitals;
pub use decide::Anew;
use held::{Held, Keys};
use inbox::{Inbox, Word};
use live::LOOK_INTERVAL;
pub use live::Live;
use receive::Batch;
pub use sink::{Gap, Sink};
use takeover::Cut;

/// What the match thread is sent.
pub enum Message {
    /// Records, oldest first. The empty batch goes back when they are handled.
    Batch(Batch, SyncSender<Batch>),
    /// What the kernel lost.
    Losses(Vec<Loss>),
    /// What a runtime says of a container.
    Told(Told),
    /// A record for the log, of a thread that may wait until it is taken.
    Note(RecordKind, Vec<u8>),
    /// Something is in the inbox.
    Wake,
    /// Nothing more comes.
    End,
}

/// Starts the thread that asks runtimes for what their files do not say.
pub fn ask_runtimes(settings: &Settings, to_match: &SyncSender<Message>) -> io::Result<Apis> {
    let (sockets, folders, to_match) = (settings.sockets.clone(), settings.folders.clone(), to_match.clone());
    let notes = to_match.clone();
    let pods = settings.kubernetes.workloads.then(|| Workloads {
        server: settings.kubernetes.clone(),
        node: settings.node_name.clone(),
        tell: Box::new(move || {
            let notes = notes.clone();
            // The match thread may have gone first.
            Box::new(move |body| drop(notes.send(Message::Note(RecordKind::Degraded, body))))
        }),
    });
    Apis::start(sockets, folders, pods, move |told| to_match.send(Message::Told(told)).is_ok())
}

/// Records that wait take so many bytes at most; then the first go out as they are.
const HELD_BYTES_MAX: usize = 16 << 20;

/// How often it is looked whether they still have to.
const HELD_INTERVAL: Duration = Duration::from_millis(5);

/// How often it is looked whether the log has what the ledger is to say.
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);

/// How long the log may take for its last records.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// The match thread's state.
pub struct Worker<S> {
    /// Processes and containers.
    pub enricher: Enricher,
    /// The rules in force.
    pub detector: Detector,
    /// What they remember.
    pub memory: Memory,
    /// From the boot clock to the wall clock.
    pub clock: Clock,
    /// Where the results go.
    pub sink: S,
    /// What is watched.
    pub scope: Scope,
    /// `None` in a replay.
    pub live: Option<Live>,
    /// Everything that enters is written here too.
    pub recording: Option<capture::Writer>,
    /// When the last record was made, by the boot clock: in a replay that is the present.
    pub record_ns: u64,
    /// How the daemon is.
    pub vitals: Arc<Vitals>,
    /// What the daemon itself has to say.
    pub inbox: Arc<Inbox>,
    held: Held,
    /// While events come that the last daemon's probes may have seen too.
    cut: Option<Cut>,
}

impl<S: Sink> Worker<S> {
    /// One that neither watches the running system nor records yet.
    pub fn new(enricher: Enricher, (rules, limits): (Arc<RuleSet>, Limits), clock: Clock, sink: S) -> Self {
        Self {
            enricher,
            detector: Detector::new(Arc::clone(&rules)),
            memory: Memory::new(rules, limits),
            clock,
            sink,
            scope: Scope::default(),
            live: None,
            recording: None,
            record_ns: 0,
            vitals: Arc::default(),
            inbox: Arc::default(),
            held: Held::default(),
            cut: None,
        }
    }

    /// Handles messages until the end.
    pub fn run(&mut self, messages: &Receiver<Message>) {
        let mut released = Instant::now();
        loop {
            let interval = if !self.held.is_empty() {
                HELD_INTERVAL
            } else if self.ledger().is_some_and(|ledger| ledger.is_behind()) {
                SETTLE_INTERVAL
            } else {
                LOOK_INTERVAL
            };
            self.vitals.matching.end();
            let message = match messages.recv_timeout(interval) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.vitals.matching.begin();
                    self.take_words();
                    self.take_answers();
                    self.release(HELD_BYTES_MAX);
                    self.look();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.vitals.matching.begin();
            // All that was said before the end is taken before it.
            self.take_words();
            match message {
                Message::Batch(mut batch, give_back) => {
                    self.take_answers();
                    batch.records().for_each(|record| self.record(record));
                    batch.clear();
                    if self.held.is_over(HELD_BYTES_MAX) || released.elapsed() >= HELD_INTERVAL {
                        self.release(HELD_BYTES_MAX);
                        released = Instant::now();
                    }
                    self.note_batch();
                    // The other end may have ended already.
                    let _ = give_back.try_send(batch);
                }
                Message::Losses(losses) => {
                    let cgroups: Vec<u64> = losses.iter().filter_map(|loss| loss.cgroup_id).collect();
                    self.enricher.wait_for(&cgroups);
                    losses.iter().for_each(|loss| self.loss(loss));
                }
                Message::Told(told) => {
                    self.enricher.told(told);
                    self.take_findings();
                }
                Message::Note(kind, body) => self.note(kind, &body),
                Message::Wake => {}
                Message::End => break,
            }
            self.look();
        }
        self.release(0);
        self.look_at_probes();
        self.tell_counts();
        self.end();
        self.settle_all();
    }

    /// Does what the daemon itself has said.
    fn take_words(&mut self) {
        let (words, left_out) = self.inbox.take();
        for word in words {
            match word {
                Word::Anew(anew) => self.take_anew(*anew),
                Word::Flights => self.tell_flights(),
                Word::Note(kind, body) => self.note(kind, &body),
            }
        }
        if left_out > 0 {
            let error = "records of the daemon's own found no room";
            let body = format!("\"what\":\"inbox\",\"count\":{left_out},\"error\":\"{error}\"");
            self.note(RecordKind::Degraded, body.as_bytes());
        }
    }

    /// A batch is dealt with.
    fn note_batch(&self) {
        let vitals = &self.vitals;
        vitals.done.add(1);
        vitals.match_time.add(vitals.matching.busy_for().as_nanos() as u64);
        vitals.delay.add(clock::boot_ns().saturating_sub(self.record_ns));
    }

    /// What is dealt with is kept count of here, if the probes outlive this daemon.
    fn ledger(&mut self) -> Option<&mut Ledger> {
        self.live.as_mut()?.probes.ledger.as_mut()
    }

    /// Writes down for the next daemon how far the log is.
    pub fn settle(&mut self) {
        let progress = self.sink.progress();
        if let Some(ledger) = self.ledger() {
            ledger.settle(progress, clock::boot_ns());
        }
    }

    /// Waits until the log has all that was dealt with, but not for ever: then the next daemon tells more as missing than is.
    fn settle_all(&mut self) {
        let end = Instant::now() + SETTLE_PATIENCE;
        while self.ledger().is_some_and(|ledger| ledger.is_behind()) && Instant::now() < end {
            self.settle();
            std::thread::park_timeout(HELD_INTERVAL);
        }
    }

    /// Nothing more comes.
    fn end(&mut self) {
        self.memory.tell(self.now_ns(), true);
        self.take_reports();
    }

    /// Replays a recording.
    pub fn replay<R: io::Read>(&mut self, recording: &mut capture::Reader<R>) -> io::Result<()> {
        while let Some(frame) = recording.frame()? {
            match frame {
                Frame::Record(bytes) => self.record(&bytes),
                Frame::Clock(offset_ns) => self.clock = Clock { offset_ns },
                Frame::Note(note) => match *note {
                    Note::Process(seed) => self.enricher.learn_process(seed),
                    Note::Cgroup { id, path: _, container } => {
                        self.enricher.recall_cgroup(id, container);
                        self.take_findings();
                    }
                    Note::Container { cgroup_path, metadata } => {
                        self.enricher.recall_container(&cgroup_path, *metadata);
                        self.take_findings();
                    }
                    Note::Digest { version, digest } => self.enricher.recall_digest(version, digest),
                    Note::Names { cgroup_path, names } => self.enricher.users.recall(cgroup_path, names),
                    Note::Loss { kind, cgroup_id, count, since_ns, until_ns } => {
                        self.record_ns = self.record_ns.max(until_ns);
                        self.loss(&Loss { kind, cgroup_id, count, since_ns });
                    }
                },
            }
        }
        self.end();
        Ok(())
    }

    /// Looks at what is there already; to be called once the probes are attached.
    pub fn seed(&mut self) {
        self.enricher.seed();
        self.write_recording(|recording, clock| recording.clock(clock.offset_ns));
        self.take_findings();
    }

    /// From here on files of runtimes are read by a thread of their own; to be called once all is seeded. Gives what is
    /// needed to look ahead.
    pub fn start_resolving(&mut self) -> io::Result<Option<(probe::receive::Ahead, Asker)>> {
        let asker = self.enricher.start()?;
        Ok(self.live.as_mut().and_then(|live| live.probes.ahead.take()).zip(asker))
    }

    /// One record's whole way; or it has to wait, and what may not overtake it.
    pub fn record(&mut self, bytes: &[u8]) {
        let event = match event::decode(bytes) {
            Ok(event) => event,
            Err(malformed) => {
                let what = malformed.to_string();
                self.gap("decode", &what, (None, 1), self.record_ns);
                self.count(malformed.kind());
                return;
            }
        };
        let Header { kind, boot_ns, .. } = *event.header();
        if let Some(cut) = &mut self.cut {
            if !cut.takes_new(bytes, boot_ns) {
                self.count(kind);
                return;
            }
            if cut.is_past(boot_ns) {
                self.cut = None;
            }
        }
        self.record_ns = boot_ns;
        // Looked at as soon as it comes: what is known of a container that has ended goes away soon.
        let is_ready = self.enricher.is_ready(&event);
        self.take_findings();
        if is_ready && self.held.is_empty() {
            return self.handle(bytes, &event);
        }
        let keys = Keys::of(&event, &self.enricher);
        if is_ready && !self.held.is_behind(&keys) {
            self.handle(bytes, &event);
        } else {
            self.held.push(&keys, bytes);
        }
    }

    /// Lets go on the records that have waited enough, and as many others as it takes to keep no more than `max_bytes`:
    /// by the order in which they came, as far as those go on that others wait for.
    fn release(&mut self, max_bytes: usize) {
        if self.held.is_empty() {
            return;
        }
        self.take_answers();
        let firsts: Vec<_> = self.held.firsts().collect();
        let ready = firsts.into_iter().filter(|(_, group)| self.is_first_ready(*group));
        let mut ready: BinaryHeap<_> = ready.map(Reverse).collect();
        loop {
            let victim = || self.held.victim(max_bytes).filter(|_| self.held.is_over(max_bytes));
            let Some(group) = ready.pop().map(|Reverse((_, group))| group).or_else(victim) else { return };
            let Some(record) = self.held.pop(group) else { continue };
            // It was decoded when it came.
            if let Ok(event) = event::decode(&record) {
                self.handle(&record, &event);
            }
            if self.is_first_ready(group)
                && let Some((number, _)) = self.held.first(group)
            {
                ready.push(Reverse((number, group)));
            }
        }
    }

    /// Whether the first record of a group need not wait any more.
    fn is_first_ready(&mut self, group: u64) -> bool {
        let first = self.held.first(group).and_then(|(_, record)| event::decode(record).ok());
        first.is_some_and(|event| self.enricher.is_ready(&event))
    }

    /// Takes in what was found out about containers meanwhile.
    fn take_answers(&mut self) {
        self.enricher.take_answers();
        self.take_findings();
    }

    fn handle(&mut self, bytes: &[u8], event: &Event<'_>) {
        // What the enricher finds out by this event has to stand before it in a recording.
        let handled = self.enricher.handle(event);
        self.take_findings();
        if self.recording.is_some() {
            self.write_recording(|recording, _| recording.record(bytes));
        }
        if let Handled::Process(key) = handled
            && !self.is_canary(event)
        {
            self.publish(key, event);
        }
        self.count(event.header().kind);
    }

    /// Whether it is the end of a child by which the daemon sees whether it sees. Nobody else can have its number: the child
    /// keeps it for as long as it is waited for.
    fn is_canary(&self, event: &Event<'_>) -> bool {
        let header = event.header();
        matches!(event, Event::Exit(_)) && self.vitals.canary.takes(header.ns_tgid, header.pid_ns)
    }

    /// One event of that kind is dealt with.
    fn count(&mut self, kind: u16) {
        if let Some(of) = self.vitals.kinds.get(usize::from(kind)) {
            of.handled.add(1);
        }
        if let Some(ledger) = self.ledger() {
            ledger.event(kind);
        }
    }

    fn publish(&mut self, key: crate::enrich::process::ProcessKey, event: &Event<'_>) {
        let Some(process) = self.enricher.processes.get(key) else { return };
        if process.container.as_ref().is_some_and(|container| !container.watched.get()) {
            return;
        }
        let header = event.header();
        let subject = Subject {
            event,
            time_ns: self.clock.realtime_ns(header.boot_ns),
            process,
            processes: &self.enricher.processes,
            container: process.container.as_deref(),
            answers: self.enricher.answers(process.container.as_deref()),
            number: self.enricher.events,
            target: event
                .model()
                .target()
                .and_then(|target| self.enricher.processes.target(&target, header.pid_ns)),
        };
        let matched = self.detector.matches(header.kind, &subject);
        let verdict = self.memory.advance(&Occurrence::of(&subject), matched);
        self.sink.event(&subject, verdict);
        self.take_reports();
    }

    /// Executables are read for their hash from here on, if anything that is in these sets asks for it.
    pub fn hash_if_needed(&mut self, needs: KindSet) {
        if needs & EXE_HASH != 0
            && let Err(error) = self.enricher.hash_executables()
        {
            eprintln!("error: no executable can be read for its hash: {error}");
        }
    }

    /// Tells what the rules' memory has to tell.
    fn take_reports(&mut self) {
        for Report { kind, body } in self.memory.take_reports() {
            self.note(kind, &body);
        }
    }

    fn loss(&mut self, loss: &Loss) {
        let Loss { kind, cgroup_id, count, since_ns } = *loss;
        let until_ns = self.now_ns();
        self.write_recording(|recording, _| {
            recording.note(&Note::Loss { kind, cgroup_id, count, since_ns, until_ns })
        });
        self.gap("ring", event::kind_name(kind), (cgroup_id, count), since_ns);
        if let Some(ledger) = self.ledger() {
            ledger.lost(kind, count);
        }
    }

    /// The present by the boot clock.
    fn now_ns(&self) -> u64 {
        if self.live.is_some() { clock::boot_ns() } else { self.record_ns }
    }

    /// Tells that some were lost, of that cgroup and so many, between then and now.
    fn gap(
        &mut self,
        place: &'static str,
        what: &str,
        (cgroup_id, count): (Option<u64>, u64),
        from_boot_ns: u64,
    ) {
        let to_boot_ns = self.now_ns();
        let container = cgroup_id.and_then(|id| self.enricher.container_of(id));
        self.take_findings();
        let gap = Gap {
            place,
            what,
            container: container.as_deref(),
            cgroup_id,
            count,
            from_boot_ns,
            to_boot_ns,
            time_ns: self.clock.realtime_ns(to_boot_ns),
        };
        self.vitals.gap(place, count);
        self.sink.gap(&gap);
    }

    /// Tells anything else.
    pub fn note(&mut self, kind: RecordKind, body: &[u8]) {
        let boot_ns = self.now_ns();
        self.sink.note(kind, boot_ns, self.clock.realtime_ns(boot_ns), body);
    }

    /// Hands on what the enricher found out: to the kernel's scope, and to the recording.
    fn take_findings(&mut self) {
        for finding in self.enricher.take_findings() {
            match finding {
                Finding::Process(seed) => {
                    self.write_recording(|recording, _| recording.note(&Note::Process(*seed)));
                }
                Finding::Final(container) => drop(self.decide(&container)),
                Finding::Container { container, problems } => {
                    self.decide(&container);
                    if let Some(metadata) = container.metadata.get() {
                        let (cgroup_path, metadata) =
                            (container.cgroup_path.clone(), Box::new(metadata.clone()));
                        self.write_recording(|recording, _| {
                            recording.note(&Note::Container { cgroup_path, metadata })
                        });
                    }
                    self.tell_container(&container, &problems);
                }
                Finding::Digest { version, digest } => {
                    self.write_recording(|recording, _| recording.note(&Note::Digest { version, digest }));
                }
                Finding::Names { cgroup_path, names } => {
                    let names = Names::clone(&names);
                    self.write_recording(|recording, _| recording.note(&Note::Names { cgroup_path, names }));
                }
                Finding::Moved { tgid, origin } => {
                    if let Some(live) = &mut self.live {
                        let origin = origin.filter(|origin| origin.watched.get());
                        let kinds = origin.map_or(0, |origin| live.kinds(Some(&origin), true));
                        live.probes.set_moved(tgid, kinds);
                    }
                }
                Finding::Cgroup { id, path, container, host } => {
                    let is_watched = match &container {
                        Some(container) => {
                            self.decide(container);
                            container.watched.get()
                        }
                        None => self.scope.host || !host,
                    };
                    // Of one that is gone by now nothing more comes.
                    if let (Some(live), Some(path)) = (&mut self.live, &path) {
                        live.watch(id, path, container.as_ref(), is_watched);
                    }
                    let container = container.map(|container| Container::clone(&container));
                    self.write_recording(|recording, _| {
                        recording.note(&Note::Cgroup { id, path, container })
                    });
                }
            }
        }
    }

    /// Tells what is known of a container.
    fn tell_container(&mut self, container: &Container, problems: &[String]) {
        let boot_ns = self.now_ns();
        self.sink.container(container, problems, boot_ns, self.clock.realtime_ns(boot_ns));
    }

    fn write_recording(&mut self, write: impl FnOnce(&mut capture::Writer, &Clock) -> io::Result<()>) {
        let Some(recording) = &mut self.recording else { return };
        if let Err(error) = write(recording, &self.clock) {
            eprintln!("error: the recording ends here: {error}");
            self.recording = None;
        }
    }
}

#[cfg(test)]
mod tests;

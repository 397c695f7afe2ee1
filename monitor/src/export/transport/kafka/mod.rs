//! Kafka: an idempotent producer. The key of a record is the id of its container, or the node's name if it has none, so
//! that each container's events are in one partition and in order. A batch of events becomes one batch of records for
//! each partition, of which only one is under way at a time; after a failure the same records are sent with the same
//! numbers, by which brokers know what they have already. A library is not used: that of C would bring OpenSSL along,
//! those in Rust are not idempotent or believe the lengths that a broker names.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use super::http::excerpt;
use super::{Batch, Event, Failure, Opening, Receiver, Refused, Sending, Stage, Transport, net};
use crate::export::settings::Settings;

mod connection;
mod error;
mod records;
mod sasl;
#[cfg(test)]
mod tests;
mod wire;

use connection::Connection;
use error::Verdict;
use records::Record;
use wire::{Identity, Metadata};

pub static TLS: Receiver = Receiver {
    scheme: "kafka+tls",
    about: "`kafka+tls://HOST:9093/TOPIC`: Kafka 2.1 or newer, with TLS. Further brokers to begin with are in `brokers`; with `user` it is SASL, as `sasl` says.",
    format: "json",
    takes: |format| format.name != "otlp",
    port: 9093,
    max_event_bytes: 1_000_000,
    batch_wait: super::http::WAIT,
    open,
};

pub static TCP: Receiver = Receiver {
    scheme: "kafka+tcp",
    about: "`kafka+tcp://HOST:9092/TOPIC`: the same without TLS.",
    port: 9092,
    ..TLS
};

/// Records of one partition that are sent at once: brokers take a little more than 1 MB, if nothing else is said.
const PART_MAX: usize = 1_000_000;

/// After that time it is asked again who leads what, and whether there are more partitions.
const REFRESH: Duration = Duration::from_secs(300);

/// How often in a row another leader is looked for before that counts as a failure.
const MOVES_MAX: u32 = 2;

fn open(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let wrong = || Failure::new(Stage::Settings, "the address has no topic");
        let topic = settings.topic().ok_or_else(wrong)?.to_owned();
        Ok(Box::new(Producer {
            settings: settings.clone(),
            topic,
            identity: None,
            sequences: BTreeMap::new(),
            leaders: None,
            connections: BTreeMap::new(),
            work: None,
        }) as Box<dyn Transport>)
    })
}

struct Producer {
    settings: Settings,
    topic: String,
    /// As brokers know us; none before the first time, and after they have forgotten us.
    identity: Option<Identity>,
    /// Of each partition the number of the next record.
    sequences: BTreeMap<i32, i32>,
    leaders: Option<Leaders>,
    /// Of each broker that leads a partition.
    connections: BTreeMap<i32, Connection>,
    /// What was not taken whole yet.
    work: Option<Work>,
}

/// Who leads what.
struct Leaders {
    brokers: BTreeMap<i32, (String, u16)>,
    /// Of each partition.
    of: BTreeMap<i32, i32>,
    since: Instant,
}

/// A batch of events on its way.
struct Work {
    /// Its first and last event, and how many there are: by that it is known when it comes again.
    of: Option<(u64, u64, usize)>,
    /// Of each partition the places in the batch of what has to be sent, each list at once, one after the other.
    parts: BTreeMap<i32, VecDeque<Vec<usize>>>,
    refused: Vec<Refused>,
}

impl Transport for Producer {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        Box::pin(self.send_all(batch))
    }

    fn outlives_failures(&self) -> bool {
        true
    }
}

impl Producer {
    async fn send_all(&mut self, batch: &Batch) -> Result<Vec<Refused>, Failure> {
        if self.work.as_ref().is_some_and(|work| work.of != span(batch)) {
            // What brokers have of the other batch is not known, so nor are our numbers.
            self.forget();
            self.work = None;
        }
        let mut moves = 0;
        loop {
            self.get_ready().await?;
            let Some(leaders) = &self.leaders else { continue };
            let partitions = leaders.of.len();
            let work = self.work.get_or_insert_with(|| Work::of(batch, 0..batch.events.len(), partitions));
            if !work.parts.keys().all(|partition| leaders.of.contains_key(partition)) {
                // The topic was made anew with fewer partitions.
                let mut left: Vec<usize> = work.parts.values().flatten().flatten().copied().collect();
                left.sort_unstable();
                work.parts = Work::of(batch, left, partitions).parts;
                self.forget();
                continue;
            }
            if work.parts.is_empty() {
                let refused = mem::take(&mut work.refused);
                self.work = None;
                return Ok(refused);
            }
            match self.send_round(batch).await? {
                Some(moved) if moves == MOVES_MAX => return Err(moved),
                Some(_) => moves += 1,
                None => moves = 0,
            }
        }
    }

    /// Sends the next part of each partition. What has to be asked of another leader is no failure, but returned as one.
    async fn send_round(&mut self, batch: &Batch) -> Result<Option<Failure>, Failure> {
        let mut failure = None;
        let mut moved = None;
        let mut asked = Vec::new();
        for (leader, partitions) in self.by_leader(&mut moved) {
            match self.ask(leader, &partitions, batch).await {
                Ok(()) => asked.push((leader, partitions)),
                Err(why) => failure = failure.or(self.break_off(leader, why)),
            }
        }
        for (leader, partitions) in asked {
            let Some(connection) = self.connections.get_mut(&leader) else { continue };
            let results = match connection.receive(wire::PRODUCE, wire::produce_answer).await {
                Ok(results) => results,
                Err(why) => {
                    failure = failure.or(self.break_off(leader, why));
                    continue;
                }
            };
            for partition in partitions {
                let Some((_, code)) = results.iter().find(|(of, _)| *of == partition) else {
                    let why = format_args!("the broker does not say what became of partition {partition}");
                    failure = failure.or(Some(Failure::new(Stage::Accepted, why)));
                    continue;
                };
                match self.judge(partition, *code) {
                    Ok(()) => {}
                    Err(why) if error::verdict(*code) == Verdict::Moved => moved = moved.or(Some(why)),
                    Err(why) => failure = failure.or(Some(why)),
                }
            }
        }
        if failure.is_some() || moved.is_some() {
            self.leaders = None;
        }
        failure.map_or(Ok(moved), Err)
    }

    /// An answer that still comes would be taken for another.
    fn break_off(&mut self, leader: i32, why: Failure) -> Option<Failure> {
        self.connections.remove(&leader);
        Some(why)
    }

    /// The partitions of which something is to be sent, by who leads them.
    fn by_leader(&self, moved: &mut Option<Failure>) -> BTreeMap<i32, Vec<i32>> {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let (Some(work), Some(leaders)) = (&self.work, &self.leaders) else { return by_leader };
        for partition in work.parts.keys() {
            match leaders.of.get(partition).filter(|leader| leaders.brokers.contains_key(leader)) {
                Some(leader) => by_leader.entry(*leader).or_default().push(*partition),
                None => {
                    let why = format_args!("nobody leads partition {partition} of the topic {}", self.topic);
                    *moved = Some(Failure::new(Stage::Accepted, why));
                }
            }
        }
        by_leader
    }

    /// Sends the next part of these partitions to their leader.
    async fn ask(&mut self, leader: i32, partitions: &[i32], batch: &Batch) -> Result<(), Failure> {
        let Some(identity) = self.identity else {
            return Err(Failure::new(Stage::Accepted, "a broker has forgotten us"));
        };
        let mut batches = Vec::new();
        for partition in partitions {
            let part = self.work.as_ref().and_then(|work| work.parts.get(partition)?.front());
            let events = part.into_iter().flatten().filter_map(|index| batch.events.get(*index));
            let records: Vec<Record<'_>> = events.map(|event| record(event, batch)).collect();
            let sequence = self.sequences.get(partition).copied().unwrap_or_default();
            let packed = records::batch(&records, identity, sequence, self.settings.compression);
            batches.push((*partition, packed.map_err(|error| Failure::new(Stage::Accepted, error))?));
        }
        // It has to give up before we do.
        let timeout_ms = i32::try_from(self.settings.timeout.as_millis() / 2).unwrap_or(i32::MAX);
        let body = wire::produce_request(&self.topic, timeout_ms, &batches);
        drop(batches);
        self.connection(leader).await?.send(wire::PRODUCE, &body).await
    }

    async fn connection(&mut self, leader: i32) -> Result<&mut Connection, Failure> {
        self.connections.retain(|id, connection| *id != leader || connection.is_fresh());
        if !self.connections.contains_key(&leader) {
            let broker = self.leaders.as_ref().and_then(|leaders| leaders.brokers.get(&leader));
            let Some((host, port)) = broker else {
                return Err(Failure::new(Stage::Accepted, "a partition has no leader"));
            };
            let connection = Connection::open(&self.settings, host, *port).await?;
            self.connections.insert(leader, connection);
        }
        let lost = || Failure::new(Stage::Tcp, "the connection is gone");
        self.connections.get_mut(&leader).ok_or_else(lost)
    }

    /// What becomes of the part of a partition that was sent.
    fn judge(&mut self, partition: i32, code: i16) -> Result<(), Failure> {
        let Some(work) = &mut self.work else { return Ok(()) };
        let Some(parts) = work.parts.get_mut(&partition) else { return Ok(()) };
        let Some(sent) = parts.front() else { return Ok(()) };
        let verdict = error::verdict(code);
        match verdict {
            Verdict::Taken => {
                // If another partition's broker has forgotten us meanwhile, numbers begin anew.
                if self.identity.is_some() {
                    let next = self.sequences.entry(partition).or_default();
                    *next = records::next_sequence(*next, sent.len());
                }
                parts.pop_front();
            }
            Verdict::Refused => {
                let mut sent = parts.pop_front().unwrap_or_default();
                if sent.len() > 1 {
                    let second = sent.split_off(sent.len() / 2);
                    parts.push_front(second);
                    parts.push_front(sent);
                } else {
                    let refuse = |index| Refused { index, reason: error::meaning(code).into_owned() };
                    work.refused.extend(sent.into_iter().map(refuse));
                }
            }
            Verdict::Moved | Verdict::Forgotten | Verdict::Forbidden | Verdict::Later => {
                if verdict == Verdict::Forgotten {
                    self.forget();
                }
                return Err(self.failure(code));
            }
        }
        if parts.is_empty() {
            work.parts.remove(&partition);
        }
        Ok(())
    }

    fn failure(&self, code: i16) -> Failure {
        let stage = match error::verdict(code) {
            Verdict::Forbidden => Stage::Authentication,
            _ => Stage::Accepted,
        };
        Failure::new(stage, format_args!("topic {}: {}", self.topic, error::meaning(code)))
    }

    /// From now on we are another producer.
    fn forget(&mut self) {
        self.identity = None;
        self.sequences.clear();
    }

    /// Asks who leads what, and for an identity, if that is not known: the brokers in the settings, then those that have led,
    /// until one can tell.
    async fn get_ready(&mut self) -> Result<(), Failure> {
        let is_known = self.leaders.as_ref().is_some_and(|leaders| leaders.since.elapsed() < REFRESH);
        if is_known && self.identity.is_some() {
            return Ok(());
        }
        let (host, port) = net::host_and_port(&self.settings)?;
        let led = self.leaders.iter().flat_map(|leaders| leaders.brokers.values());
        let brokers: Vec<(String, u16)> =
            [(host.to_owned(), port)].iter().chain(&self.settings.brokers).chain(led).cloned().collect();
        let mut failure = None;
        for (host, port) in brokers {
            match self.ask_all(&host, port, is_known).await {
                Ok(()) => return Ok(()),
                Err(why) => failure = failure.or(Some(why)),
            }
        }
        // Those who lead may do so still: they would say if not.
        if let (Some(_), Some(leaders)) = (self.identity, &mut self.leaders) {
            leaders.since = Instant::now();
            return Ok(());
        }
        failure.map_or(Ok(()), Err)
    }

    /// Asks one broker all that has to be known.
    async fn ask_all(&mut self, host: &str, port: u16, is_known: bool) -> Result<(), Failure> {
        let mut broker = Connection::open(&self.settings, host, port).await?;
        if !is_known {
            let body = wire::metadata_request(&self.topic);
            let metadata = broker.ask(wire::METADATA, &body, wire::metadata_answer).await?;
            if metadata.error != 0 {
                return Err(self.failure(metadata.error));
            }
            let leaders = Leaders::new(metadata)?;
            self.connections.retain(|id, _| leaders.brokers.contains_key(id));
            self.leaders = Some(leaders);
        }
        if self.identity.is_none() {
            let body = wire::identity_request();
            let (code, identity) = broker.ask(wire::INIT_PRODUCER_ID, &body, wire::identity_answer).await?;
            if code != 0 {
                return Err(self.failure(code));
            }
            self.identity = Some(identity);
        }
        Ok(())
    }
}

impl Leaders {
    fn new(metadata: Metadata) -> Result<Self, Failure> {
        let Metadata { brokers, error: _, partitions } = metadata;
        let mut known = BTreeMap::new();
        for wire::Broker { id, host, port } in brokers {
            let wrong = |_| {
                Failure::new(Stage::Accepted, format_args!("{}: no port {port}", excerpt(host.as_bytes())))
            };
            let port = u16::try_from(port).map_err(wrong)?;
            known.insert(id, (host, port));
        }
        let of: BTreeMap<i32, i32> =
            partitions.into_iter().map(|partition| (partition.index, partition.leader)).collect();
        if of.is_empty() || !of.keys().copied().eq((0..).take(of.len())) {
            return Err(Failure::new(Stage::Accepted, "the topic's partitions are not numbered from 0 on"));
        }
        Ok(Self { brokers: known, of, since: Instant::now() })
    }
}

impl Work {
    /// Those of the batch's events, by partitions.
    fn of(batch: &Batch, events: impl IntoIterator<Item = usize>, partitions: usize) -> Self {
        let mut parts: BTreeMap<i32, VecDeque<Vec<usize>>> = BTreeMap::new();
        let mut sizes: BTreeMap<i32, usize> = BTreeMap::new();
        for index in events {
            let Some(event) = batch.events.get(index) else { continue };
            let record = record(event, batch);
            let partition = records::partition(record.key, partitions);
            let size = sizes.entry(partition).or_default();
            *size += records::size(&record);
            let parts = parts.entry(partition).or_default();
            match parts.back_mut().filter(|_| *size <= PART_MAX) {
                Some(part) => part.push(index),
                None => {
                    *size = records::size(&record);
                    parts.push_back(vec![index]);
                }
            }
        }
        Self { of: span(batch), parts, refused: Vec::new() }
    }
}

fn span(batch: &Batch) -> Option<(u64, u64, usize)> {
    let (first, last) = (batch.events.first()?, batch.events.last()?);
    Some((first.seq, last.seq, batch.events.len()))
}

fn record<'a>(event: &'a Event, batch: &'a Batch) -> Record<'a> {
    let key = if event.container.is_empty() { &event.node } else { &event.container };
    let value = batch.bytes.get(event.range.clone()).unwrap_or_default();
    Record { key, id: &event.id, value, time_ms: event.time_ns / 1_000_000 }
}

//! Transports: from a batch of events to a receiver. A kind of receiver is one file here and one line in [`RECEIVERS`].
//! A transport sends a batch and says how that went; when to try again, and what becomes of events that nobody wants,
//! is the business of [`super::deliver`].

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::record::Record;
use super::settings::Settings;

mod elastic;
mod file;
mod http;
mod kafka;
mod loki;
pub mod net;
mod otlp;
mod splunk;
mod syslog;
mod webhook;

/// A kind of receiver.
pub struct Receiver {
    /// The scheme of its addresses.
    pub scheme: &'static str,
    /// What it is, and how an address of it looks.
    pub about: &'static str,
    /// The format that is sent if no other is chosen.
    pub format: &'static str,
    /// Which formats it takes.
    pub takes: fn(&super::format::Format) -> bool,
    /// Port, if the address has none.
    pub port: u16,
    /// Longest event, if nothing else is said.
    pub max_event_bytes: usize,
    /// How long an event waits for others, if nothing else is said.
    pub batch_wait: Duration,
    /// Makes a connection, or gets ready to make one.
    pub open: fn(&Settings) -> Opening<'_>,
}

/// Looks the receiver up and makes a connection, only to tell each step.
pub async fn probe(settings: &Settings, mut tell: impl FnMut(Stage, &str)) -> Result<(), Failure> {
    let scheme = settings.receiver.scheme;
    if settings.to.host_str().is_none_or(str::is_empty) {
        return Ok(());
    }
    let addresses = net::look_up(settings).await?;
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    tell(Stage::Dns, &shown.join(", "));
    if scheme == syslog::UDP.scheme {
        return Ok(());
    }
    let stream = net::connect(settings, &addresses).await?;
    let peer =
        stream.peer_addr().map_or_else(|_| "connected".to_owned(), |peer| format!("connected to {peer}"));
    tell(Stage::Tcp, &peer);
    if ["tls", "https", "grpcs"].iter().any(|end| scheme.ends_with(end)) {
        let stream = net::secure(settings, stream).await?;
        let version = stream.get_ref().1.protocol_version();
        tell(Stage::Tls, &version.map_or_else(|| "secure".to_owned(), |version| format!("{version:?}")));
    }
    Ok(())
}

/// Whether the receiver cannot answer at all.
pub fn is_one_way(settings: &Settings) -> bool {
    [syslog::UDP.scheme, syslog::UNIX.scheme].contains(&settings.receiver.scheme)
}

/// Makes a transport.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Transport>, Failure>> + 'a>>;

/// How sending went: what is refused for good, by place in the batch and with the receiver's reason.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Vec<Refused>, Failure>> + 'a>>;

/// All kinds of receivers.
pub static RECEIVERS: &[&Receiver] = &[
    &file::STDOUT,
    &file::FILE,
    &syslog::UDP,
    &syslog::TCP,
    &syslog::TLS,
    &syslog::UNIX,
    &webhook::HTTP,
    &webhook::HTTPS,
    &splunk::HTTP,
    &splunk::HTTPS,
    &elastic::HTTP,
    &elastic::HTTPS,
    &loki::HTTP,
    &loki::HTTPS,
    &otlp::GRPC,
    &otlp::GRPCS,
    &otlp::HTTP,
    &otlp::HTTPS,
    &kafka::TCP,
    &kafka::TLS,
];

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme)
    }
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A way to a receiver. It is dropped after a failure, and opened anew.
pub trait Transport: Send {
    /// Sends a batch; done when the receiver has it.
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a>;

    /// Whether it is not dropped after a failure, because it has to remember what was on its way: the same batch comes
    /// again then.
    fn outlives_failures(&self) -> bool {
        false
    }

    /// Whether all that was sent has arrived, as far as can be known; an error if the connection is no more. Only of
    /// transports that never hear from the receiver: until it was so for [`Transport::settles_after`], events can
    /// still be lost, and are sent again after a failure.
    fn has_arrived(&mut self) -> Result<bool, Failure> {
        Ok(true)
    }

    /// How long it takes until an event that has arrived counts as safe.
    fn settles_after(&self) -> Duration {
        Duration::ZERO
    }
}

/// An event that the receiver will never take.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the batch.
    pub index: usize,
    /// The receiver's reason.
    pub reason: String,
}

/// Events that are sent at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// All events, one behind the other.
    pub bytes: Vec<u8>,
    /// What is known of each.
    pub events: Vec<Event>,
}

/// What a transport needs to know of an event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its number in the log.
    pub seq: u64,
    /// What it is known by everywhere.
    pub id: String,
    /// When, in ns since 1970.
    pub time_ns: i64,
    /// When, as the log has it.
    pub time: String,
    /// Syslog's severity.
    pub severity: u8,
    /// What the record is about.
    pub kind: String,
    /// The node's name.
    pub node: String,
    /// The id of its container; empty if it is of none.
    pub container: String,
    /// Its bytes.
    pub range: Range<usize>,
}

impl Event {
    /// Of a record whose bytes are there.
    pub fn new(record: &Record<'_>, range: Range<usize>) -> Self {
        Self {
            seq: record.seq,
            id: record.id(),
            time_ns: record.time_ns,
            time: record.text("", "time").unwrap_or_default().to_owned(),
            severity: record.severity.syslog(),
            kind: record.kind().to_owned(),
            node: record.node().to_owned(),
            container: record.text("container", "id").unwrap_or_default().to_owned(),
            range,
        }
    }
}

impl Batch {
    /// Each event with its bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&Event, &[u8])> {
        self.events.iter().map(|event| (event, self.bytes.get(event.range.clone()).unwrap_or_default()))
    }

    /// Some of its events as a batch.
    pub fn part(&self, range: Range<usize>) -> Self {
        let mut part = Self::default();
        for (event, bytes) in self.iter().skip(range.start).take(range.len()) {
            let start = part.bytes.len();
            part.bytes.extend_from_slice(bytes);
            part.events.push(Event { range: start..part.bytes.len(), ..event.clone() });
        }
        part
    }

    /// Forgets all events.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.events.clear();
    }
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Files and secrets that the settings name.
    Settings,
    /// Looking up the receiver's name.
    Dns,
    /// Making the connection.
    Tcp,
    /// Proving who is who.
    Tls,
    /// Being let in.
    Authentication,
    /// Sending, and hearing that it was taken.
    Accepted,
}

impl Stage {
    /// All, in their order.
    pub const ALL: [Self; 6] =
        [Self::Settings, Self::Dns, Self::Tcp, Self::Tls, Self::Authentication, Self::Accepted];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        ["settings", "DNS", "TCP", "TLS", "authentication", "accepted"][self as usize]
    }
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How far it came.
    pub stage: Stage,
    /// What happened, for people. Never a secret.
    pub why: String,
    /// Whether the events are why, so that sending the same again is of no use.
    pub is_refusal: bool,
    /// When the receiver wants to be asked again.
    pub after: Option<Duration>,
}

impl Failure {
    /// Something that may go better another time.
    pub fn new(stage: Stage, why: impl fmt::Display) -> Self {
        Self { stage, why: why.to_string(), is_refusal: false, after: None }
    }

    /// Something that is wrong with the events.
    pub fn refusal(why: impl fmt::Display) -> Self {
        Self { is_refusal: true, ..Self::new(Stage::Accepted, why) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage.name(), self.why)
    }
}

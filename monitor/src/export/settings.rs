//! What an exporter is told: where to, in which form, how much. `config/export.rs` reads it from the configuration.
//! Secrets are never here: only where they are, to be read when a connection is made.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::format::Format;
use super::record::{Record, Severity};
use super::transport::Receiver;
use crate::audit::RecordKind;
use crate::event::logged;
use crate::rules::Filter;

/// One exporter, valid.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name: of files too, so letters, digits, `-` and `_` only.
    pub name: String,
    /// Where to.
    pub to: Url,
    /// Further brokers of Kafka to begin with: host and port.
    pub brokers: Vec<(String, u16)>,
    /// What is there.
    pub receiver: &'static Receiver,
    /// In which form.
    pub format: &'static Format,
    /// Which kinds of records; all if it is empty.
    pub kinds: Vec<RecordKind>,
    /// Which events and alerts: the text and the compiled condition; all if there is none.
    pub filter: Option<(String, Filter)>,
    /// Alerts of a lower priority stay here.
    pub min_priority: Severity,
    /// Events in a second at most; 0 for no limit.
    pub rate: u64,
    /// Events that are sent at once.
    pub batch_events: usize,
    /// Bytes of events that are sent at once.
    pub batch_bytes: usize,
    /// How long an event waits for others.
    pub batch_wait: Duration,
    /// An event that is longer is cut.
    pub max_event_bytes: usize,
    /// How bodies are packed.
    pub compression: Compression,
    /// How long the receiver may take.
    pub timeout: Duration,
    /// Certificates and keys.
    pub tls: Tls,
    /// What shows who we are.
    pub token: Option<SecretAt>,
    /// Name and password.
    pub login: Option<(String, SecretAt)>,
    /// How they are shown to Kafka.
    pub sasl: Sasl,
    /// Further headers of HTTP requests.
    pub headers: Vec<(String, String)>,
    /// Whether the receiver is asked when events are safe.
    pub acknowledge: bool,
}

impl Settings {
    /// The topic that an address of Kafka names; `None` if it is no name that Kafka allows.
    pub fn topic(&self) -> Option<&str> {
        let topic = self.to.path().trim_matches('/');
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=249).contains(&topic.len()) && topic.bytes().all(is_valid);
        (is_name && !matches!(topic, "." | "..")).then_some(topic)
    }

    /// Whether it sends a record.
    pub fn wants(&self, record: &Record<'_>) -> bool {
        let kind = record.kind();
        let is_chosen = self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted.name() == kind);
        let is_loud = || kind != "alert" || record.severity <= self.min_priority;
        // A condition is about events; what the log says about itself has none.
        let passes = || match &self.filter {
            Some((_, filter)) if !record.event_kind().is_empty() => {
                logged::Record::parse(record.line).is_some_and(|record| filter.matches(&record))
            }
            _ => true,
        };
        is_chosen && is_loud() && passes()
    }
}

/// How what is sent is packed: bodies of HTTP requests, batches of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// All.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// Its name in the configuration and in HTTP.
    pub fn name(self) -> &'static str {
        ["none", "gzip", "zstd"][self as usize]
    }

    /// The body, packed; `None` if it goes as it is.
    pub fn pack(self, body: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        match self {
            Self::None => Ok(None),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(body)?;
                encoder.finish().map(Some)
            }
            Self::Zstd => zstd::encode_all(body, 1).map(Some),
        }
    }
}

/// Mechanisms of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// RFC 4616: the password as it is.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

impl Sasl {
    /// All.
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        ["plain", "scram-sha-256", "scram-sha-512"][self as usize]
    }

    /// Its name in SASL.
    pub fn mechanism(self) -> &'static str {
        ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"][self as usize]
    }
}

/// Certificates and keys, in PEM files.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who signs the receiver's certificate; the system's list if it is not there.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the receiver's certificate, if it is not the one in the address.
    pub server_name: Option<String>,
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretAt {
    /// In a file, without the line end.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
}

impl SecretAt {
    /// Reads it. The error never holds it.
    pub fn read(&self) -> Result<String, String> {
        let secret = match self {
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            Self::Variable(name) => {
                std::env::var(name).map_err(|_| format!("there is no variable {name}"))?
            }
        };
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() || secret.chars().any(char::is_control) {
            return Err(format!("what {self} has is no secret: empty, or with control characters"));
        }
        Ok(secret.to_owned())
    }
}

impl std::fmt::Display for SecretAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
        }
    }
}

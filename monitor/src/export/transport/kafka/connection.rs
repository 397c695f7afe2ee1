//! A connection to one broker: TCP, TLS, what it speaks, a login; then requests and answers, one after the other.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::super::http::excerpt;
use super::super::{Failure, Stage, Stream, net};
use super::error;
use super::sasl::{self, Scram};
use super::wire::{self, API_VERSIONS, Api, Malformed, SASL_AUTHENTICATE, SASL_HANDSHAKE, Write as _};
use crate::export::settings::{Sasl, Settings};

/// An answer that is longer is none.
const ANSWER_MAX: usize = 4 << 20;

/// A connection that was not used for so long is made anew: brokers close theirs after ten minutes, what stands between
/// after six.
const IDLE: Duration = Duration::from_secs(240);

/// A connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    timeout: Duration,
    /// How people know the broker.
    name: String,
    /// Of the last request, by which its answer is known.
    number: i32,
    used: Instant,
    /// When the login ends.
    until: Option<Instant>,
    has_login: bool,
}

impl Connection {
    /// Makes it.
    pub async fn open(settings: &Settings, host: &str, port: u16) -> Result<Self, Failure> {
        let stream = net::connect(settings, &net::look_up_at(settings, host, port).await?).await?;
        let stream: Box<dyn Stream> = if settings.receiver.scheme == super::TLS.scheme {
            Box::new(net::secure_as(settings, host, stream).await?)
        } else {
            Box::new(stream)
        };
        let mut connection = Self {
            stream,
            timeout: settings.timeout,
            name: excerpt(format!("{host}:{port}").as_bytes()),
            number: 0,
            used: Instant::now(),
            until: None,
            has_login: settings.login.is_some(),
        };
        connection.check_versions().await?;
        if let Some((user, password)) = &settings.login {
            let password = password.read().map_err(|why| Failure::new(Stage::Settings, why))?;
            connection.log_in(settings.sasl, user, &password).await?;
        }
        Ok(connection)
    }

    /// Whether it can still be used.
    pub fn is_fresh(&self) -> bool {
        let now = Instant::now();
        now - self.used < IDLE && self.until.is_none_or(|until| now < until)
    }

    /// Sends a request and reads the answer.
    pub async fn ask<T>(
        &mut self,
        api: Api,
        body: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Failure> {
        self.send(api, body).await?;
        self.receive(api, read).await
    }

    /// Sends a request.
    pub async fn send(&mut self, api: Api, body: &[u8]) -> Result<(), Failure> {
        self.number = self.number.wrapping_add(1);
        let mut head = Vec::with_capacity(64);
        head.i16(api.key);
        head.i16(api.version);
        head.i32(self.number);
        head.text("taffrail");
        let mut frame = Vec::with_capacity(4 + head.len() + body.len());
        frame.count(head.len() + body.len());
        frame.extend_from_slice(&head);
        frame.extend_from_slice(body);
        let Self { stream, name, .. } = self;
        let lost = |error| Failure::new(Stage::Accepted, format_args!("{name}: {error}"));
        net::within(self.timeout, Stage::Accepted, async {
            stream.write_all(&frame).await.map_err(lost)?;
            stream.flush().await.map_err(lost)
        })
        .await
    }

    /// Reads the answer to the request that was sent last.
    pub async fn receive<T>(
        &mut self,
        api: Api,
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Failure> {
        let answer = net::within(self.timeout, Stage::Accepted, async {
            let mut length = [0; 4];
            let read = self.stream.read_exact(&mut length).await;
            read.map_err(|error| self.lost(api, &error))?;
            let length = usize::try_from(i32::from_be_bytes(length)).ok();
            let Some(length) = length.filter(|length| (4..=ANSWER_MAX).contains(length)) else {
                let why = "what answers is no broker of Kafka, or it speaks TLS (`kafka+tls://`)";
                return Err(self.failure(Stage::Accepted, why));
            };
            let mut answer = vec![0; length];
            let read = self.stream.read_exact(&mut answer).await;
            read.map_err(|error| self.lost(api, &error))?;
            Ok(answer)
        })
        .await?;
        let (number, answer) = answer.split_at_checked(4).unwrap_or_default();
        if number != self.number.to_be_bytes() {
            return Err(self.failure(Stage::Accepted, "it answers what was not asked"));
        }
        self.used = Instant::now();
        let malformed = |error| self.failure(Stage::Accepted, format_args!("{}: {error}", api.name));
        read(answer).map_err(malformed)
    }

    fn failure(&self, stage: Stage, why: impl std::fmt::Display) -> Failure {
        Failure::new(stage, format_args!("{}: {why}", self.name))
    }

    /// Brokers do not say why they hang up; what can be guessed is told.
    fn lost(&self, api: Api, error: &std::io::Error) -> Failure {
        if error.kind() != std::io::ErrorKind::UnexpectedEof {
            return self.failure(Stage::Accepted, error);
        }
        let is_strange = !self.has_login || api == API_VERSIONS;
        let guess =
            if is_strange { ": perhaps it wants TLS (`kafka+tls://`) or a login (`user`)" } else { "" };
        self.failure(Stage::Accepted, format_args!("it has closed the connection{guess}"))
    }

    async fn check_versions(&mut self) -> Result<(), Failure> {
        let (code, versions) = self.ask(API_VERSIONS, &[], wire::versions_answer).await?;
        if code != 0 {
            return Err(self.failure(Stage::Accepted, error::meaning(code)));
        }
        for api in [wire::PRODUCE, wire::METADATA, wire::INIT_PRODUCER_ID] {
            let speaks = |of: &wire::Spoken| of.key == api.key && (of.from..=of.to).contains(&api.version);
            if !versions.iter().any(speaks) {
                let why =
                    format_args!("it does not speak {} {}, as Kafka since 2.1 does", api.name, api.version);
                return Err(self.failure(Stage::Accepted, why));
            }
        }
        Ok(())
    }

    async fn log_in(&mut self, sasl: Sasl, user: &str, password: &str) -> Result<(), Failure> {
        let body = wire::handshake_request(sasl.mechanism());
        let (code, known) = self.ask(SASL_HANDSHAKE, &body, wire::handshake_answer).await?;
        if code != 0 {
            let known = excerpt(known.join(", ").as_bytes());
            let why =
                format_args!("it does not take {}, but {known}: write another `sasl`", sasl.mechanism());
            return Err(self.failure(Stage::Authentication, why));
        }
        let lifetime_ms = match sasl {
            Sasl::Plain => self.authenticate(&sasl::plain(user, password)).await?.lifetime_ms,
            Sasl::ScramSha256 | Sasl::ScramSha512 => {
                let scram = Scram::new(sasl, user).map_err(|why| Failure::new(Stage::Settings, why))?;
                let answer = self.authenticate(&scram.first()).await?;
                let wrong = |why| self.failure(Stage::Authentication, why);
                let (last, proof) = scram.last(&answer.token, password).map_err(wrong)?;
                let answer = self.authenticate(&last).await?;
                proof.check(&answer.token).map_err(|why| self.failure(Stage::Authentication, why))?;
                answer.lifetime_ms
            }
        };
        // Some time before it ends.
        let lifetime = u64::try_from(lifetime_ms).ok().filter(|lifetime| *lifetime > 0);
        self.until = lifetime
            .and_then(|lifetime| Instant::now().checked_add(Duration::from_millis(lifetime / 10 * 8)));
        Ok(())
    }

    async fn authenticate(&mut self, token: &[u8]) -> Result<wire::Authenticated, Failure> {
        let body = wire::authenticate_request(token);
        let answer = self.ask(SASL_AUTHENTICATE, &body, wire::authenticate_answer).await?;
        if answer.error == 0 {
            return Ok(answer);
        }
        let why = format!("{}: {}", error::meaning(answer.error), excerpt(answer.reason.as_bytes()));
        Err(self.failure(Stage::Authentication, why))
    }
}

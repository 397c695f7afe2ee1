//! Servers that the daemon was told to ask by HTTPS: the API server of Kubernetes ([`kubernetes`]), and a provider of OpenID
//! Connect. What they say is data from elsewhere: answers are bounded, redirections are not followed (what proves who we are
//! would go along), and an answer that cannot be used is an error like none at all. [`Standing`] keeps how each of them is, for
//! metrics, the status and the log.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;
use url::Url;

use crate::event::text::escaped;
use crate::export::settings::Tls;
use crate::export::transport::net;
use crate::stamp::{self, Stamp};
use crate::vitals::Number;

pub mod kubernetes;
#[cfg(test)]
pub mod stub;

/// How long a server may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of an answer that is read whole.
const ANSWER_MAX: usize = 1 << 20;

/// Most bytes of what somebody says that is repeated, and of an error that has it in it.
const SAID_MAX: usize = 200;
const ERROR_MAX: usize = 2 * SAID_MAX;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody is there, or he is busy: it can be another time.
    #[error("{0}")]
    Away(String),
    /// We are not let in, or may not ask that.
    #[error("it does not let us: {0}")]
    Denied(String),
    /// There is no such thing.
    #[error("not known there (404)")]
    Unknown,
    /// What was there is over (410): begin anew.
    #[error("too old (410)")]
    Gone,
    /// He does not say what he should.
    #[error("{0}")]
    Wrong(String),
}

/// Asks one server.
pub struct Client {
    ca_file: Option<PathBuf>,
    /// With the version of that file.
    made: Mutex<Option<(Option<Stamp>, reqwest::Client)>>,
}

impl Client {
    /// One that trusts whoever these certificates sign for; by default whom the system trusts.
    pub fn new(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, made: Mutex::new(None) }
    }

    /// A question that is not asked yet.
    pub fn question(&self, method: Method, url: Url) -> Result<RequestBuilder, Error> {
        let stamp = self.ca_file.as_deref().and_then(stamp::of);
        let made = &mut *self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = made
            && *of == stamp
        {
            return Ok(client.request(method, url));
        }
        let tls = Tls { ca_file: self.ca_file.clone(), ..Tls::default() };
        let client = reqwest::Client::builder()
            .user_agent(concat!("taffrail/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .https_only(true)
            .connect_timeout(PATIENCE)
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_keepalive_interval(Duration::from_secs(10))
            .tcp_keepalive_retries(3)
            .tls_backend_preconfigured(
                net::client(&tls).map_err(|failure| Error::Wrong(failure.to_string()))?,
            )
            .build()
            .map_err(|error| Error::Wrong(error.to_string()))?;
        let (_, client) = made.insert((stamp, client));
        Ok(client.request(method, url))
    }
}

/// Asks, and reads what a JSON answer says.
pub async fn ask<T: DeserializeOwned>(question: RequestBuilder) -> Result<T, Error> {
    let response = send(question.timeout(PATIENCE)).await?;
    let bytes = read(response, ANSWER_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Wrong(format!("no such JSON: {error}")))
}

/// Asks, and gives an answer that is none of refusal, of which nothing was read yet.
pub async fn send(question: RequestBuilder) -> Result<Response, Error> {
    let response = question.send().await.map_err(|error| away(&error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if status.is_redirection() {
        return Err(Error::Wrong(format!("{status}: redirections are not followed")));
    }
    let bytes = read(response, ANSWER_MAX).await.unwrap_or_default();
    let said = String::from_utf8_lossy(bytes.get(..SAID_MAX).unwrap_or(&bytes));
    let said = format!("{status}: {said}");
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied(said),
        StatusCode::NOT_FOUND => Error::Unknown,
        StatusCode::GONE => Error::Gone,
        StatusCode::TOO_MANY_REQUESTS => Error::Away(said),
        _ if status.is_server_error() => Error::Away(said),
        _ => Error::Wrong(said),
    })
}

/// The body of an answer; one that is longer is an error.
pub async fn read(mut response: Response, max: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| away(&error))? {
        if bytes.len() + chunk.len() > max {
            return Err(Error::Wrong(format!("more than {max} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Why no answer came. The text of the whole error has the address in it, which is known.
pub fn away(error: &reqwest::Error) -> Error {
    if error.is_timeout() {
        return Error::Away("no answer in time".to_owned());
    }
    let mut why: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        why.push(error.to_string());
        cause = error.source();
    }
    why.dedup();
    Error::Away(if why.is_empty() { "it hung up".to_owned() } else { why.join(": ") })
}

/// Puts a body of a record of the kind `degraded` into the log.
pub type Tell = Box<dyn Fn(Vec<u8>) + Send + Sync>;

/// How a server is that is asked, or what it is asked for.
pub struct Standing {
    /// What it is to us: `kubernetes`, `oidc`, `workloads`.
    pub what: &'static str,
    /// Questions that it has answered.
    pub answered: Number,
    /// Questions that came to nothing.
    pub failed: Number,
    /// Why it cannot be asked, while that is so.
    error: Mutex<Option<String>>,
    tell: Tell,
}

impl Standing {
    /// Of one that was not asked yet. `tell` is called when it goes away and when it is back.
    pub fn new(what: &'static str, tell: Tell) -> Self {
        let (answered, failed) = Default::default();
        Self { what, answered, failed, error: Mutex::new(None), tell }
    }

    /// Notes what came of a question about something that may well be gone: that it is so is an answer.
    pub fn note_found<T>(&self, result: &Result<T, Error>) {
        match result {
            Err(Error::Unknown | Error::Gone) => self.note(&Ok(())),
            result => self.note(result),
        }
    }

    /// Notes what came of a question.
    pub fn note<T>(&self, result: &Result<T, Error>) {
        let error = match result {
            Ok(_) => None,
            // A text of theirs may be in it, whole.
            Err(error) => {
                let text = error.to_string();
                Some(escaped(&text.as_bytes()[..text.floor_char_boundary(ERROR_MAX)]))
            }
        };
        let count = if error.is_some() { &self.failed } else { &self.answered };
        count.add(1);
        let before = std::mem::replace(&mut *self.error(), error.clone());
        match (&before, &error) {
            (None, Some(error)) => {
                log::warn!("{}: {error}", self.what);
                self.record(&json!({ "what": self.what, "count": 1, "error": error }));
            }
            (Some(_), None) => {
                log::info!("{}: works again", self.what);
                let failed = self.failed.get();
                self.record(&json!({ "what": self.what, "count": failed, "is_over": true }));
            }
            _ => {}
        }
    }

    /// Why it cannot be asked, while that is so.
    pub fn why_away(&self) -> Option<String> {
        self.error().clone()
    }

    fn error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, body: &Value) {
        let text = body.to_string().into_bytes();
        (self.tell)(text.get(1..text.len() - 1).unwrap_or_default().to_vec());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn text_of_a_server_is_told_cut_and_on_one_line() {
        let told: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let book = Arc::clone(&told);
        let standing = Standing::new("workloads", Box::new(move |body| book.lock().unwrap().push(body)));
        let body = json!("x".repeat(1 << 20)).to_string();
        let wrong = serde_json::from_str::<u8>(&body).unwrap_err();
        standing.note::<()>(&Err(Error::Wrong(format!("\n\u{1b}[2J\u{202e}{wrong}"))));
        let error = standing.why_away().unwrap();
        assert!(error.starts_with("\\n\\x1b[2J\\u{202e}invalid type: string \"xxx"), "{error}");
        assert!(error.len() <= 2 * ERROR_MAX && told.lock().unwrap()[0].len() <= 3 * ERROR_MAX);
    }
}

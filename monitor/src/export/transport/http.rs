//! What all receivers that speak HTTP share: one client with TLS, headers, packing of bodies, and what an answer means.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, redirect};
use url::Url;

use super::{Failure, Stage, net};
use crate::export::redact::redacted;
use crate::export::settings::{Compression, Settings};

/// How long an event waits for others before a request is made for them.
pub const WAIT: Duration = Duration::from_millis(250);

/// Answers that are longer are cut.
const ANSWER_MAX: usize = 4 << 20;

/// How a token is shown in the `Authorization` header.
#[derive(Clone, Copy)]
pub struct Scheme(pub &'static str);

/// A client for one receiver.
pub struct Client {
    inner: reqwest::Client,
    base: Url,
    headers: HeaderMap,
    compression: Compression,
    /// What of the address no failure may tell.
    secrets: Vec<String>,
}

/// An answer that is no failure.
pub struct Answer {
    /// Its body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client; its address is `http` or `https`, as the receiver's scheme ends.
    pub async fn new(settings: &Settings, token_scheme: Scheme) -> Result<Self, Failure> {
        let wrong = |why: &dyn std::fmt::Display| Failure::new(Stage::Settings, why);
        let protocol = settings.receiver.scheme.rsplit('+').next().unwrap_or("https");
        let (host, port) = net::host_and_port(settings)?;
        let name = settings.tls.server_name.as_deref().unwrap_or(host);
        let shown = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        let mut base = Url::parse(&format!("{protocol}://{shown}:{port}")).map_err(|error| wrong(&error))?;
        base.set_path(settings.to.path());
        base.set_query(settings.to.query());
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("taffrail/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout)
            .tls_backend_preconfigured(net::client(&settings.tls)?);
        if settings.tls.server_name.is_some() {
            builder = builder.resolve_to_addrs(name, &net::look_up(settings).await?);
        }
        let inner = builder.build().map_err(|error| wrong(&error))?;
        let headers = headers(settings, token_scheme)?;
        let secrets = settings.secrets_in_address();
        Ok(Self { inner, base, headers, compression: settings.compression, secrets })
    }

    /// The receiver's address with this path, unless it has one of its own.
    pub fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        if matches!(url.path(), "" | "/") {
            url.set_path(path);
        }
        url
    }

    /// Posts a body, packed as the settings say.
    pub async fn post(
        &self,
        url: Url,
        content_type: &'static str,
        body: Vec<u8>,
        more: HeaderMap,
    ) -> Result<Answer, Failure> {
        let packed = self.compression.pack(&body).map_err(|error| Failure::new(Stage::Accepted, error))?;
        let mut request = self.inner.request(Method::POST, url).headers(self.headers.clone()).headers(more);
        request = request.header(CONTENT_TYPE, content_type);
        if let Some(packed) = packed {
            request = request.header(CONTENT_ENCODING, self.compression.name()).body(packed);
        } else {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(|error| unsent(&error))?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unsent(&error))? {
            body.extend_from_slice(
                chunk.get(..ANSWER_MAX.saturating_sub(body.len()).min(chunk.len())).unwrap_or_default(),
            );
        }
        judge(status, after.map(Duration::from_secs), &body, &self.secrets)?;
        Ok(Answer { body })
    }
}

/// Headers of every request. A secret is marked, so that no log shows it.
fn headers(settings: &Settings, scheme: Scheme) -> Result<HeaderMap, Failure> {
    let wrong = |why: String| Failure::new(Stage::Settings, why);
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let name = HeaderName::try_from(name).map_err(|_| wrong(format!("`{name}` is no header")))?;
        headers.insert(
            name,
            HeaderValue::try_from(value).map_err(|_| wrong("a header's value cannot be sent".into()))?,
        );
    }
    let Some(credentials) = credentials(settings, scheme)? else { return Ok(headers) };
    let mut value =
        HeaderValue::try_from(credentials).map_err(|_| wrong("the secret cannot be sent".into()))?;
    value.set_sensitive(true);
    headers.insert(reqwest::header::AUTHORIZATION, value);
    Ok(headers)
}

/// What proves who we are, as the `Authorization` header has it.
pub fn credentials(settings: &Settings, scheme: Scheme) -> Result<Option<String>, Failure> {
    let wrong = |why: String| Failure::new(Stage::Settings, why);
    Ok(match (&settings.token, &settings.login) {
        (Some(token), _) => Some(format!("{} {}", scheme.0, token.read().map_err(wrong)?)),
        (None, Some((user, password))) => {
            let pair = format!("{user}:{}", password.read().map_err(wrong)?);
            let pair = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
            Some(format!("Basic {pair}"))
        }
        (None, None) => None,
    })
}

/// Why a request came to nothing, and how far it came.
fn unsent(error: &reqwest::Error) -> Failure {
    // The text of the whole error has the address in it, which is known, and may hold secrets.
    let mut why = String::new();
    let mut stage = if error.is_connect() { Stage::Tcp } else { Stage::Accepted };
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("dns error") {
            stage = Stage::Dns;
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            stage = Stage::Tls;
        }
        if !why.contains(&text) {
            let separator = if why.is_empty() { "" } else { ": " };
            why.push_str(separator);
            why.push_str(&text);
        }
        cause = error.source();
    }
    if error.is_timeout() {
        why = "no answer in time".to_owned();
    }
    Failure::new(stage, if why.is_empty() { "the request failed" } else { &why })
}

/// What a status means. Whoever answers may repeat the address, which is then left out.
fn judge(
    status: StatusCode,
    after: Option<Duration>,
    body: &[u8],
    secrets: &[String],
) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let body = redacted(String::from_utf8_lossy(body).into_owned(), secrets);
    let why = format!("{status}: {}", excerpt(body.as_bytes()));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            Err(Failure::new(Stage::Authentication, why))
        }
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            Err(Failure::refusal(why))
        }
        // A wrong path, a busy server, a broken one: the events are not why.
        _ => Err(Failure { after, ..Failure::new(Stage::Accepted, why) }),
    }
}

/// The beginning of an answer, for people: whoever answers chose it.
pub fn excerpt(body: &[u8]) -> String {
    crate::event::text::escaped(body.get(..300).unwrap_or(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_prove_who_we_are_where_there_is_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let [config, secret] = ["config.yaml", "secret"].map(|name| folder.path().join(name));
        std::fs::write(&secret, "geheim\n").unwrap();
        let proof = |more: &str| {
            let keys = more.replace("FILE", &secret.display().to_string());
            std::fs::write(&config, format!("export: {{x: {{to: 'otlp+grpcs://h', {keys}}}}}")).unwrap();
            let settings = crate::config::load(Some(&config), &[]).unwrap().exporters.remove(0);
            credentials(&settings, Scheme("Bearer")).unwrap()
        };
        assert_eq!(proof("user: eve, password_file: FILE").as_deref(), Some("Basic ZXZlOmdlaGVpbQ=="));
        assert_eq!(proof("token_file: FILE").as_deref(), Some("Bearer geheim"));
        assert_eq!(proof("rate: 0"), None);
    }
}

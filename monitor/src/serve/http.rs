//! Answers requests, from the network and from the local socket: who may ask, what there is to ask for, and how long a
//! connection may take for what. A request's body is never read.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::access::{Call, Caller};
use super::identity::Refusal;
use super::tokens::Tokens;
use super::{Api, metrics, status};
use crate::talk;

/// How long the head of a request may take, and the time between two requests.
const HEAD_TIME: Duration = Duration::from_secs(20);

/// After this long a connection takes no further request …
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// … and what is being answered has to be taken.
const LAST_TIME: Duration = Duration::from_secs(10);

/// Bytes and number of headers.
const HEAD_MAX: (usize, usize) = (8 << 10, 32);

/// The other end.
pub enum Peer {
    /// Over TLS; the certificate's subject, if it has shown one that we take.
    Network {
        /// Its address.
        from: IpAddr,
        /// The certificate's subject.
        certificate: Option<String>,
    },
    /// By the local socket.
    Local {
        /// User id.
        uid: u32,
    },
}

impl Peer {
    /// Its address; `None` by the local socket.
    fn address(&self) -> Option<IpAddr> {
        match self {
            Peer::Network { from, .. } => Some(*from),
            Peer::Local { .. } => None,
        }
    }
}

/// What there is to ask for.
struct Route {
    path: &'static str,
    method: Method,
    /// Not over the network.
    is_local: bool,
    /// Gets what follows the path.
    answer: fn(&Api, &str) -> Answer,
}

struct Answer {
    status: StatusCode,
    ty: &'static str,
    body: String,
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, ty: "text/plain; charset=utf-8", body: body.into() }
    }

    fn json(value: &serde_json::Value) -> Self {
        Self { status: StatusCode::OK, ty: "application/json", body: value.to_string() }
    }

    /// Fine, unless there is something to complain about.
    fn unless(complaints: &[String]) -> Self {
        match complaints {
            [] => Self::text(StatusCode::OK, "ok\n"),
            _ => Self::text(StatusCode::SERVICE_UNAVAILABLE, complaints.join("\n") + "\n"),
        }
    }
}

/// All routes.
const ROUTES: &[Route] = &[
    Route {
        path: "/metrics",
        method: Method::GET,
        is_local: false,
        answer: |api, _| Answer {
            status: StatusCode::OK,
            ty: "text/plain; version=0.0.4; charset=utf-8",
            body: metrics::page(&api.sources),
        },
    },
    Route {
        path: "/livez",
        method: Method::GET,
        is_local: false,
        answer: |api, _| Answer::unless(&status::stalled(&api.sources)),
    },
    Route {
        path: "/readyz",
        method: Method::GET,
        is_local: false,
        answer: |api, _| Answer::unless(&status::lacking(&api.sources)),
    },
    Route {
        path: "/status",
        method: Method::GET,
        is_local: false,
        answer: |api, _| Answer::json(&status::to_json(&api.sources)),
    },
    Route {
        path: "/messages",
        method: Method::GET,
        is_local: true,
        answer: |_, _| Answer::json(&talk::last_lines().into()),
    },
    Route {
        path: "/log-level/",
        method: Method::PUT,
        is_local: true,
        answer: |_, level| match talk::set_level(level) {
            Some(_) => Answer::text(StatusCode::OK, "ok\n"),
            None => {
                let known = talk::LEVELS.join(", ");
                Answer::text(StatusCode::BAD_REQUEST, format!("there is no such level; there are {known}\n"))
            }
        },
    },
];

/// What can be asked for, by its path.
pub fn endpoints() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|route| route.path)
}

/// Answers the requests of a connection, until one of the two ends it.
pub async fn serve<S>(stream: S, peer: Peer, tokens: &Tokens, api: &Api)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let is_answered = AtomicBool::new(false);
    let service = service_fn(async |request: Request<Incoming>| {
        is_answered.store(true, Ordering::Relaxed);
        Ok::<_, Infallible>(respond(&request, &peer, tokens, api).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Whoever hangs up while it is found out who he is has asked all the same.
        .half_close(true)
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_MAX.0)
        .max_headers(HEAD_MAX.1)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = tokio::time::sleep(CONNECTION_TIME) => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_TIME, connection).await
        }
    };
    match ended {
        // Who has nothing more to ask for may go so.
        Err(_) if !is_answered.load(Ordering::Relaxed) => api.calls.refuse("slow"),
        Ok(Err(error)) if error.is_timeout() && !is_answered.load(Ordering::Relaxed) => {
            api.calls.refuse("slow")
        }
        Ok(Err(error)) if error.is_parse() => {
            // What is no request was answered before anybody asked who it is.
            let (caller, from) = (Caller::Nobody, peer.address());
            let status = if error.is_parse_too_large() { 431 } else { 400 };
            let (method, path) = (String::new(), String::new());
            api.calls.take(Call { caller, from, method, path, status, refusal: None }, None);
        }
        // Whatever else goes wrong is the other end's affair.
        _ => {}
    }
}

/// The answer, which is also put down.
async fn respond(
    request: &Request<Incoming>,
    peer: &Peer,
    tokens: &Tokens,
    api: &Api,
) -> Response<Full<Bytes>> {
    let (method, path) = (request.method(), request.uri().path());
    let route = ROUTES.iter().find(|route| match route.path.strip_suffix('/') {
        Some(_) => path.starts_with(route.path),
        None => path == route.path,
    });
    // Who may ask for everything may ask for what is not there.
    let asked = route.map_or("/", |route| route.path);
    let who = identify(peer, request.headers().get(AUTHORIZATION), tokens, api, asked).await;
    let is_local = matches!(peer, Peer::Local { .. });
    let answer = match (&who, route) {
        (Err(Refusal { status, why, .. }), _) => Answer::text(*status, format!("{why}\n")),
        (Ok(_), Some(route)) if route.is_local && !is_local => {
            Answer::text(StatusCode::FORBIDDEN, "only by the local socket\n")
        }
        (Ok(_), Some(route)) if *method != route.method => {
            Answer::text(StatusCode::METHOD_NOT_ALLOWED, "not by this method\n")
        }
        (Ok(_), Some(route)) => (route.answer)(api, path.strip_prefix(route.path).unwrap_or_default()),
        (Ok(_), None) => Answer::text(StatusCode::NOT_FOUND, "there is nothing here\n"),
    };
    let Answer { status, ty, body } = answer;
    let (caller, refusal) = match who {
        Ok(caller) => (caller, None),
        Err(Refusal { caller, why, .. }) => (caller, Some(why)),
    };
    let is_refused = refusal.is_some();
    let call = Call {
        caller,
        from: peer.address(),
        method: method.to_string(),
        path: path.to_owned(),
        status: status.as_u16(),
        refusal,
    };
    api.calls.take(call, route.map(|route| route.path));
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(ty));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if is_refused {
        // Each further guess costs a connection.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Who it is, if he may ask for that path; or why nobody knows, or why not.
async fn identify(
    peer: &Peer,
    authorization: Option<&HeaderValue>,
    tokens: &Tokens,
    api: &Api,
    path: &'static str,
) -> Result<Caller, Refusal> {
    let from = match peer {
        Peer::Local { uid } => return Ok(Caller::Local { uid: *uid }),
        Peer::Network { certificate: Some(subject), .. } => return Ok(Caller::Certificate(subject.clone())),
        Peer::Network { certificate: None, from } => *from,
    };
    let header = authorization.ok_or_else(|| Refusal::of_nobody("neither a token nor a certificate"))?;
    // RFC 6750, section 2.1; the scheme's case does not matter.
    let (scheme, token) = header.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::of_nobody("not a bearer token"));
    }
    let token = token.trim();
    match tokens.name_of(token) {
        Some(name) => Ok(Caller::Token(name.to_owned())),
        None => api.providers.identify(token, from, path).await,
    }
}

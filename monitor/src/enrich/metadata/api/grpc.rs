//! Questions by gRPC: one message there, one back (the gRPC protocol over HTTP/2, `PROTOCOL-HTTP2.md`). Messages are
//! declared by whoever asks, with the fields that matter.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, TE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioExecutor;
use prost::Message;

use super::Error;
use super::socket::{self, Socket};

/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Codes of the protocol (`statuscodes.md`).
const OK: i32 = 0;
const NOT_FOUND: i32 = 5;
const INVALID_ARGUMENT: i32 = 3;
const ALREADY_EXISTS: i32 = 6;
const PERMISSION_DENIED: i32 = 7;
const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;

/// Calls a method, `package.Service/Method`; `header` is one of its own.
pub(super) async fn call<A: Message + Default>(
    socket: &Socket,
    method: &str,
    header: Option<(&str, &str)>,
    question: &impl Message,
) -> Result<A, Error> {
    let executor = TokioExecutor::new();
    let handshake = http2::handshake(executor, socket.connect().await?).await;
    let (mut sender, connection) = handshake.map_err(socket::unreachable)?;
    let _driver = socket::drive(connection);
    let mut request = Request::post(format!("http://localhost/{method}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(frame(question)));
    let request = request.map_err(|error| Error::Wrong(error.to_string()))?;
    let (head, body) = sender.send_request(request).await.map_err(socket::unreachable)?.into_parts();
    if head.status != StatusCode::OK {
        return Err(Error::Wrong(head.status.to_string()));
    }
    let body = socket::read(body).await?;
    // Of an answer without a message it stands with the headers.
    let trailers = body.trailers().filter(|trailers| trailers.contains_key("grpc-status"));
    check(trailers.unwrap_or(&head.headers))?;
    message(&body.to_bytes())
}

fn frame(message: &impl Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((message.encoded_len() as u32).to_be_bytes());
    bytes.extend(message.encode_to_vec());
    bytes.into()
}

fn message<A: Message + Default>(bytes: &[u8]) -> Result<A, Error> {
    let wrong = || Error::Wrong("an answer that is cut or compressed".to_owned());
    let (prefix, message) = bytes.split_at_checked(PREFIX).ok_or_else(wrong)?;
    let [0, length @ ..] = prefix else { return Err(wrong()) };
    let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    if length != message.len() {
        return Err(wrong());
    }
    A::decode(message).map_err(|error| Error::Wrong(error.to_string()))
}

/// Whether a call went well, by what follows its answer.
fn check(trailers: &HeaderMap) -> Result<(), Error> {
    let text = |name| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let said = || {
        let message = text("grpc-message").unwrap_or_default();
        message[..message.floor_char_boundary(socket::SAID_MAX)].to_owned()
    };
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(OK) => Ok(()),
        Some(NOT_FOUND) => Err(Error::Unknown),
        None => Err(Error::Wrong("no gRPC".to_owned())),
        Some(INVALID_ARGUMENT | ALREADY_EXISTS | PERMISSION_DENIED | UNIMPLEMENTED | UNAUTHENTICATED) => {
            Err(Error::Wrong(said()))
        }
        // A plugin that has not started yet answers with one of the others.
        Some(_) => Err(Error::Unreachable(said())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_that_is_cut_compressed_or_no_message_is_refused() {
        let whole = frame(&"text".to_owned());
        assert_eq!(message::<String>(&whole).unwrap(), "text");
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.to_vec();
            bytes[at] = byte;
            bytes
        };
        // Compressed, longer, shorter, a group without an end, a text that is longer than all.
        let damaged = [with(0, 1), with(1, 1), with(4, 1), with(5, 0b1011), with(6, 100)];
        for bytes in damaged.iter().map(Vec::as_slice).chain((0..whole.len()).map(|end| &whole[..end])) {
            assert!(matches!(message::<String>(bytes), Err(Error::Wrong(_))), "{bytes:x?}");
        }
    }

    #[test]
    fn refusals_are_told_from_what_may_be_otherwise_another_time() {
        let check = |code: Option<&'static str>| {
            let pairs = code.map(|code| (hyper::header::HeaderName::from_static("grpc-status"), code));
            super::check(&pairs.into_iter().map(|(name, code)| (name, code.parse().unwrap())).collect())
        };
        assert!(check(Some("0")).is_ok());
        assert!(matches!(check(Some("5")), Err(Error::Unknown)));
        assert!(matches!(check(Some("14")), Err(Error::Unreachable(_))));
        for code in [Some("12"), Some("ok"), Some("99999999999"), None] {
            assert!(matches!(check(code), Err(Error::Wrong(_))), "{code:?}");
        }
    }
}

//! A runtime's Unix socket, and questions by HTTP/1.1 with answers in JSON.

use std::path::PathBuf;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::Error;

/// Most bytes of an answer.
const BYTES_MAX: usize = 1 << 20;

/// Most bytes of a line of an answer that goes on.
const LINE_MAX: usize = 64 << 10;

/// Most bytes of what somebody says that is repeated.
pub(super) const SAID_MAX: usize = 200;

/// Where a runtime listens.
pub(super) struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// Whose it has to be.
    pub user: Option<u32>,
}

/// What keeps a connection going; it ends with this.
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a connection going beside its use.
pub(super) fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Driver {
    // Whoever uses it is told the same error.
    Driver(tokio::spawn(async move { drop(connection.await) }))
}

/// Somebody hung up, or did not speak HTTP.
pub(super) fn unreachable(error: hyper::Error) -> Error {
    Error::Unreachable(error.to_string())
}

impl Socket {
    /// Connects.
    pub(super) async fn connect(&self) -> Result<TokioIo<UnixStream>, Error> {
        let failed = |error: std::io::Error| Error::Unreachable(error.to_string());
        let stream = UnixStream::connect(&self.path).await.map_err(failed)?;
        let peer = stream.peer_cred().map_err(failed)?.uid();
        if self.user.is_some_and(|user| user != peer) {
            return Err(Error::Wrong(format!("user {peer} listens there")));
        }
        Ok(TokioIo::new(stream))
    }

    /// Takes each line of an answer that goes on, until `take` gives `false` or the other side hangs up.
    pub(super) async fn lines(&self, path: &str, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let (mut sender, connection) = http1::handshake(self.connect().await?).await.map_err(unreachable)?;
        let _driver = drive(connection);
        let (head, mut body) = sender.send_request(question(path)?).await.map_err(unreachable)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(Error::Wrong(head.status.to_string()));
        }
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(unreachable)?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = memchr::memchr(b'\n', &rest) {
                if !take(&rest[..end]) {
                    return Ok(());
                }
                rest.drain(..=end);
            }
            if rest.len() > LINE_MAX {
                return Err(Error::Wrong(format!("a line of more than {LINE_MAX} bytes")));
            }
        }
        Err(Error::Unreachable("it hung up".to_owned()))
    }

    /// What a path's JSON says.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let (mut sender, connection) = http1::handshake(self.connect().await?).await.map_err(unreachable)?;
        let _driver = drive(connection);
        let (head, body) = sender.send_request(question(path)?).await.map_err(unreachable)?.into_parts();
        let bytes = read(body).await?.to_bytes();
        match head.status {
            StatusCode::OK => serde_json::from_slice(&bytes).map_err(|error| Error::Wrong(error.to_string())),
            StatusCode::NOT_FOUND => Err(Error::Unknown),
            status if status.is_server_error() => Err(Error::Unreachable(said(status, &bytes))),
            status => Err(Error::Wrong(said(status, &bytes))),
        }
    }
}

fn question(path: &str) -> Result<Request<Empty<Bytes>>, Error> {
    let question = Request::get(path).header(HOST, "localhost").body(Empty::new());
    question.map_err(|error| Error::Wrong(error.to_string()))
}

/// All of an answer's body, and what follows it.
pub(super) async fn read<B>(body: B) -> Result<http_body_util::Collected<Bytes>, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Limited::new(body, BYTES_MAX).collect().await.map_err(|error| {
        match error.is::<http_body_util::LengthLimitError>() {
            true => Error::Wrong(format!("more than {BYTES_MAX} bytes")),
            false => Error::Unreachable(error.to_string()),
        }
    })
}

/// A refusal, in the words of whoever refuses.
fn said(status: StatusCode, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    format!("{status}: {}", text[..text.floor_char_boundary(SAID_MAX)].trim())
}

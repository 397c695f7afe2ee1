//! A server for tests: it speaks HTTP/1.1 over TLS, and what it says is up to the test.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::NamedTempFile;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::kubernetes;

/// Made by `openssl req -x509 -newkey ed25519 -nodes -days 36500 -subj /CN=stub -addext
/// subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE`.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/remote/tests/server.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/remote/tests/server.key");

/// A question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method, path and query.
    pub what: String,
    /// What whoever asks proves himself by.
    pub authorization: String,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer; it goes on for as long as somebody can add to it.
pub struct Reply {
    status: u16,
    location: Option<String>,
    rest: UnboundedReceiver<io::Result<Bytes>>,
}

/// Adds to an answer; an error cuts the connection.
pub type Pen = UnboundedSender<io::Result<Bytes>>;

impl Reply {
    /// A whole one.
    pub fn whole(status: u16, body: impl Into<Bytes>) -> Self {
        let (pen, reply) = Self::open(status);
        pen.send(Ok(body.into())).unwrap();
        reply
    }

    /// One that goes on.
    pub fn open(status: u16) -> (Pen, Self) {
        let (pen, rest) = unbounded_channel();
        (pen, Self { status, location: None, rest })
    }

    /// Elsewhere.
    pub fn redirect(to: &str) -> Self {
        Self { location: Some(to.to_owned()), ..Self::whole(307, "") }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.rest.poll_recv(context).map(|more| more.map(|more| more.map(Frame::data)))
    }
}

/// The server, which ends with the runtime that it was started on.
pub struct Stub {
    /// Where it is.
    pub url: Url,
    /// What it was asked.
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// The settings by which it is the API server of Kubernetes, and a file with our token.
    pub fn settings(&self, workloads: bool) -> (kubernetes::Settings, NamedTempFile) {
        let token = NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "ours\n").unwrap();
        let settings = kubernetes::Settings {
            server: Some(self.url.clone()),
            ca_file: Self::ca_file(),
            token_file: token.path().to_owned(),
            workloads,
        };
        (settings, token)
    }

    /// Whom to trust to reach it.
    pub fn ca_file() -> PathBuf {
        CERTIFICATE.into()
    }

    /// Starts it on the runtime that this is called on. `answer` gets the server's address besides.
    pub async fn start(answer: impl Fn(&Url, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
        let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
        let (at, asked) = (url.clone(), Arc::<Mutex<Vec<Asked>>>::default());
        let (answer, book) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, book, at) =
                    (acceptor.clone(), Arc::clone(&answer), Arc::clone(&book), at.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(async |request: Request<Incoming>| {
                        let (head, body) = request.into_parts();
                        let proof = head.headers.get(AUTHORIZATION).map(|proof| proof.to_str().unwrap());
                        let asked = Asked {
                            what: format!("{} {}", head.method, head.uri),
                            authorization: proof.unwrap_or_default().to_owned(),
                            body: body.collect().await.unwrap().to_bytes().to_vec(),
                        };
                        book.lock().unwrap().push(asked.clone());
                        let reply = answer(&at, &asked);
                        let mut response = Response::builder().status(reply.status);
                        if let Some(location) = &reply.location {
                            response = response.header(LOCATION, location);
                        }
                        Ok::<_, Infallible>(response.body(reply).unwrap())
                    });
                    // Whoever asks may hang up.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, asked }
    }

    /// How often it was asked that.
    pub fn count(&self, what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.what.contains(what)).count()
    }
}

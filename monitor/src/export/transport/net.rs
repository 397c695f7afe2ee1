//! Connections, step by step, so that whoever asks can be told how far it came: DNS, TCP, TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Failure, Stage};
use crate::export::settings::{Settings, Tls};

/// Waits no longer than that.
pub async fn within<T>(
    time: Duration,
    stage: Stage,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| Failure::new(stage, format_args!("no answer within {} s", time.as_secs_f32()));
    tokio::time::timeout(time, work).await.map_err(late)?
}

/// The host and port that the settings name.
pub fn host_and_port(settings: &Settings) -> Result<(&str, u16), Failure> {
    let host =
        settings.to.host_str().ok_or_else(|| Failure::new(Stage::Settings, "the address has no host"))?;
    // An IPv6 address stands in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host, settings.to.port().unwrap_or(settings.receiver.port)))
}

/// The addresses of the receiver.
pub async fn look_up(settings: &Settings) -> Result<Vec<SocketAddr>, Failure> {
    let (host, port) = host_and_port(settings)?;
    look_up_at(settings, host, port).await
}

/// The addresses of a host that belongs to the receiver.
pub async fn look_up_at(settings: &Settings, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    within(settings.timeout, Stage::Dns, async {
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<SocketAddr> =
            found.map_err(|error| Failure::new(Stage::Dns, format_args!("{host}: {error}")))?.collect();
        if found.is_empty() {
            Err(Failure::new(Stage::Dns, format_args!("{host} has no address")))
        } else {
            Ok(found)
        }
    })
    .await
}

/// A connection to the first of these addresses that takes one.
pub async fn connect(settings: &Settings, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut last = Failure::new(Stage::Tcp, "no address");
    for address in addresses {
        let attempt = async {
            TcpStream::connect(address)
                .await
                .map_err(|error| Failure::new(Stage::Tcp, format_args!("{address}: {error}")))
        };
        match within(settings.timeout, Stage::Tcp, attempt).await {
            Ok(stream) => {
                // Only makes it later, never wrong.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// TLS over a connection.
pub async fn secure(settings: &Settings, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
    let (host, _) = host_and_port(settings)?;
    secure_as(settings, host, stream).await
}

/// TLS over a connection to a host that belongs to the receiver.
pub async fn secure_as(
    settings: &Settings,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = settings.tls.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|error| Failure::new(Stage::Settings, error))?;
    let connector = TlsConnector::from(Arc::new(client(&settings.tls)?));
    within(settings.timeout, Stage::Tls, async {
        connector.connect(name, stream).await.map_err(|error| Failure::new(Stage::Tls, error))
    })
    .await
}

/// What we prove and whom we trust.
pub fn client(tls: &Tls) -> Result<ClientConfig, Failure> {
    let wrong = |why: String| Failure::new(Stage::Settings, why);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| wrong(error.to_string()))?.with_root_certificates(roots(tls)?);
    let Some((certificate, key)) = &tls.identity else { return Ok(config.with_no_client_auth()) };
    let named =
        |path: &std::path::Path, error: &dyn std::fmt::Display| wrong(format!("{}: {error}", path.display()));
    let chain: Vec<CertificateDer<'static>> = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
    config.with_client_auth_cert(chain, secret).map_err(|error| named(certificate, &error))
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::new(Stage::Settings, format_args!("{}: {why}", path.display()))
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    if found.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(found) }
}

fn roots(tls: &Tls) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                let added = roots.add(certificate);
                added.map_err(|error| {
                    Failure::new(Stage::Settings, format_args!("{}: {error}", path.display()))
                })?;
            }
        }
        None => {
            // Some of a system's list may be of no use.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Failure::new(
                    Stage::Settings,
                    "this system trusts no certificates: name some with `ca_file`",
                ));
            }
        }
    }
    Ok(roots)
}

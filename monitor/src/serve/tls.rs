//! What the API's listener needs from files: its certificate and key, whose client certificates it takes, and tokens. The files
//! are read again when they have changed; what cannot be used then leaves what was there in force.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::Settings;
use super::tokens::Tokens;
use crate::stamp::{self, Stamp};

/// All of it, as it was when it was read.
pub struct Material {
    /// Takes connections.
    pub acceptor: TlsAcceptor,
    /// Who has a token; nobody, if tokens are not asked for.
    pub tokens: Tokens,
    stamps: Vec<Option<Stamp>>,
}

impl Material {
    /// Reads the files. The error names the file, and never what is in it.
    pub fn read(settings: &Settings) -> Result<Self, String> {
        let stamps = stamps(settings);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| text(&error))?;
        let config = match &settings.client_ca_file {
            None => config.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| of(path, &error))?;
                }
                // Who has no certificate may have a token; who has neither is told so by HTTP.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build();
                config.with_client_cert_verifier(verifier.map_err(|error| of(path, &error))?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&settings.key_file);
        let key = key.map_err(|error| of(&settings.key_file, &error))?;
        let chain = certificates(&settings.cert_file)?;
        let mut config =
            config.with_single_cert(chain, key).map_err(|error| of(&settings.cert_file, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tokens = match &settings.tokens_file {
            Some(path) => Tokens::read(path).map_err(|error| of(path, &error))?,
            None => Tokens::default(),
        };
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), tokens, stamps })
    }

    /// Whether a file is not what was read.
    pub fn is_stale(&self, settings: &Settings) -> bool {
        self.stamps != stamps(settings)
    }
}

fn stamps(settings: &Settings) -> Vec<Option<Stamp>> {
    let Settings { cert_file, key_file, client_ca_file, tokens_file, .. } = settings;
    let files = [Some(cert_file), Some(key_file), client_ca_file.as_ref(), tokens_file.as_ref()];
    files.into_iter().map(|path| stamp::of(path?)).collect()
}

fn of(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| of(path, &error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| of(path, &error))?;
    if found.is_empty() { Err(of(path, &"there is no certificate in it")) } else { Ok(found) }
}

/// The subject of a certificate (X.509, RFC 5280, section 4.1), as far as it has names that people give:
/// `CN=prometheus,O=ops`. Only for certificates whose signature was checked; whatever else is given is `None` or some
/// text.
pub fn subject(certificate: &[u8]) -> Option<String> {
    const SEQUENCE: u8 = 0x30;
    let of = |tag: u8, bytes| take(bytes).filter(|(found, ..)| *found == tag);
    let (_, certificate, _) = of(SEQUENCE, certificate)?;
    let (_, mut rest, _) = of(SEQUENCE, certificate)?;
    if let Some((_, _, behind)) = of(0xa0, rest) {
        rest = behind;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        rest = take(rest)?.2;
    }
    let (_, mut names, _) = of(SEQUENCE, rest)?;
    let mut found = Vec::new();
    while let Some((_, set, behind)) = take(names) {
        names = behind;
        let (_, attribute, _) = of(SEQUENCE, set)?;
        let (_, name, value) = take(attribute)?;
        let (_, value, _) = take(value)?;
        let name = match name {
            [0x55, 4, 3] => "CN",
            [0x55, 4, 10] => "O",
            [0x55, 4, 11] => "OU",
            _ => continue,
        };
        found.push(format!("{name}={}", String::from_utf8_lossy(value)));
    }
    (!found.is_empty()).then(|| found.join(","))
}

/// Tag, contents, and what follows (X.690, definite lengths).
fn take(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl req -x509 -newkey ed25519 -subj "/CN=prometheus/O=ops ä" -utf8`.
    const CERTIFICATE: &str = include_str!("tests/prometheus.pem");

    #[test]
    fn subject_of_a_certificate_is_read_and_any_bytes_are_none_or_some_text() {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        assert_eq!(subject(&certificate).as_deref(), Some("CN=prometheus,O=ops ä"));
        for cut in 0..certificate.len() {
            let _ = subject(&certificate[..cut]);
            for change in [1, 0x7f, 0x80, 0xff] {
                let mut other = certificate.to_vec();
                other[cut] ^= change;
                let _ = subject(&other);
            }
        }
    }
}

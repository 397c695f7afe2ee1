//! The section `api`: what its keys may hold, and what they are of no use without.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{quote, text, wrong};
use crate::diagnostic::{Diagnostic, Span};
use crate::serve::{Settings, Socket};
use crate::yaml::Node;

/// Where the local socket is.
pub fn socket(node: &Node) -> Result<Socket, Vec<Diagnostic>> {
    match node.as_text() {
        Some("") => Ok(Socket::InLog),
        Some("none") => Ok(Socket::None),
        _ => text(node).map(|path| Socket::At(path.into())),
    }
}

/// The same as YAML.
pub fn show_socket(socket: &Socket) -> String {
    match socket {
        Socket::InLog => quote(""),
        Socket::At(path) => quote(&path.to_string_lossy()),
        Socket::None => quote("none"),
    }
}

/// An address, or an empty text for none.
pub fn address(node: &Node) -> Result<Option<SocketAddr>, Vec<Diagnostic>> {
    match node.as_text() {
        Some("") => Ok(None),
        given => given.and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
            vec![wrong(node, "an address with a port").hint("write `0.0.0.0:9641`, or `[::]:9641`")]
        }),
    }
}

/// What listens has a certificate and knows its callers.
pub fn check(settings: &Settings, places: &BTreeMap<&'static str, Span>, diagnostics: &mut Vec<Diagnostic>) {
    let Settings { socket: _, listen, cert_file, key_file, client_ca_file, tokens_file } = settings;
    let error = |at: &str, code, message: String, hint: &str| {
        let diagnostic = Diagnostic::error(code, message).hint(hint);
        match places.get(at) {
            Some(place) => diagnostic.label(place.clone(), ""),
            None => diagnostic,
        }
    };
    if listen.is_none() {
        return;
    }
    for (name, file) in [("api.cert_file", cert_file), ("api.key_file", key_file)] {
        if file.as_os_str().is_empty() {
            diagnostics.push(error(
                "api.listen",
                "C130",
                format!("what listens on the network does so by TLS: `{name}` is missing"),
                "set `api.cert_file` and `api.key_file`",
            ));
        }
    }
    if client_ca_file.is_none() && tokens_file.is_none() {
        diagnostics.push(error(
            "api.listen",
            "C131",
            "what listens on the network has to know its callers".to_owned(),
            "set `api.tokens_file`, or `api.client_ca_file`, or both",
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{LoadError, load};

    /// Codes of what is found, and whether each has a place.
    fn found(text: &str, overrides: &[&str]) -> Vec<(&'static str, bool)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taffrail.yaml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        match load(Some(&path), &overrides) {
            Ok(_) => Vec::new(),
            Err(LoadError::Invalid(found)) => {
                found.iter().map(|found| (found.code, !found.labels.is_empty())).collect()
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn address_without_a_certificate_or_without_callers_is_refused_at_its_place() {
        let listen = "api: {listen: '[::]:9641'";
        assert_eq!(found(&format!("{listen}}}"), &[]), [("C130", true), ("C130", true), ("C131", true)]);
        let tls = format!("{listen}, cert_file: /c, key_file: /k");
        assert_eq!(found(&format!("{tls}}}"), &[]), [("C131", true)]);
        assert_eq!(found(&format!("{tls}, tokens_file: /t}}"), &[]), []);
        assert_eq!(found(&format!("{tls}, client_ca_file: /a}}"), &[]), []);
        assert_eq!(found("", &["api.listen=127.0.0.1:1", "api.tokens_file=/t"]), [("C130", true); 2]);
        assert_eq!(found("api: {listen: localhost}", &[]), [("C102", true)]);
        assert_eq!(found("api: {listen: 9641}", &[]), [("C102", true)]);
        assert_eq!(found("api: {listen: '', socket: none}", &[]), []);
        // Switched off for a moment, the rest may stay.
        assert_eq!(found("api: {tokens_file: /t}", &[]), []);
    }
}

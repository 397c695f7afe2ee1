//! The section `api`: what its keys may hold, and what they are of no use without.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use url::Url;

use super::{quote, text, texts, wrong};
use crate::diagnostic::{Diagnostic, Span};
use crate::serve::{Settings, Socket, identity};
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

/// A text, which may be empty.
pub fn text_or_empty(node: &Node) -> Result<String, Vec<Diagnostic>> {
    if node.as_text() == Some("") { Ok(String::new()) } else { text(node) }
}

/// The address of a server that is asked by HTTPS, or an empty text for none.
pub fn server(node: &Node) -> Result<Option<Url>, Vec<Diagnostic>> {
    let given = text_or_empty(node)?;
    if given.is_empty() {
        return Ok(None);
    }
    // Where a password may be in it, the value is not shown, which the place of a diagnostic does.
    let is_shown = !given.contains('@');
    let wrong = |why: &str| {
        let diagnostic = Diagnostic::error("C132", format!("this is no address that can be asked: {why}"))
            .hint("write `https://HOST`, with a port and a path if need be");
        vec![if is_shown { diagnostic.label(node.span.clone(), "") } else { diagnostic }]
    };
    let url = Url::parse(&given).map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(vec![Diagnostic::error("C112", "there is a name or password in an address of a server")]);
    }
    if url.scheme() != "https" {
        return Err(wrong("it has to be `https`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("there is something behind its path"));
    }
    Ok(Some(url))
}

/// A provider of OpenID Connect, letter by letter as its tokens name it.
pub fn issuer(node: &Node) -> Result<String, Vec<Diagnostic>> {
    server(node)?;
    text_or_empty(node)
}

/// Names and values.
pub fn claims(node: &Node) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    let found: Option<Vec<_>> = texts(node)?.iter().map(split).collect();
    found.ok_or_else(|| {
        vec![wrong(node, "a list of `NAME=VALUE`").hint("write `claims: [\"hd=example.com\"]`")]
    })
}

/// What listens has a certificate and knows its callers.
pub fn check(settings: &Settings, places: &BTreeMap<&'static str, Span>, diagnostics: &mut Vec<Diagnostic>) {
    let Settings { socket: _, listen, cert_file, key_file, client_ca_file, tokens_file, providers } =
        settings;
    let identity::Settings { kubernetes, oidc } = providers;
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
    let has_oidc = !oidc.issuer.is_empty();
    if client_ca_file.is_none() && tokens_file.is_none() && !kubernetes.is_on && !has_oidc {
        diagnostics.push(error(
            "api.listen",
            "C131",
            "what listens on the network has to know its callers".to_owned(),
            "set `api.tokens_file`, `api.client_ca_file`, `api.kubernetes.tokens` or `api.oidc.issuer`",
        ));
    }
    if has_oidc && oidc.audience.is_empty() {
        diagnostics.push(error(
            "api.oidc.issuer",
            "C133",
            "a token for anybody else would be taken: `api.oidc.audience` is missing".to_owned(),
            "set it to what the provider calls us",
        ));
    }
    if has_oidc && oidc.users.is_empty() && oidc.groups.is_empty() {
        diagnostics.push(error(
            "api.oidc.issuer",
            "C133",
            "nobody is let in: `api.oidc.users` and `api.oidc.groups` are empty".to_owned(),
            "name users or groups, or write `users: [\"*\"]` for whoever the provider gives a token for us",
        ));
    }
    // What stays without effect may have been meant to keep somebody out.
    for (key, without, is_useless) in [
        (
            "api.kubernetes.audiences",
            "api.kubernetes.tokens",
            !kubernetes.is_on && !kubernetes.audiences.is_empty(),
        ),
        ("api.kubernetes.users", "api.kubernetes.tokens", !kubernetes.is_on && !kubernetes.users.is_empty()),
        (
            "api.kubernetes.groups",
            "api.kubernetes.tokens",
            !kubernetes.is_on && !kubernetes.groups.is_empty(),
        ),
        ("api.oidc.audience", "api.oidc.issuer", !has_oidc && !oidc.audience.is_empty()),
        ("api.oidc.users", "api.oidc.issuer", !has_oidc && !oidc.users.is_empty()),
        ("api.oidc.groups", "api.oidc.issuer", !has_oidc && !oidc.groups.is_empty()),
        ("api.oidc.claims", "api.oidc.issuer", !has_oidc && !oidc.claims.is_empty()),
    ] {
        if is_useless {
            diagnostics.push(error(
                key,
                "C134",
                format!("`{key}` is of no use without `{without}`"),
                &format!("set `{without}`, or take it out"),
            ));
        }
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
            Err(LoadError::Invalid(found, _)) => {
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
        for (more, expected) in [
            ("kubernetes: {tokens: true}", vec![]),
            ("kubernetes: {tokens: true, audiences: [a], users: [u], groups: [g]}", vec![]),
            ("kubernetes: {users: [u], groups: [g], audiences: [a]}, tokens_file: /t", vec!["C134"; 3]),
            ("oidc: {issuer: 'https://i', audience: a, users: ['*']}", vec![]),
            ("oidc: {issuer: 'https://i/', audience: a, groups: [g], claims: ['a=b=c', 'd=']}", vec![]),
            ("oidc: {issuer: 'https://i'}", vec!["C133"; 2]),
            (
                "oidc: {audience: a, users: [u], groups: [g], claims: ['a=b']}, tokens_file: /t",
                vec!["C134"; 4],
            ),
            ("oidc: {issuer: 'http://i'}", vec!["C132", "C131"]),
            ("oidc: {issuer: 'https://i?a=b'}, tokens_file: /t", vec!["C132"]),
            ("oidc: {issuer: x}, tokens_file: /t", vec!["C132"]),
            ("oidc: {claims: [a]}, tokens_file: /t", vec!["C102"]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|code| (code, true)).collect();
            assert_eq!(found(&format!("{tls}, {more}}}"), &[]), expected, "{more}");
        }
        for (server, code) in
            [("https://u:geheim@k", "C112"), ("http://u:geheim@k", "C112"), ("https://u:geheim@", "C132")]
        {
            assert_eq!(found(&format!("kubernetes: {{server: '{server}'}}"), &[]), [(code, false)]);
        }
        assert_eq!(found("kubernetes: {server: 'http://k'}", &[]), [("C132", true)]);
        assert_eq!(found("kubernetes: {server: 'https://k:6443', token_file: /t, ca_file: /c}", &[]), []);
        // Switched off for a moment, the rest may stay.
        assert_eq!(found("api: {tokens_file: /t}", &[]), []);
    }
}

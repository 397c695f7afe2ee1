//! The section `export`: one mapping for each exporter. [`KEYS`] is the one table of its keys. What an exporter is
//! without any key but `to` follows from the kind of receiver that the address names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::{bool, list, number, quote, size, text, texts, wrong};
use crate::audit::{LINE_MAX, RecordKind};
use crate::diagnostic::{Diagnostic, closest};
use crate::export::format::{FORMATS, Format};
use crate::export::record::Severity;
use crate::export::settings::{Compression, Sasl, SecretAt, Settings, Tls};
use crate::export::transport::RECEIVERS;
use crate::rules::Filter;
use crate::yaml::{Kind, Node};

type Set = fn(&mut Settings, &Node) -> Result<(), Vec<Diagnostic>>;

/// One key of an exporter.
struct Key {
    name: &'static str,
    ty: &'static str,
    default: &'static str,
    doc: &'static str,
    set: Set,
    /// The value as YAML; `None` if there is none.
    show: fn(&Settings) -> Option<String>,
}

/// All keys. `to` is taken first: the others' defaults follow from it.
#[rustfmt::skip]
const KEYS: &[Key] = &[
    Key { name: "to", ty: "address", default: "needed", doc: "Where events go: see [receivers](#receivers).",
        set: |_, _| Ok(()), show: |s| Some(quote(s.to.as_str())) },
    Key { name: "brokers", ty: "list of texts", default: "", doc: "Kafka only: further brokers to begin with, `HOST:PORT` each, should the one in `to` be gone.",
        set: |s, n| brokers(n, s.receiver.port).map(|value| s.brokers = value), show: |s| (!s.brokers.is_empty()).then(|| list(s.brokers.iter().map(broker))) },
    Key { name: "format", ty: "name", default: "of the receiver", doc: "In which form: see [formats](#formats).",
        set: |s, n| format(n).map(|value| s.format = value), show: |s| Some(s.format.name.to_owned()) },
    Key { name: "kinds", ty: "list of names", default: "all; `[alert]` if the format is `falco`", doc: "Which [kinds of records](../audit-log.md#records): `alert`, `event`, `gap` …",
        set: |s, n| kinds(n).map(|value| s.kinds = value), show: |s| Some(list(s.kinds.iter().map(|kind| kind.name().to_owned()))) },
    Key { name: "filter", ty: "condition", default: "", doc: "Which events and alerts, in the rule language; gaps and what else the log says about itself are always sent.",
        set: |s, n| { let value = text(n)?; s.filter = Some((value, Filter::compile(n)?)); Ok(()) }, show: |s| s.filter.as_ref().map(|(text, _)| quote(text)) },
    Key { name: "min_priority", ty: "priority", default: "`debug`", doc: "Alerts of a lower priority are not sent.",
        set: |s, n| priority(n).map(|value| s.min_priority = value), show: |s| Some(s.min_priority.name().to_ascii_lowercase()) },
    Key { name: "rate", ty: "number", default: "`0`", doc: "Events in a second at most; 0 for no limit. What is more waits in the log.",
        set: |s, n| number(n, 0, 1_000_000).map(|value| s.rate = value), show: |s| Some(s.rate.to_string()) },
    Key { name: "batch_events", ty: "number", default: "`1000`", doc: "Events that are sent at once: 1 to 100000.",
        set: |s, n| number(n, 1, 100_000).map(|value| s.batch_events = value as usize), show: |s| Some(s.batch_events.to_string()) },
    Key { name: "batch_bytes", ty: "size", default: "`1MiB`", doc: "A batch that has grown to this size is sent: 1KiB to 64MiB.",
        set: |s, n| size(n, 1 << 10, 64 << 20).map(|value| s.batch_bytes = value as usize), show: |s| Some(s.batch_bytes.to_string()) },
    Key { name: "batch_wait_ms", ty: "milliseconds", default: "of the receiver: `250` over HTTP and gRPC and for Kafka, else `0`", doc: "How long an event waits for others: 0 to 60000.",
        set: |s, n| number(n, 0, 60_000).map(|value| s.batch_wait = Duration::from_millis(value)), show: |s| Some(s.batch_wait.as_millis().to_string()) },
    Key { name: "max_event_bytes", ty: "size", default: "of the receiver", doc: "An event that is longer is cut, which it says: 1KiB to 1MiB.",
        set: |s, n| size(n, 1 << 10, LINE_MAX as u64).map(|value| s.max_event_bytes = value as usize), show: |s| Some(s.max_event_bytes.to_string()) },
    Key { name: "compression", ty: "`none`, `gzip` or `zstd`", default: "`none`", doc: "How the bodies of requests, or Kafka's batches, are packed.",
        set: |s, n| compression(n).map(|value| s.compression = value), show: |s| Some(s.compression.name().to_owned()) },
    Key { name: "timeout_ms", ty: "milliseconds", default: "`30000`", doc: "How long the receiver may take for each step: 100 to 600000.",
        set: |s, n| number(n, 100, 600_000).map(|value| s.timeout = Duration::from_millis(value)), show: |s| Some(s.timeout.as_millis().to_string()) },
    Key { name: "ca_file", ty: "path", default: "those that the system trusts", doc: "Certificates (PEM) of who signs the receiver's.",
        set: |s, n| text(n).map(|value| s.tls.ca_file = Some(value.into())), show: |s| s.tls.ca_file.as_deref().map(path) },
    Key { name: "cert_file", ty: "path", default: "", doc: "Our own certificate (PEM), for receivers that ask for one; with `key_file`.",
        set: |s, n| text(n).map(|value| s.tls.identity.get_or_insert_default().0 = value.into()), show: |s| s.tls.identity.as_ref().map(|(file, _)| path(file)) },
    Key { name: "key_file", ty: "path", default: "", doc: "Its private key (PEM).",
        set: |s, n| text(n).map(|value| s.tls.identity.get_or_insert_default().1 = value.into()), show: |s| s.tls.identity.as_ref().map(|(_, file)| path(file)) },
    Key { name: "server_name", ty: "name", default: "the host in `to`", doc: "The name in the receiver's certificate.",
        set: |s, n| text(n).map(|value| s.tls.server_name = Some(value)), show: |s| s.tls.server_name.as_deref().map(quote) },
    Key { name: "token_file", ty: "path", default: "", doc: "File with a token: of Splunk's collector, an API key of Elasticsearch, else a bearer token. It is read for each connection.",
        set: |s, n| text(n).map(|value| s.token = Some(SecretAt::File(value.into()))), show: |s| file(s.token.as_ref()) },
    Key { name: "token_env", ty: "name", default: "", doc: "Variable of the environment with the token, instead of a file.",
        set: |s, n| text(n).map(|value| s.token = Some(SecretAt::Variable(value))), show: |s| variable(s.token.as_ref()) },
    Key { name: "user", ty: "text", default: "", doc: "Name for HTTP's basic authentication, or for Kafka; with a password.",
        set: |s, n| text(n).map(|value| login(s).0 = value), show: |s| s.login.as_ref().map(|(user, _)| quote(user)) },
    Key { name: "password_file", ty: "path", default: "", doc: "File with the password.",
        set: |s, n| text(n).map(|value| login(s).1 = SecretAt::File(value.into())), show: |s| file(s.login.as_ref().map(|(_, at)| at)) },
    Key { name: "password_env", ty: "name", default: "", doc: "Variable of the environment with the password.",
        set: |s, n| text(n).map(|value| login(s).1 = SecretAt::Variable(value)), show: |s| variable(s.login.as_ref().map(|(_, at)| at)) },
    Key { name: "sasl", ty: "`plain`, `scram-sha-256` or `scram-sha-512`", default: "`scram-sha-512`", doc: "Kafka only: how name and password are shown. `plain` shows the password itself: only over TLS.",
        set: |s, n| sasl(n).map(|value| s.sasl = value), show: |s| (is_kafka(s) && s.login.is_some()).then(|| s.sasl.name().to_owned()) },
    Key { name: "headers", ty: "list of texts", default: "", doc: "Further headers of requests, `Name: value` each. No place for secrets: they are shown.",
        set: |s, n| headers(n).map(|value| s.headers = value), show: |s| Some(list(s.headers.iter().map(|(name, value)| format!("{name}: {value}")))) },
    Key { name: "acknowledge", ty: "true or false", default: "`false`", doc: "Splunk only: whether the indexer is asked when events are safe.",
        set: |s, n| bool(n).map(|value| s.acknowledge = value), show: |s| Some(s.acknowledge.to_string()) },
];

fn path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

fn file(secret: Option<&SecretAt>) -> Option<String> {
    match secret? {
        SecretAt::File(file) if !file.as_os_str().is_empty() => Some(path(file)),
        SecretAt::File(_) | SecretAt::Variable(_) => None,
    }
}

fn variable(secret: Option<&SecretAt>) -> Option<String> {
    match secret? {
        SecretAt::Variable(name) => Some(quote(name)),
        SecretAt::File(_) => None,
    }
}

fn is_kafka(settings: &Settings) -> bool {
    settings.receiver.scheme.starts_with("kafka")
}

/// Name and password, to be filled in.
fn login(settings: &mut Settings) -> &mut (String, SecretAt) {
    settings.login.get_or_insert_with(|| (String::new(), SecretAt::File(PathBuf::new())))
}

/// What was written about exporters: of each one its keys, later ones in place of earlier ones, and where it stands.
#[derive(Default)]
pub struct Drafts(BTreeMap<String, (Node, BTreeMap<&'static str, Node>)>);

impl Drafts {
    /// Takes the section.
    pub fn take(&mut self, section: &Node, diagnostics: &mut Vec<Diagnostic>) {
        let Kind::Mapping(exporters) = &section.kind else {
            if !section.is_null() {
                diagnostics.push(wrong(section, "a mapping of exporters"));
            }
            return;
        };
        for (name, exporter) in exporters {
            let Kind::Mapping(keys) = &exporter.kind else {
                diagnostics.push(
                    wrong(exporter, "a mapping")
                        .hint("write `NAME:` and below it `to: syslog+tls://HOST:6514`"),
                );
                continue;
            };
            for (key, value) in keys {
                let known = key.as_text().unwrap_or_default();
                self.set((name.as_text().unwrap_or_default(), name), (known, key), value, diagnostics);
            }
        }
    }

    /// Takes one key of one exporter.
    pub fn set(
        &mut self,
        (name, name_at): (&str, &Node),
        (key, key_at): (&str, &Node),
        value: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let Some(Key { name: known, .. }) = KEYS.iter().find(|known| known.name == key) else {
            let diagnostic = Diagnostic::error("C101", format!("there is no setting `export.{name}.{key}`"));
            let diagnostic = diagnostic.label(key_at.span.clone(), "not a setting of an exporter");
            diagnostics.push(diagnostic.did_you_mean(key, KEYS.iter().map(|key| key.name)));
            return;
        };
        let draft = self.0.entry(name.to_owned()).or_insert_with(|| (name_at.clone(), BTreeMap::new()));
        draft.1.insert(known, value.clone());
    }

    /// The exporters.
    pub fn finish(self, diagnostics: &mut Vec<Diagnostic>) -> Vec<Settings> {
        let finish = |(name, (at, keys)): (String, (Node, BTreeMap<&'static str, Node>))| {
            finish(&name, &at, &keys).map_err(|found| diagnostics.extend(found)).ok()
        };
        self.0.into_iter().filter_map(finish).collect()
    }
}

fn finish(name: &str, at: &Node, keys: &BTreeMap<&'static str, Node>) -> Result<Settings, Vec<Diagnostic>> {
    let mut found = Vec::new();
    if name.is_empty()
        || name.len() > 64
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        let message = format!("`{name}` cannot be the name of an exporter");
        found.push(
            Diagnostic::error("C110", message)
                .label(at.span.clone(), "files are named after it")
                .hint("use letters, digits, `-` and `_`"),
        );
    }
    let Some(to) = keys.get("to") else {
        found.push(
            Diagnostic::error("C111", format!("the exporter `{name}` has no `to`"))
                .label(at.span.clone(), "where to?")
                .hint("write `to: syslog+tls://HOST:6514`"),
        );
        return Err(found);
    };
    let mut settings = match address(name, to) {
        Ok(settings) => settings,
        Err(diagnostic) => {
            found.push(diagnostic);
            return Err(found);
        }
    };
    if let Some(format) = keys.get("format").and_then(Node::as_text)
        && format == "falco"
    {
        settings.kinds = vec![RecordKind::Alert];
    }
    for key in KEYS {
        if let Some(value) = keys.get(key.name)
            && let Err(more) = (key.set)(&mut settings, value)
        {
            found.extend(more);
        }
    }
    found.extend(contradictions(&settings, at, keys));
    if found.is_empty() { Ok(settings) } else { Err(found) }
}

/// What an exporter to this address is if nothing else is said.
fn address(name: &str, to: &Node) -> Result<Settings, Diagnostic> {
    let text = to.as_text().unwrap_or_default();
    let scheme = text.split(':').next().unwrap_or_default();
    let Some(receiver) = RECEIVERS.iter().find(|receiver| receiver.scheme == scheme) else {
        let schemes = RECEIVERS.iter().map(|receiver| receiver.scheme);
        let near = closest(scheme, schemes.clone());
        let diagnostic = Diagnostic::error("C111", format!("there is no kind of receiver `{scheme}`"))
            .label(to.span.clone(), "not an address of a receiver");
        return Err(diagnostic.hint(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it begins with one of {}", schemes.collect::<Vec<_>>().join(", ")),
        }));
    };
    let url = Url::parse(text).map_err(|error| {
        let diagnostic = Diagnostic::error("C111", format!("this is no address: {error}"));
        // A password may be in it.
        if text.contains('@') { diagnostic } else { diagnostic.label(to.span.clone(), "") }
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not even in a diagnostic: the place is the whole value, and it would be shown.
        return Err(Diagnostic::error(
            "C112",
            format!("the address of exporter `{name}` has a name or password in it"),
        )
        .hint("write `user:` and `password_file:`"));
    }
    let is_file = matches!(receiver.scheme, "file" | "stdout" | "syslog+unix");
    let is_whole = match receiver.scheme {
        "stdout" => true,
        "file" | "syslog+unix" => url.path().len() > 1 && url.path().starts_with('/'),
        _ => url.host_str().is_some_and(|host| !host.is_empty()),
    };
    if !is_whole {
        let lacks = if is_file { "path" } else { "host" };
        return Err(Diagnostic::error("C111", format!("the address has no {lacks}"))
            .label(to.span.clone(), "")
            .hint(receiver.about));
    }
    let format = Format::named(receiver.format).unwrap_or(&FORMATS[0]);
    Ok(Settings {
        name: name.to_owned(),
        to: url,
        brokers: Vec::new(),
        receiver,
        format,
        kinds: Vec::new(),
        filter: None,
        min_priority: Severity::LEAST,
        rate: 0,
        batch_events: 1000,
        batch_bytes: 1 << 20,
        batch_wait: receiver.batch_wait,
        max_event_bytes: receiver.max_event_bytes,
        compression: Compression::None,
        timeout: Duration::from_secs(30),
        tls: Tls::default(),
        token: None,
        login: None,
        sasl: Sasl::ScramSha512,
        headers: Vec::new(),
        acknowledge: false,
    })
}

/// Keys that do not go together.
fn contradictions(settings: &Settings, at: &Node, keys: &BTreeMap<&'static str, Node>) -> Vec<Diagnostic> {
    let place = |key: &str| keys.get(key).unwrap_or(at).span.clone();
    let mut found = Vec::new();
    let Settings { receiver, format, tls, login, .. } = settings;
    if !(receiver.takes)(format) {
        let taken: Vec<&str> =
            FORMATS.iter().filter(|format| (receiver.takes)(format)).map(|format| format.name).collect();
        found.push(
            Diagnostic::error(
                "C113",
                format!("`{}` does not take the format `{}`", receiver.scheme, format.name),
            )
            .label(place("format"), "")
            .label(place("to"), "the receiver")
            .hint(format!("it takes {}", taken.join(", "))),
        );
    }
    if tls
        .identity
        .as_ref()
        .is_some_and(|(certificate, key)| certificate.as_os_str().is_empty() || key.as_os_str().is_empty())
    {
        let (there, lacks) = if keys.contains_key("cert_file") {
            ("cert_file", "key_file")
        } else {
            ("key_file", "cert_file")
        };
        found.push(
            Diagnostic::error("C114", format!("`{there}` is of no use without `{lacks}`"))
                .label(place(there), ""),
        );
    }
    if let Some((user, password)) = login {
        let lacks_password = *password == SecretAt::File(PathBuf::new());
        if user.is_empty() || lacks_password {
            let lacks = if user.is_empty() { "user" } else { "password_file" };
            let there = if user.is_empty() && keys.contains_key("password_env") {
                "password_env"
            } else if user.is_empty() {
                "password_file"
            } else {
                "user"
            };
            found.push(
                Diagnostic::error("C114", format!("`{there}` is of no use without `{lacks}`"))
                    .label(place(there), ""),
            );
        }
    }
    let is_kafka = is_kafka(settings);
    if is_kafka && settings.topic().is_none() {
        let message = "the address has no topic, or none that Kafka allows";
        found.push(
            Diagnostic::error("C111", message)
                .label(place("to"), "")
                .hint("write `kafka+tls://HOST:9093/TOPIC`, the topic of letters, digits, `.`, `_` and `-`"),
        );
    }
    if let Some(key) = ["brokers", "sasl"].into_iter().find(|key| !is_kafka && keys.contains_key(key)) {
        found.push(
            Diagnostic::error("C114", format!("`{key}` is of no use without Kafka")).label(place(key), ""),
        );
    }
    if is_kafka && keys.contains_key("sasl") && login.is_none() {
        found.push(Diagnostic::error("C114", "`sasl` is of no use without `user`").label(place("sasl"), ""));
    }
    if is_kafka && settings.sasl == Sasl::Plain && login.is_some() && !receiver.scheme.ends_with("+tls") {
        found.push(
            Diagnostic::error("C115", "anybody on the way would read the password")
                .label(place("sasl"), "the password itself")
                .label(place("to"), "without TLS")
                .hint("write `kafka+tls://`, or `sasl: scram-sha-512`"),
        );
    }
    if settings.acknowledge && !receiver.scheme.starts_with("splunk") {
        found.push(
            Diagnostic::error("C114", "`acknowledge` is of no use without Splunk")
                .label(place("acknowledge"), ""),
        );
    }
    found
}

fn format(node: &Node) -> Result<&'static Format, Vec<Diagnostic>> {
    let name = node.as_text().unwrap_or_default();
    Format::named(name).ok_or_else(|| {
        let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
        vec![wrong(node, "a format").hint(format!("write one of {}", names.join(", ")))]
    })
}

fn kinds(node: &Node) -> Result<Vec<RecordKind>, Vec<Diagnostic>> {
    let names = texts(node)?;
    let Kind::Sequence(items) = &node.kind else { return Ok(Vec::new()) };
    let mut kinds = Vec::new();
    let mut found = Vec::new();
    for (name, item) in names.iter().zip(items) {
        match RecordKind::ALL.iter().find(|kind| kind.name() == name) {
            Some(kind) => kinds.push(*kind),
            None => found.push(
                wrong(item, "a kind of record")
                    .did_you_mean(name, RecordKind::ALL.iter().map(|kind| kind.name())),
            ),
        }
    }
    if found.is_empty() { Ok(kinds) } else { Err(found) }
}

fn priority(node: &Node) -> Result<Severity, Vec<Diagnostic>> {
    let found = Severity::named(node.as_text().unwrap_or_default());
    found.ok_or_else(|| vec![wrong(node, "a priority").hint("write a priority such as `warning`")])
}

fn compression(node: &Node) -> Result<Compression, Vec<Diagnostic>> {
    let name = node.as_text().unwrap_or_default();
    let found = Compression::ALL.into_iter().find(|compression| compression.name() == name);
    found.ok_or_else(|| vec![wrong(node, "`none`, `gzip` or `zstd`")])
}

fn sasl(node: &Node) -> Result<Sasl, Vec<Diagnostic>> {
    let name = node.as_text().unwrap_or_default();
    let found = Sasl::ALL.into_iter().find(|sasl| sasl.name() == name);
    found.ok_or_else(|| vec![wrong(node, "`plain`, `scram-sha-256` or `scram-sha-512`")])
}

/// Hosts and ports.
fn brokers(node: &Node, port: u16) -> Result<Vec<(String, u16)>, Vec<Diagnostic>> {
    let read = |text: &String| {
        let url = Url::parse(&format!("kafka://{text}")).ok()?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.path().len() < 2;
        let host = url.host_str().filter(|host| is_plain && !host.is_empty())?;
        Some((host.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(port)))
    };
    let found: Option<Vec<_>> = texts(node)?.iter().map(read).collect();
    found.ok_or_else(|| {
        vec![wrong(node, "a list of `HOST:PORT`").hint("write `brokers: [\"kafka-2.example:9093\"]`")]
    })
}

fn broker((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn headers(node: &Node) -> Result<Vec<(String, String)>, Vec<Diagnostic>> {
    let split = |text: &String| {
        text.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
    };
    let found: Option<Vec<_>> = texts(node)?.iter().map(split).collect();
    found.ok_or_else(|| {
        vec![wrong(node, "a list of `Name: value`").hint("write `headers: [\"X-Scope-OrgID: ops\"]`")]
    })
}

/// The section as YAML, with the defaults filled in.
pub fn to_yaml(exporters: &[Settings]) -> String {
    let mut yaml = String::from(if exporters.is_empty() { "export: {}\n" } else { "export:\n" });
    for settings in exporters {
        yaml.push_str(&format!("  {}:\n", quote(&settings.name)));
        for key in KEYS {
            if let Some(value) = (key.show)(settings) {
                yaml.push_str(&format!("    {}: {value}\n", key.name));
            }
        }
    }
    yaml
}

/// Name, type and meaning of each key.
pub fn keys() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    KEYS.iter().map(|Key { name, ty, doc, .. }| (*name, *ty, *doc))
}

/// The part of the reference page.
pub fn reference() -> String {
    let mut page = String::from(
        "\n## Exporters\n\nEach mapping in `export` is an exporter, named by its key; as an override `-o export.NAME.to=…`. \
         [Exporters](../export/README.md) says what they do.\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
    );
    for Key { name, ty, default, doc, .. } in KEYS {
        page.push_str(&format!("| `export.NAME.{name}` | {ty} | {default} | {doc} |\n"));
    }
    page.push_str("\n### Receivers\n\n| address | format |\n|---|---|\n");
    for receiver in RECEIVERS {
        page.push_str(&format!("| {} | `{}` |\n", receiver.about, receiver.format));
    }
    page.push_str("\n### Formats\n\nWhat each calls the members of a record: [names](export.md).\n\n| format | |\n|---|---|\n");
    for format in FORMATS {
        page.push_str(&format!("| `{}` | {} |\n", format.name, format.about));
    }
    page
}

#[cfg(test)]
mod tests {
    use crate::config::{LoadError, Settings, load};

    fn loaded(text: &str, overrides: &[&str]) -> Result<Settings, Vec<(&'static str, bool)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taffrail.yaml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        load(Some(&path), &overrides).map_err(|error| match error {
            LoadError::Invalid(found, _) => {
                found.iter().map(|found| (found.code, !found.labels.is_empty())).collect()
            }
            LoadError::Unreadable { .. } => panic!("{error}"),
        })
    }

    #[test]
    fn two_lines_are_an_exporter_with_its_receivers_defaults() {
        let settings = loaded("export:\n  siem: {to: \"elastic+https://es.example/logs\"}\n", &[]).unwrap();
        let [siem] = &settings.exporters[..] else { panic!() };
        assert_eq!((siem.name.as_str(), siem.format.name, siem.receiver.port), ("siem", "ecs", 9200));
        let settings = loaded("", &["export.x.to=stdout:", "export.x.format=falco"]).unwrap();
        assert_eq!(settings.exporters[0].kinds, [crate::audit::RecordKind::Alert]);
    }

    #[test]
    fn each_example_in_the_documentation_is_valid() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/export");
        let mut examples = 0;
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let settings =
                    load(Some(&path), &[]).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
                assert!(!settings.exporters.is_empty());
                examples += 1;
            }
        }
        assert!(examples >= 7);
    }

    #[test]
    fn exporters_read_back_what_they_print() {
        let text = "export:\n  a:\n    to: splunk+https://h:1\n    token_env: T\n    acknowledge: true\n    kinds: [alert, gap]\n    \
                    headers: [\"A: b\"]\n    filter: proc.name = sh\n    min_priority: Notice\n    cert_file: /c\n    key_file: /k\n  b:\n    to: file:///x\n    \
                    user: u\n    password_file: /p\n    format: cef\n  c:\n    to: kafka+tls://h/t\n    brokers: [\"b:1\", \"[::1]\"]\n    \
                    user: u\n    password_env: P\n    sasl: plain\n";
        let settings = loaded(text, &[]).unwrap();
        let again = loaded(&settings.to_yaml(), &[]).unwrap();
        assert_eq!(again.to_yaml(), settings.to_yaml());
        assert_eq!(again.exporters.len(), 3);
        assert_eq!(again.exporters[2].brokers, [("b".into(), 1), ("::1".into(), 9093)]);
    }

    #[test]
    fn each_mistake_has_its_code_and_all_are_told_at_once() {
        for (text, expected) in [
            ("export: 7", vec!["C102"]),
            ("export: {a: 7}", vec!["C102"]),
            ("export: {a: {to: 'stdout:', forat: x}}", vec!["C101"]),
            ("export: {a: {format: ocsf}}", vec!["C111"]),
            ("export: {a: {to: 'slog+tls://h'}}", vec!["C111"]),
            ("export: {a: {to: 'syslog+tls:'}}", vec!["C111"]),
            ("export: {a: {to: 'file://'}}", vec!["C111"]),
            ("export: {'a/../b': {to: 'stdout:'}}", vec!["C110"]),
            ("export: {a: {to: 'splunk+https://h', format: otlp}}", vec!["C113"]),
            ("export: {a: {to: 'otlp+grpc://h', format: json}}", vec!["C113"]),
            (
                "export: {a: {to: 'stdout:', format: x, kinds: [alrt], min_priority: big, compression: lz4}}",
                vec!["C102"; 4],
            ),
            ("export: {a: {to: 'stdout:', filter: proc.nmae = x}}", vec!["R201"]),
            ("export: {a: {to: 'webhook+https://h', user: u}}", vec!["C114"]),
            ("export: {a: {to: 'webhook+https://h', cert_file: /c}}", vec!["C114"]),
            ("export: {a: {to: 'webhook+https://h', acknowledge: true}}", vec!["C114"]),
            ("export: {a: {to: 'webhook+https://h', headers: [x]}}", vec!["C102"]),
            ("export: {a: {to: 'kafka+tls://h'}}", vec!["C111"]),
            ("export: {a: {to: 'kafka+tls://h/a/b'}}", vec!["C111"]),
            ("export: {a: {to: 'kafka+tls://h/t', format: otlp}}", vec!["C113"]),
            ("export: {a: {to: 'kafka+tls://h/t', sasl: plain}}", vec!["C114"]),
            ("export: {a: {to: 'kafka+tcp://h/t', sasl: plain, user: u, password_env: P}}", vec!["C115"]),
            (
                "export: {a: {to: 'kafka+tls://h/t', sasl: gssapi, brokers: ['u:p@h']}}",
                vec!["C102", "C102", "C114"],
            ),
            ("export: {a: {to: 'webhook+https://h', brokers: ['h:1']}}", vec!["C114"]),
        ] {
            let found = loaded(text, &[]).unwrap_err();
            assert_eq!(found.iter().map(|(code, _)| *code).collect::<Vec<_>>(), expected, "{text}");
            assert!(found.iter().all(|(_, has_place)| *has_place), "{text}");
        }
    }

    #[test]
    fn password_in_an_address_is_refused_and_not_shown() {
        for (to, code) in [("webhook+https://u:geheim@h/", "C112"), ("webhook+https://u:geheim@", "C111")] {
            let found = loaded(&format!("export: {{a: {{to: '{to}'}}}}"), &[]).unwrap_err();
            assert_eq!(found, [(code, false)], "{to}");
        }
    }
}

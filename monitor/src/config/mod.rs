//! Settings: from a YAML file and from `-o key=value`, checked whole. All keys are optional, unknown ones are
//! errors with their place, and all errors are told in one run. [`KEYS`] is the one table of keys: the parser,
//! the reference page and `config check` all read it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::audit::{FullDisk, Policy};
use crate::detect::memory::Limits;
use crate::detect::throttle::Limit;
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::enrich::metadata::api::Sockets;
use crate::enrich::state::Folders;
use crate::probe::call;
use crate::probe::load::Tiers;
use crate::rules::{Filter, Maturity, hex};
use crate::scope::{Scope, Selector};
use crate::yaml::{self, Kind, Node};

mod api;
mod export;
mod keys;
mod schema;

use keys::{KEYS, Key};

/// Where the settings are looked for if no file is named.
pub const DEFAULT_PATH: &str = "/etc/taffrail/taffrail.yaml";

/// Settings that take effect when they are read anew, by how their keys begin. All others do at the next start.
const LIVE: [&str; 5] = ["rules.", "alerts.", "state.", "scope.", "log.record"];

/// What is recorded if nothing else is said: all that changes something or leaves the container.
const DEFAULT_RECORD: &str =
    "container.id != host and (evt.kind in (exec, exit, connect) or evt.is_open_write = true)";

const SECOND_NS: u64 = 1_000_000_000;

/// All settings, valid.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the audit log.
    pub log_dir: PathBuf,
    /// How it is written.
    pub log: Policy,
    /// Which events are recorded besides alerts: the text and the compiled condition.
    pub log_record: (String, Filter),
    /// Rule files and folders, in order.
    pub rules_files: Vec<PathBuf>,
    /// Rule file that is loaded behind all others, if it is there.
    pub rules_local: PathBuf,
    /// Whether the rules that come with the program are used.
    pub rules_embedded: bool,
    /// Whether they are loaded anew when their files change.
    pub rules_watch: bool,
    /// How well tried rules must be to take part.
    pub rules_maturity: Maturity,
    /// Names of rules that are switched off.
    pub rules_disabled: Vec<String>,
    /// Bounds of what rules remember, and of their alerts.
    pub state: Limits,
    /// What is watched.
    pub scope: Scope,
    /// Which hooks are tried.
    pub tiers: Tiers,
    /// Bytes of the ring for what must not be lost.
    pub urgent_bytes: u32,
    /// Where the probes stay attached by when the daemon ends.
    pub pin: Option<PathBuf>,
    /// Bytes of the ring for the rest.
    pub bulk_bytes: u32,
    /// Processes that are remembered.
    pub max_processes: usize,
    /// Where runtimes keep their files.
    pub folders: Folders,
    /// Where runtimes listen that are asked for what their files do not say.
    pub sockets: Sockets,
    /// How long an event waits for the name of its container.
    pub name_wait: Duration,
    /// System calls that are events by their name.
    pub syscalls_events: Vec<String>,
    /// Whether system calls are counted.
    pub syscalls_count: bool,
    /// How often the counts are recorded.
    pub syscalls_interval: Duration,
    /// How many of the last system calls of a container are kept: 0, or a power of two.
    pub syscalls_flight_recorder: u32,
    /// This node's name.
    pub node_name: String,
    /// Where it can be asked how it is.
    pub api: crate::serve::Settings,
    /// The API server of Kubernetes.
    pub kubernetes: crate::remote::kubernetes::Settings,
    /// Whether the daemon confines itself.
    pub confine: bool,
    /// Exporters.
    pub exporters: Vec<crate::export::settings::Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        let record = Filter::from_text(DEFAULT_RECORD, "default").expect("the default condition is valid");
        Self {
            log_dir: "/var/log/taffrail".into(),
            log: Policy::default(),
            log_record: (DEFAULT_RECORD.to_owned(), record),
            rules_files: Vec::new(),
            rules_local: "/etc/taffrail/rules.local.yaml".into(),
            rules_embedded: true,
            rules_watch: true,
            rules_maturity: Maturity::Stable,
            rules_disabled: Vec::new(),
            state: Limits { throttle: Limit { alerts: 100, per_ns: 60 * SECOND_NS }, ..Limits::default() },
            scope: Scope::default(),
            tiers: Tiers::Auto,
            pin: None,
            urgent_bytes: 1 << 20,
            bulk_bytes: 4 << 20,
            max_processes: 65_536,
            folders: Folders::default(),
            sockets: Sockets::default(),
            name_wait: crate::enrich::owner::WAIT,
            syscalls_events: Vec::new(),
            syscalls_count: false,
            syscalls_interval: Duration::from_secs(60),
            syscalls_flight_recorder: 0,
            node_name: crate::enrich::cgroup::host_name(),
            api: crate::serve::Settings::default(),
            kubernetes: crate::remote::kubernetes::Settings::default(),
            confine: true,
            exporters: Vec::new(),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not valid. All the same it tells which rules there are, if there are settings.
    #[error("the configuration is not valid")]
    Invalid(Vec<Diagnostic>, Option<Box<Settings>>),
}

/// What can only be judged when all was read.
#[derive(Default)]
struct Written {
    exporters: export::Drafts,
    /// Where keys have their values.
    places: BTreeMap<&'static str, Span>,
    /// Whether something is wrong that may be about rules.
    hides_rules: bool,
}

impl Written {
    /// Something is wrong at a key.
    fn wrong_at(&mut self, name: &str) {
        let section = name.split('.').next().unwrap_or_default();
        let is_other =
            section == "export" || KEYS.iter().any(|key| key.name.split('.').next() == Some(section));
        self.hides_rules |= section == "rules" || !is_other;
    }
}

/// Loads settings: the named file, or the default one if it is there; then the overrides, `key=value` each.
pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Settings, LoadError> {
    let default = Path::new(DEFAULT_PATH);
    let mut sources = Vec::new();
    if path.is_some() || default.exists() {
        let path = path.unwrap_or(default);
        let text =
            read_bounded(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
        sources.push(Arc::new(Source { name: path.display().to_string(), text }));
    }
    let mut settings = Settings::default();
    let mut diagnostics = Vec::new();
    let mut written = Written::default();
    for source in &sources {
        match yaml::parse(source) {
            Ok(documents) => {
                for node in &documents {
                    apply(&mut settings, &mut written, "", node, &mut diagnostics);
                }
            }
            Err(diagnostic) => {
                written.hides_rules = true;
                diagnostics.push(diagnostic);
            }
        }
    }
    for text in overrides {
        apply_override(&mut settings, &mut written, text, &mut diagnostics);
    }
    settings.exporters = written.exporters.finish(&mut diagnostics);
    api::check(&settings.api, &written.places, &mut diagnostics);
    if settings.log.retention_bytes > 0 && settings.log.retention_bytes < settings.log.segment_bytes {
        diagnostics.push(
            Diagnostic::error(
                "C106",
                "`log.retention_bytes` is smaller than one segment (`log.segment_bytes`)",
            )
            .hint("make it several times as large, or 0 to keep all"),
        );
    }
    if diagnostics.is_empty() {
        return Ok(settings);
    }
    Err(LoadError::Invalid(diagnostics, (!written.hides_rules).then(|| Box::new(settings))))
}

/// Reads a text file; one that is larger than YAML may be is cut, which the parser then says.
pub fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    io::Read::read_to_string(&mut io::Read::take(file, yaml::SIZE_MAX as u64 + 1), &mut text)?;
    Ok(text)
}

/// Takes in a value, or all values of a mapping.
fn apply(
    settings: &mut Settings,
    written: &mut Written,
    name: &str,
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        written.places.insert(key.name, node.span.clone());
        if let Err(found) = (key.set)(settings, node) {
            written.wrong_at(name);
            diagnostics.extend(found);
        }
        return;
    }
    match &node.kind {
        Kind::Mapping(pairs) => {
            for (key, value) in pairs {
                let part = key.as_text().unwrap_or_default();
                let full = if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
                let known =
                    KEYS.iter().any(|key| key.name == full || key.name.starts_with(&format!("{full}.")));
                if known {
                    apply(settings, written, &full, value, diagnostics);
                } else if full == "export" {
                    written.exporters.take(value, diagnostics);
                } else {
                    written.wrong_at(&full);
                    diagnostics.push(unknown(&full, key));
                }
            }
        }
        _ if node.is_null() => {}
        _ => {
            written.wrong_at(name);
            diagnostics.push(wrong(node, if name.is_empty() { "a mapping of keys" } else { "a mapping" }));
        }
    }
}

fn apply_override(
    settings: &mut Settings,
    written: &mut Written,
    text: &str,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let source = Arc::new(Source { name: "-o".to_owned(), text: text.to_owned() });
    let whole = Node::whole(&source);
    let Some((name, value)) = text.split_once('=') else {
        written.wrong_at(text);
        let diagnostic = Diagnostic::error("C103", format!("`{text}` is not of the form key=value"));
        diagnostics.push(diagnostic.label(whole.span.clone(), "no `=`").hint("write `-o log.dir=/path`"));
        return;
    };
    // Only a value that looks like a list needs YAML: conditions and paths may hold anything.
    let value_source = Arc::new(Source { name: format!("-o {name}"), text: value.to_owned() });
    let node = match yaml::parse(&value_source) {
        Ok(mut documents) if value.trim_start().starts_with('[') && !documents.is_empty() => {
            documents.swap_remove(0)
        }
        _ => {
            let mut node = Node::whole(&value_source);
            node.kind = Kind::Scalar { text: value.to_owned(), plain: true };
            node
        }
    };
    let exporter = name.strip_prefix("export.").and_then(|rest| rest.rsplit_once('.'));
    if let Some((exporter, key)) = exporter {
        written.exporters.set((exporter, &whole), (key, &whole), &node, diagnostics);
        return;
    }
    match KEYS.iter().find(|key| key.name == name) {
        Some(key) => {
            written.places.insert(key.name, node.span.clone());
            if let Err(found) = (key.set)(settings, &node) {
                written.wrong_at(name);
                diagnostics.extend(found);
            }
        }
        None => {
            written.wrong_at(name);
            diagnostics.push(unknown(name, &whole));
        }
    }
}

fn unknown(name: &str, at: &Node) -> Diagnostic {
    Diagnostic::error("C101", format!("there is no setting `{name}`"))
        .label(at.span.clone(), "not a setting")
        .did_you_mean(name, KEYS.iter().map(|key| key.name))
}

fn wrong(node: &Node, wanted: &str) -> Diagnostic {
    Diagnostic::error("C102", format!("this is {}, not {wanted}", node.noun()))
        .label(node.span.clone(), format!("needs {wanted}"))
}

fn text(node: &Node) -> Result<String, Vec<Diagnostic>> {
    match node.as_text() {
        Some(text) if !text.is_empty() && !node.is_null() => Ok(text.to_owned()),
        _ => Err(vec![wrong(node, "text")]),
    }
}

fn texts(node: &Node) -> Result<Vec<String>, Vec<Diagnostic>> {
    match &node.kind {
        Kind::Sequence(items) => items.iter().map(text).collect(),
        _ => Err(vec![wrong(node, "a list")]),
    }
}

/// What chooses containers.
fn choices(node: &Node) -> Result<Vec<Selector>, Vec<Diagnostic>> {
    texts(node)?;
    let Kind::Sequence(items) = &node.kind else { return Ok(Vec::new()) };
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    for item in items {
        match Selector::parse(item) {
            Ok(selector) => found.push(selector),
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

/// Names of system calls that can be events.
fn calls(node: &Node) -> Result<Vec<String>, Vec<Diagnostic>> {
    let names = texts(node)?;
    let Kind::Sequence(items) = &node.kind else { return Ok(names) };
    let wrong = |(item, name): (&Node, &String)| Some(call::check(name).err()?.label(item.span.clone(), ""));
    let found: Vec<Diagnostic> = items.iter().zip(&names).filter_map(wrong).collect();
    if found.is_empty() { Ok(names) } else { Err(found) }
}

/// Entries of the flight recorder.
fn flight(node: &Node) -> Result<u32, Vec<Diagnostic>> {
    let entries = number(node, 0, 4096)?;
    if entries == 0 || entries >= 16 && entries.is_power_of_two() {
        return Ok(entries as u32);
    }
    let above = entries.max(16).next_power_of_two();
    Err(vec![
        Diagnostic::error("C108", format!("{entries} is no power of two from 16 on"))
            .label(node.span.clone(), "not a power of two")
            .hint(format!("write {above}, or 0 for none")),
    ])
}

fn bool(node: &Node) -> Result<bool, Vec<Diagnostic>> {
    node.as_bool().ok_or_else(|| vec![wrong(node, "true or false")])
}

fn number(node: &Node, min: u64, max: u64) -> Result<u64, Vec<Diagnostic>> {
    let number = node.as_number().and_then(|number| u64::try_from(number).ok());
    let number = number.ok_or_else(|| vec![wrong(node, "a number")])?;
    in_range(node, number, min, max)
}

fn in_range(node: &Node, number: u64, min: u64, max: u64) -> Result<u64, Vec<Diagnostic>> {
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    let message = format!("{number} is out of range");
    Err(vec![Diagnostic::error("C104", message).label(node.span.clone(), format!("must be {min} to {max}"))])
}

fn seconds(node: &Node, min: u64, max: u64) -> Result<Duration, Vec<Diagnostic>> {
    number(node, min, max).map(Duration::from_secs)
}

/// A path, or an empty text for none.
fn optional(node: &Node) -> Result<Option<PathBuf>, Vec<Diagnostic>> {
    let empty = node.as_text().is_some_and(str::is_empty);
    if empty { Ok(None) } else { text(node).map(|value| Some(value.into())) }
}

fn or_empty(path: Option<&Path>) -> String {
    quote(&path.unwrap_or(Path::new("")).to_string_lossy())
}

/// A number of bytes: `4096`, `64KiB`, `4MiB`, `1GiB`.
fn size(node: &Node, min: u64, max: u64) -> Result<u64, Vec<Diagnostic>> {
    let text = node.as_text().unwrap_or_default().trim();
    let digits = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let shift = match text[digits..].trim() {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        "TiB" => Some(40),
        _ => None,
    };
    let bytes = text[..digits].parse::<u64>().ok().zip(shift);
    let bytes = bytes.and_then(|(number, shift)| number.checked_mul(1 << shift));
    let bytes =
        bytes.ok_or_else(|| vec![wrong(node, "a size").hint("write a size such as `65536` or `64MiB`")])?;
    in_range(node, bytes, min, max)
}

fn tiers(node: &Node) -> Result<Tiers, Vec<Diagnostic>> {
    let text = node.as_text().unwrap_or_default();
    let all = [Tiers::Auto, Tiers::Portable, Tiers::Strong];
    let found = all.into_iter().find(|tiers| tiers.name() == text);
    found.ok_or_else(|| vec![wrong(node, "`auto`, `portable` or `strong`")])
}

fn full_disk(node: &Node) -> Result<FullDisk, Vec<Diagnostic>> {
    let text = node.as_text().unwrap_or_default();
    let found = FullDisk::ALL.into_iter().find(|policy| policy.name() == text);
    found.ok_or_else(|| vec![wrong(node, "`stop_events` or `drop_oldest`")])
}

fn maturity(node: &Node) -> Result<Maturity, Vec<Diagnostic>> {
    let found = Maturity::of(node.as_text().unwrap_or_default());
    found.ok_or_else(|| vec![wrong(node, "`stable`, `incubating` or `sandbox`")])
}

fn ring(node: &Node) -> Result<u32, Vec<Diagnostic>> {
    let bytes = size(node, 64 << 10, 1 << 30)?;
    if bytes.is_power_of_two() {
        return Ok(bytes as u32);
    }
    let (below, above) = (bytes.next_power_of_two() / 2, bytes.next_power_of_two());
    Err(vec![
        Diagnostic::error("C105", format!("{bytes} is no power of two, which the kernel's rings need"))
            .label(node.span.clone(), "not a power of two")
            .hint(format!("write {below} or {above}")),
    ])
}

fn quote(text: &str) -> String {
    let mut out = Vec::new();
    crate::event::text::json_string(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| quote(&item)).collect::<Vec<_>>().join(", "))
}

impl Settings {
    /// All settings as YAML, with the defaults filled in.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            let (head, leaf) = key.name.split_once('.').unwrap_or(("", key.name));
            if head != section {
                text.push_str(&format!("{head}:\n"));
                section = head;
            }
            text.push_str(&format!("  {leaf}: {}\n", (key.show)(self)));
        }
        text.push_str(&export::to_yaml(&self.exporters));
        text
    }

    /// The keys that have another value here than there.
    pub fn changed_from(&self, before: &Settings) -> Vec<&'static str> {
        let keys = KEYS.iter().filter(|key| (key.show)(self) != (key.show)(before)).map(|key| key.name);
        let exporters = export::to_yaml(&self.exporters) != export::to_yaml(&before.exporters);
        keys.chain(exporters.then_some("export")).collect()
    }

    /// SHA-256 over all settings, as hex digits.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.to_yaml()))
    }
}

/// Whether a setting takes effect when it is read anew.
pub fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| key.starts_with(live))
}

/// The JSON schema of a configuration file.
pub fn schema() -> serde_json::Value {
    schema::schema(KEYS.iter().map(|Key { name, ty, doc, .. }| (*name, *ty, *doc)), export::keys())
}

/// The reference page of all settings, in Markdown.
pub fn reference() -> String {
    let live: Vec<String> = LIVE.iter().map(|live| format!("`{live}`")).collect();
    let mut page = format!(
        "# Settings\n\nIn `{DEFAULT_PATH}`, in the file that `--config` names, or as `-o key=value`. All are \
         optional. Generated from `monitor/src/config/mod.rs`.\n\nThose whose keys begin with {} take effect when they \
         are [read anew](../operating.md#reload), all others at the next start.\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
        live.join(", ")
    );
    let defaults = Settings::default();
    for Key { name, ty, doc, set: _, show } in KEYS {
        let default =
            if *name == "node.name" { "host name".to_owned() } else { format!("`{}`", show(&defaults)) };
        page.push_str(&format!("| `{name}` | {ty} | {default} | {doc} |\n"));
    }
    page + &export::reference()
}

#[cfg(test)]
mod tests;

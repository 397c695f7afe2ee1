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

use crate::audit::{CHECKPOINT_RECORDS_MAX, FullDisk, Policy};
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
mod schema;

/// Where the settings are looked for if no file is named.
pub const DEFAULT_PATH: &str = "/etc/taffrail/taffrail.yaml";

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
    /// It is not valid.
    #[error("the configuration is not valid")]
    Invalid(Vec<Diagnostic>),
}

/// What can only be judged when all was read.
#[derive(Default)]
struct Written {
    exporters: export::Drafts,
    /// Where keys have their values.
    places: BTreeMap<&'static str, Span>,
}

type Set = fn(&mut Settings, &Node) -> Result<(), Vec<Diagnostic>>;

/// One key.
struct Key {
    name: &'static str,
    ty: &'static str,
    doc: &'static str,
    set: Set,
    show: fn(&Settings) -> String,
}

/// All keys.
#[rustfmt::skip]
const KEYS: &[Key] = &[
    Key { name: "log.dir", ty: "path", doc: "Folder of the audit log; it is made with mode 0700 if it is not there.",
        set: |s, n| text(n).map(|value| s.log_dir = value.into()), show: |s| quote(&s.log_dir.to_string_lossy()) },
    Key { name: "log.segment_bytes", ty: "size", doc: "A segment of the log that has grown to this size is closed and a new one begun: 64KiB to 1TiB.",
        set: |s, n| size(n, 64 << 10, 1 << 40).map(|value| s.log.segment_bytes = value), show: |s| s.log.segment_bytes.to_string() },
    Key { name: "log.segment_age_s", ty: "seconds", doc: "So is one that is this old; 0 for no limit.",
        set: |s, n| seconds(n, 0, 31_536_000).map(|value| s.log.segment_age = value), show: |s| s.log.segment_age.as_secs().to_string() },
    Key { name: "log.retention_bytes", ty: "size", doc: "Oldest segments beyond this size in all are deleted, which the log itself records; 0 keeps all.",
        set: |s, n| size(n, 0, 1 << 50).map(|value| s.log.retention_bytes = value), show: |s| s.log.retention_bytes.to_string() },
    Key { name: "log.retention_age_s", ty: "seconds", doc: "So are closed segments that nothing was written to for this long, by the wall clock; 0 for no limit.",
        set: |s, n| seconds(n, 0, 3_153_600_000).map(|value| s.log.retention_age = value), show: |s| s.log.retention_age.as_secs().to_string() },
    Key { name: "log.commit_interval_ms", ty: "milliseconds", doc: "Records wait at most this long for others before they are made durable: 1 to 150. Alerts never wait.",
        set: |s, n| number(n, 1, 150).map(|value| s.log.commit_interval = Duration::from_millis(value)), show: |s| s.log.commit_interval.as_millis().to_string() },
    Key { name: "log.checkpoint_records", ty: "number", doc: "There is a signed checkpoint behind this many records at the latest: 1 to 65536.",
        set: |s, n| number(n, 1, CHECKPOINT_RECORDS_MAX).map(|value| s.log.checkpoint_records = value), show: |s| s.log.checkpoint_records.to_string() },
    Key { name: "log.checkpoint_interval_s", ty: "seconds", doc: "And this long after a record at the latest: 1 to 86400.",
        set: |s, n| seconds(n, 1, 86_400).map(|value| s.log.checkpoint_interval = value), show: |s| s.log.checkpoint_interval.as_secs().to_string() },
    Key { name: "log.heartbeat_s", ty: "seconds", doc: "While nothing happens there is a checkpoint this often; 0 for none.",
        set: |s, n| seconds(n, 0, 86_400).map(|value| s.log.heartbeat = value), show: |s| s.log.heartbeat.as_secs().to_string() },
    Key { name: "log.key_interval_s", ty: "seconds", doc: "A key signs for this long; then its successor takes over and its secret is erased. 0 for ever.",
        set: |s, n| seconds(n, 0, 31_536_000).map(|value| s.log.key_interval = value), show: |s| s.log.key_interval.as_secs().to_string() },
    Key { name: "log.key_dir", ty: "path", doc: "Folder of the secret key, made with mode 0700; by default `keys` in the log's folder. Each log needs its own.",
        set: |s, n| optional(n).map(|value| s.log.key_folder = value), show: |s| or_empty(s.log.key_folder.as_deref()) },
    Key { name: "log.anchor", ty: "path", doc: "A file, best on another machine, that checkpoints are written to as well, for `audit verify --against`.",
        set: |s, n| optional(n).map(|value| s.log.anchor = value), show: |s| or_empty(s.log.anchor.as_deref()) },
    Key { name: "log.full_disk", ty: "`stop_events` or `drop_oldest`", doc: "What is done while less than `log.min_free_bytes` are free: events are counted instead of recorded (alerts and all else go on), or the oldest segments are deleted.",
        set: |s, n| full_disk(n).map(|value| s.log.full_disk = value), show: |s| s.log.full_disk.name().to_owned() },
    Key { name: "log.min_free_bytes", ty: "size", doc: "Less free space than this is a full disk; 0 to use it to the last byte.",
        set: |s, n| size(n, 0, 1 << 50).map(|value| s.log.min_free_bytes = value), show: |s| s.log.min_free_bytes.to_string() },
    Key { name: "log.compress", ty: "true or false", doc: "Whether closed segments are compressed (zstd).",
        set: |s, n| bool(n).map(|value| s.log.pack = value), show: |s| s.log.pack.to_string() },
    Key { name: "log.record", ty: "condition", doc: "Which events are recorded besides alerts, in the rule language.",
        set: |s, n| { let value = text(n)?; s.log_record = (value, Filter::compile(n)?); Ok(()) }, show: |s| quote(&s.log_record.0) },
    Key { name: "rules.files", ty: "list of paths", doc: "Rule files and folders of rule files, in order; later entries replace or change earlier ones. Of a folder all `.yaml` and `.yml` files, by name.",
        set: |s, n| texts(n).map(|values| s.rules_files = values.into_iter().map(PathBuf::from).collect()), show: |s| list(s.rules_files.iter().map(|path| path.to_string_lossy().into_owned())) },
    Key { name: "rules.local", ty: "path", doc: "Rule file for changes of this machine's own: it is loaded behind all others, if it is there.",
        set: |s, n| text(n).map(|value| s.rules_local = value.into()), show: |s| quote(&s.rules_local.to_string_lossy()) },
    Key { name: "rules.embedded", ty: "true or false", doc: "Whether the rules that come with the program are loaded, before all files.",
        set: |s, n| bool(n).map(|value| s.rules_embedded = value), show: |s| s.rules_embedded.to_string() },
    Key { name: "rules.watch", ty: "true or false", doc: "Whether rules and the configuration are [read anew](../operating.md#reload) when a file of them changes, as after SIGHUP.",
        set: |s, n| bool(n).map(|value| s.rules_watch = value), show: |s| s.rules_watch.to_string() },
    Key { name: "rules.maturity", ty: "`stable`, `incubating` or `sandbox`", doc: "How well tried rules must be to take part: those that are switched off in their file and have the tag `maturity_incubating` (or with `sandbox` also `maturity_sandbox`) are switched on.",
        set: |s, n| maturity(n).map(|value| s.rules_maturity = value), show: |s| s.rules_maturity.name().to_owned() },
    Key { name: "rules.disabled", ty: "list of names", doc: "Rules that are switched off, whatever else says that they are on.",
        set: |s, n| texts(n).map(|values| s.rules_disabled = values), show: |s| list(s.rules_disabled.iter().cloned()) },
    Key { name: "alerts.max", ty: "number", doc: "Alerts of one rule in one container in `alerts.interval_s`; what is more is counted and recorded ([throttling](../rule-state.md)). 1 to 1000000, or 0 for no limit. Rules can say otherwise.",
        set: |s, n| number(n, 0, 1_000_000).map(|value| s.state.throttle.alerts = if value == 0 { u32::MAX } else { value as u32 }), show: |s| if s.state.throttle.alerts == u32::MAX { 0 } else { s.state.throttle.alerts }.to_string() },
    Key { name: "alerts.interval_s", ty: "seconds", doc: "See `alerts.max`: 1 to 86400.",
        set: |s, n| number(n, 1, 86_400).map(|value| s.state.throttle.per_ns = value * SECOND_NS), show: |s| (s.state.throttle.per_ns / SECOND_NS).to_string() },
    Key { name: "state.keys_per_rule", ty: "number", doc: "Keys that one rule [remembers](../rule-state.md), the latest ones: 16 to 1048576.",
        set: |s, n| number(n, 16, 1 << 20).map(|value| s.state.keys_per_rule = value as usize), show: |s| s.state.keys_per_rule.to_string() },
    Key { name: "state.bytes", ty: "size", doc: "Memory for what all rules remember: 1MiB to 4GiB.",
        set: |s, n| size(n, 1 << 20, 4 << 30).map(|value| s.state.bytes = value as usize), show: |s| s.state.bytes.to_string() },
    Key { name: "scope.host", ty: "true or false", doc: "Whether files and connections of processes outside containers are watched too. Their processes always are, for lineage.",
        set: |s, n| bool(n).map(|value| s.scope.host = value), show: |s| s.scope.host.to_string() },
    Key { name: "scope.include", ty: "list of choices", doc: "Only these containers are watched, if there are any here. Each is `container=` (name, or id, of which 12 digits do), `image=` (with or without its tag), `pod=` (name or uid), `namespace=`, `label=KEY=` (of the container or its pod) or `runtime=`, and a pattern in which `*` and `?` stand for anything. Of each of these that is named one has to be met. See [scope](../scope.md).",
        set: |s, n| choices(n).map(|found| s.scope.include = found), show: |s| list(s.scope.include.iter().map(Selector::to_string)) },
    Key { name: "scope.exclude", ty: "list of choices", doc: "Containers that are not watched, whatever includes them: those that any of these chooses.",
        set: |s, n| choices(n).map(|found| s.scope.exclude = found), show: |s| list(s.scope.exclude.iter().map(Selector::to_string)) },
    Key { name: "probes.tier", ty: "`auto`, `portable` or `strong`", doc: "Which hooks are tried: `auto` takes strong ones (fentry), which cost less and see more, and portable ones for what the kernel refuses.",
        set: |s, n| tiers(n).map(|value| s.tiers = value), show: |s| s.tiers.name().to_owned() },
    Key { name: "probes.urgent_ring_bytes", ty: "size", doc: "Ring for what must not be lost (processes): a power of two, 64KiB to 1GiB.",
        set: |s, n| ring(n).map(|value| s.urgent_bytes = value), show: |s| s.urgent_bytes.to_string() },
    Key { name: "probes.bulk_ring_bytes", ty: "size", doc: "Ring for all other events: a power of two, 64KiB to 1GiB.",
        set: |s, n| ring(n).map(|value| s.bulk_bytes = value), show: |s| s.bulk_bytes.to_string() },
    Key { name: "probes.pin", ty: "path or `none`", doc: "Folder in a BPF file system, such as `/sys/fs/bpf/taffrail`. With it the probes go on collecting when the daemon ends, in any way, and the next one with the same folder [takes over](../operating.md#restarts); `taffrail unload` takes them off. `none`: they end with the daemon.",
        set: |s, n| if n.as_text() == Some("none") { s.pin = None; Ok(()) } else { text(n).map(|value| s.pin = Some(value.into())) }, show: |s| quote(&s.pin.as_deref().unwrap_or(Path::new("none")).to_string_lossy()) },
    Key { name: "enrich.max_processes", ty: "number", doc: "Processes that are remembered, running and ended: 1024 to 4194304. What they run, with all arguments, takes 128 MiB at most: beyond that the oldest are forgotten, too.",
        set: |s, n| number(n, 1024, 4 << 20).map(|value| s.max_processes = value as usize), show: |s| s.max_processes.to_string() },
    Key { name: "enrich.folders.docker", ty: "list of paths", doc: "Docker's root folders, which have `containers/ID/config.v2.json`. In these four lists, a path that ends in `/*` stands for all folders in there; those of users who run containers without root need not be named.",
        set: |s, n| texts(n).map(|values| s.folders.docker = values), show: |s| list(s.folders.docker.iter().cloned()) },
    Key { name: "enrich.folders.podman", ty: "list of paths", doc: "Roots and run roots of the storage of podman and CRI-O, which have `overlay-containers`.",
        set: |s, n| texts(n).map(|values| s.folders.podman = values), show: |s| list(s.folders.podman.iter().cloned()) },
    Key { name: "enrich.folders.containerd", ty: "list of paths", doc: "containerd's state folders, which have `io.containerd.runtime.v2.task`.",
        set: |s, n| texts(n).map(|values| s.folders.containerd = values), show: |s| list(s.folders.containerd.iter().cloned()) },
    Key { name: "enrich.folders.oci", ty: "list of paths", doc: "State folders of runc and crun, which have a folder for each container.",
        set: |s, n| texts(n).map(|values| s.folders.oci = values), show: |s| list(s.folders.oci.iter().cloned()) },
    Key { name: "enrich.sockets.docker", ty: "list of paths", doc: "Sockets of docker, which is asked where its files do not say what a container is called. In these four lists, an empty one asks nobody; those of users who run containers without root are where they always are.",
        set: |s, n| texts(n).map(|values| s.sockets.docker = values), show: |s| list(s.sockets.docker.iter().cloned()) },
    Key { name: "enrich.sockets.podman", ty: "list of paths", doc: "Sockets of podman's service, which is asked for labels, and pods and their names.",
        set: |s, n| texts(n).map(|values| s.sockets.podman = values), show: |s| list(s.sockets.podman.iter().cloned()) },
    Key { name: "enrich.sockets.cri", ty: "list of paths", doc: "Sockets of runtimes of Kubernetes (containerd, CRI-O), which are asked for labels of containers and pods.",
        set: |s, n| texts(n).map(|values| s.sockets.cri = values), show: |s| list(s.sockets.cri.iter().cloned()) },
    Key { name: "enrich.sockets.containerd", ty: "list of paths", doc: "Sockets of containerd, which is asked for the images of containers that `ctr` and the like made.",
        set: |s, n| texts(n).map(|values| s.sockets.containerd = values), show: |s| list(s.sockets.containerd.iter().cloned()) },
    Key { name: "enrich.name_wait_ms", ty: "milliseconds", doc: "How long an event waits for the name of its container, and all later ones with it, before it goes out marked `pending`: 0 to 10000.",
        set: |s, n| number(n, 0, 10_000).map(|value| s.name_wait = Duration::from_millis(value)), show: |s| s.name_wait.as_millis().to_string() },
    Key { name: "syscalls.events", ty: "list of names", doc: "System calls that are events, and recorded, whenever they return: `ptrace`, `keyctl` … See [system calls](../syscalls.md).",
        set: |s, n| calls(n).map(|values| s.syscalls_events = values), show: |s| list(s.syscalls_events.iter().cloned()) },
    Key { name: "syscalls.count", ty: "true or false", doc: "Whether it is counted, and recorded, how often each container makes each system call.",
        set: |s, n| bool(n).map(|value| s.syscalls_count = value), show: |s| s.syscalls_count.to_string() },
    Key { name: "syscalls.interval_s", ty: "seconds", doc: "How often the counts are recorded: 1 to 86400.",
        set: |s, n| number(n, 1, 86_400).map(|value| s.syscalls_interval = Duration::from_secs(value)), show: |s| s.syscalls_interval.as_secs().to_string() },
    Key { name: "syscalls.flight_recorder", ty: "number", doc: "How many of the last system calls of each of 64 containers are kept, to be recorded when SIGUSR1 asks for them: a power of two, 16 to 4096; 0 keeps none. Each takes 6 KiB of memory in all.",
        set: |s, n| flight(n).map(|value| s.syscalls_flight_recorder = value), show: |s| s.syscalls_flight_recorder.to_string() },
    Key { name: "api.socket", ty: "path or `none`", doc: "Local socket for `taffrail status` and its like, for root and the daemon's own user; by default `control.sock` in the log's folder.",
        set: |s, n| api::socket(n).map(|value| s.api.socket = value), show: |s| api::show_socket(&s.api.socket) },
    Key { name: "api.listen", ty: "address", doc: "Address and port, such as `0.0.0.0:9641` or `[::]:9641`, for [metrics](../operating.md#metrics) and checks from elsewhere, by TLS; empty: none.",
        set: |s, n| api::address(n).map(|value| s.api.listen = value), show: |s| quote(&s.api.listen.map_or(String::new(), |address| address.to_string())) },
    Key { name: "api.cert_file", ty: "path", doc: "Our certificate for that (PEM), and those that lead to its root. These four files are read again when they change.",
        set: |s, n| optional(n).map(|value| s.api.cert_file = value.unwrap_or_default()), show: |s| or_empty(Some(&s.api.cert_file)) },
    Key { name: "api.key_file", ty: "path", doc: "Its private key (PEM).",
        set: |s, n| optional(n).map(|value| s.api.key_file = value.unwrap_or_default()), show: |s| or_empty(Some(&s.api.key_file)) },
    Key { name: "api.client_ca_file", ty: "path", doc: "Certificates (PEM) of who signs certificates of clients: whoever has one is let in.",
        set: |s, n| optional(n).map(|value| s.api.client_ca_file = value), show: |s| or_empty(s.api.client_ca_file.as_deref()) },
    Key { name: "api.tokens_file", ty: "path", doc: "Bearer tokens, one a line: `NAME TOKEN`, `NAME sha256:HEX` or a token alone: whoever has one is let in.",
        set: |s, n| optional(n).map(|value| s.api.tokens_file = value), show: |s| or_empty(s.api.tokens_file.as_deref()) },
    Key { name: "api.kubernetes.tokens", ty: "true or false", doc: "Whether bearer tokens that Kubernetes knows are taken: its API server [is asked](../operating.md#tokens-of-kubernetes) whose they are (`TokenReview`).",
        set: |s, n| bool(n).map(|value| s.api.providers.kubernetes.is_on = value), show: |s| s.api.providers.kubernetes.is_on.to_string() },
    Key { name: "api.kubernetes.audiences", ty: "list of texts", doc: "For whom such a token has to be, one of these; empty: for the API server itself.",
        set: |s, n| texts(n).map(|values| s.api.providers.kubernetes.audiences = values), show: |s| list(s.api.providers.kubernetes.audiences.iter().cloned()) },
    Key { name: "api.kubernetes.users", ty: "list of texts", doc: "Users who are let in, such as `system:serviceaccount:monitoring:prometheus`, or `*`. Without users and groups Kubernetes is asked as well whether a user may `get` the path (`SubjectAccessReview`).",
        set: |s, n| texts(n).map(|values| s.api.providers.kubernetes.users = values), show: |s| list(s.api.providers.kubernetes.users.iter().cloned()) },
    Key { name: "api.kubernetes.groups", ty: "list of texts", doc: "Groups whose members are let in.",
        set: |s, n| texts(n).map(|values| s.api.providers.kubernetes.groups = values), show: |s| list(s.api.providers.kubernetes.groups.iter().cloned()) },
    Key { name: "api.oidc.issuer", ty: "address", doc: "A provider of OpenID Connect whose tokens are [taken](../operating.md#tokens-of-openid-connect), as they name it: `https://…`; empty: none.",
        set: |s, n| api::issuer(n).map(|value| s.api.providers.oidc.issuer = value), show: |s| quote(&s.api.providers.oidc.issuer) },
    Key { name: "api.oidc.audience", ty: "text", doc: "For whom such a token has to be: the claim `aud` is that or has it.",
        set: |s, n| api::text_or_empty(n).map(|value| s.api.providers.oidc.audience = value), show: |s| quote(&s.api.providers.oidc.audience) },
    Key { name: "api.oidc.ca_file", ty: "path", doc: "Certificates (PEM) of who signs the provider's; by default whom the system trusts.",
        set: |s, n| optional(n).map(|value| s.api.providers.oidc.ca_file = value), show: |s| or_empty(s.api.providers.oidc.ca_file.as_deref()) },
    Key { name: "api.oidc.user_claim", ty: "text", doc: "The claim that is the user's name. An `email` counts only if it is verified.",
        set: |s, n| text(n).map(|value| s.api.providers.oidc.user_claim = value), show: |s| quote(&s.api.providers.oidc.user_claim) },
    Key { name: "api.oidc.group_claim", ty: "text", doc: "The claim that has the user's groups.",
        set: |s, n| text(n).map(|value| s.api.providers.oidc.group_claim = value), show: |s| quote(&s.api.providers.oidc.group_claim) },
    Key { name: "api.oidc.users", ty: "list of texts", doc: "Users who are let in; `*` is whoever the provider gives such a token.",
        set: |s, n| texts(n).map(|values| s.api.providers.oidc.users = values), show: |s| list(s.api.providers.oidc.users.iter().cloned()) },
    Key { name: "api.oidc.groups", ty: "list of texts", doc: "Groups whose members are let in.",
        set: |s, n| texts(n).map(|values| s.api.providers.oidc.groups = values), show: |s| list(s.api.providers.oidc.groups.iter().cloned()) },
    Key { name: "api.oidc.claims", ty: "list of texts", doc: "`NAME=VALUE`: claims that a token needs besides, each that value or a list with it.",
        set: |s, n| api::claims(n).map(|values| s.api.providers.oidc.claims = values), show: |s| list(s.api.providers.oidc.claims.iter().map(|(name, value)| format!("{name}={value}"))) },
    Key { name: "kubernetes.server", ty: "address", doc: "The API server of Kubernetes, `https://…`; by default the one that each pod is given. It is asked only if something else says so.",
        set: |s, n| api::server(n).map(|value| s.kubernetes.server = value), show: |s| quote(s.kubernetes.server.as_ref().map_or("", |url| url.as_str())) },
    Key { name: "kubernetes.ca_file", ty: "path", doc: "Certificates (PEM) of who signs its certificate. This file and the next are read again when they change.",
        set: |s, n| text(n).map(|value| s.kubernetes.ca_file = value.into()), show: |s| quote(&s.kubernetes.ca_file.to_string_lossy()) },
    Key { name: "kubernetes.token_file", ty: "path", doc: "The token that we prove ourselves by.",
        set: |s, n| text(n).map(|value| s.kubernetes.token_file = value.into()), show: |s| quote(&s.kubernetes.token_file.to_string_lossy()) },
    Key { name: "kubernetes.workloads", ty: "true or false", doc: "Whether it is asked for the [workload and the service account](../events.md#workloads) of each pod of this node, which `node.name` has to name as Kubernetes does.",
        set: |s, n| bool(n).map(|value| s.kubernetes.workloads = value), show: |s| s.kubernetes.workloads.to_string() },
    Key { name: "node.name", ty: "text", doc: "This node's name in each record; by default the host name.",
        set: |s, n| text(n).map(|value| s.node_name = value), show: |s| quote(&s.node_name) },
    Key { name: "daemon.confine", ty: "true or false", doc: "Whether the daemon [confines itself](../deploy.md#how-it-confines-itself) before it begins to watch: it can then start no program, and write below its own folders only.",
        set: |s, n| bool(n).map(|value| s.confine = value), show: |s| s.confine.to_string() },
];

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
            Err(diagnostic) => diagnostics.push(diagnostic),
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
    if diagnostics.is_empty() { Ok(settings) } else { Err(LoadError::Invalid(diagnostics)) }
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
                    diagnostics.push(unknown(&full, key));
                }
            }
        }
        _ if node.is_null() => {}
        _ => diagnostics.push(wrong(node, if name.is_empty() { "a mapping of keys" } else { "a mapping" })),
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
            diagnostics.extend((key.set)(settings, &node).err().into_iter().flatten());
        }
        None => diagnostics.push(unknown(name, &whole)),
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

/// The JSON schema of a configuration file.
pub fn schema() -> serde_json::Value {
    schema::schema(KEYS.iter().map(|Key { name, ty, doc, .. }| (*name, *ty, *doc)), export::keys())
}

/// The reference page of all settings, in Markdown.
pub fn reference() -> String {
    let mut page = format!(
        "# Settings\n\nIn `{DEFAULT_PATH}`, in the file that `--config` names, or as `-o key=value`. All are \
         optional. Generated from `monitor/src/config/mod.rs`.\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
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

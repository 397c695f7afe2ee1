//! Metrics in Prometheus' text format. [`METRICS`] is the one table of them: the page that is scraped and the reference
//! page are both made from it. Nothing is counted here: each value is read, at the moment of the scrape, from what the
//! daemon's threads have noted ([`crate::vitals`]) or from the log's own counters, which gap records are written from too. No label has
//! a value that a container can choose: their values are kinds, hooks, rules, exporters and other names that we or the
//! configuration give.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use taffrail_common::for_each_kind;
use taffrail_common::kind::KINDS;

use super::process::Process;
use crate::audit::Durable;
use crate::clock;
use crate::event;
use crate::export::standing::Standing;
use crate::probe::ProbeState;
use crate::probe::fill::RingFill;
use crate::remote;
use crate::serve::access::{self, Calls};
use crate::vitals::{Durations, GAPS, OfKind, OfRule, Vitals};

/// Where the values come from.
pub struct Sources {
    /// The daemon's threads.
    pub vitals: Arc<Vitals>,
    /// The audit log.
    pub log: Durable,
    /// The exporters.
    pub exporters: Vec<Arc<Standing>>,
    /// What became of each probe.
    pub probes: Vec<ProbeState>,
    /// The rings.
    pub rings: Vec<RingFill>,
    /// Who called.
    pub calls: Arc<Calls>,
    /// Servers that are asked for something.
    pub remotes: Vec<Arc<remote::Standing>>,
    /// The node's name.
    pub node: String,
    /// Where the API listens, while it does.
    pub listen: Mutex<Option<SocketAddr>>,
}

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// It only grows, until the daemon starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by upper bounds.
    Histogram,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        }
    }
}

/// One metric.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    ty: Type,
    /// What its label values are, for the reference: `name` and the values that it can have.
    labels: &'static [(&'static str, &'static str)],
    help: &'static str,
    read: fn(&Sources, &mut Samples<'_>),
}

const NONE: &[(&str, &str)] = &[];
const KIND: (&str, &str) = ("kind", "[kind of event](../events.md#kinds)");
const RING: (&str, &str) = ("ring", "`urgent`, `bulk`");
const RULE: &[(&str, &str)] =
    &[("priority", "the rule's priority"), ("rule", "name of a rule that is in force")];
const EXPORTER: &[(&str, &str)] = &[("exporter", "its name in the configuration")];
const SERVER: (&str, &str) = (
    "server",
    "`kubernetes` (whose tokens are), `oidc`, `workloads` (pods), `owners` (of ReplicaSets and Jobs)",
);
const MAP: &[(&str, &str)] = &[("map", "`scope` (cgroups), `losses` (by kind and cgroup)")];
const PROGRAM: &[(&str, &str)] = &[("program", "name of an attached program")];

/// All metrics.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    Metric { name: "taffrail_build_info", ty: Type::Gauge, labels: &[("arch", "architecture"), ("version", "version")],
        help: "Always 1: which build this is.",
        read: |_, out| out.labelled(&[std::env::consts::ARCH, env!("CARGO_PKG_VERSION")], 1.0) },
    Metric { name: "taffrail_live", ty: Type::Gauge, labels: NONE,
        help: "Whether each stage makes progress: what `/livez` answers.",
        read: |s, out| out.flag(super::status::stalled(s).is_empty()) },
    Metric { name: "taffrail_ready", ty: Type::Gauge, labels: NONE,
        help: "Whether probes are attached, rules in force and the canary was seen: what `/readyz` answers.",
        read: |s, out| out.flag(super::status::lacking(s).is_empty()) },
    Metric { name: "taffrail_canary_last_seen_timestamp_seconds", ty: Type::Gauge, labels: NONE,
        help: "When an event that the daemon itself caused came out of the ring last, by the wall clock; 0 for never.",
        read: |s, out| out.value(wall_seconds(s.vitals.canary.seen_ns.get())) },
    Metric { name: "taffrail_events_total", ty: Type::Counter, labels: &[KIND],
        help: "Events that were received and dealt with.",
        read: |s, out| each_kind(s, |of| of.handled.get(), |kind, value| out.labelled(&[kind], value)) },
    Metric { name: "taffrail_events_offered_total", ty: Type::Counter, labels: &[KIND],
        help: "Events that the kernel side saw in what is watched: those received, those lost, and those on their way.",
        read: |s, out| each_kind(s, |of| of.offered.get(), |kind, value| out.labelled(&[kind], value)) },
    Metric { name: "taffrail_events_lost_total", ty: Type::Counter, labels: &[KIND, RING],
        help: "Events for which a ring had no room. The log has them as gaps of the ring, by container.",
        read: |s, out| each_kind(s, |of| of.lost.get(), |kind, value| out.labelled(&[kind, ring_of(kind)], value)) },
    Metric { name: "taffrail_gap_events_total", ty: Type::Counter, labels: &[("where", "as in [gaps](../audit-log.md#gaps), without `log` and `export`")],
        help: "Events that are missing, as the log's gap records tell.",
        read: |s, out| GAPS.iter().zip(&s.vitals.gaps).for_each(|(place, count)| out.labelled(&[place], count.get() as f64)) },
    Metric { name: "taffrail_event_delay_seconds", ty: Type::Histogram, labels: NONE,
        help: "From the hook to the end of matching: how old the last event of each batch was.",
        read: |s, out| out.durations(&[], &s.vitals.delay) },
    Metric { name: "taffrail_stage_duration_seconds", ty: Type::Histogram, labels: &[("stage", "`match` (decode, enrich, match), `record` (write and make durable)")],
        help: "How long a stage took for a batch.",
        read: |s, out| {
            out.durations(&["match"], &s.vitals.match_time);
            out.durations(&["record"], &s.log.stats().commit_time);
        } },
    Metric { name: "taffrail_queue_batches", ty: Type::Gauge, labels: NONE,
        help: "Batches of events that wait for the match thread or are in its hands: 5 at most.",
        read: |s, out| out.value(s.vitals.sent.get().saturating_sub(s.vitals.done.get()) as f64) },
    Metric { name: "taffrail_held_bytes", ty: Type::Gauge, labels: NONE,
        help: "Bytes of events that wait for the name of their container.",
        read: |s, out| out.value(s.vitals.held_bytes.get() as f64) },
    Metric { name: "taffrail_ring_used_bytes", ty: Type::Gauge, labels: &[RING],
        help: "Bytes that are in a ring and not read yet.",
        read: |s, out| s.rings.iter().for_each(|ring| out.labelled(&[ring.name], ring.used() as f64)) },
    Metric { name: "taffrail_ring_size_bytes", ty: Type::Gauge, labels: &[RING],
        help: "Bytes that a ring has room for.",
        read: |s, out| s.rings.iter().for_each(|ring| out.labelled(&[ring.name], ring.size.into())) },
    Metric { name: "taffrail_map_entries", ty: Type::Gauge, labels: MAP,
        help: "Entries in use of tables in the kernel that the daemon can count.",
        read: |s, out| [("scope", &s.vitals.scope), ("losses", &s.vitals.losses)].into_iter().for_each(|(map, fill)| out.labelled(&[map], fill.used.get() as f64)) },
    Metric { name: "taffrail_map_max_entries", ty: Type::Gauge, labels: MAP,
        help: "Entries that these tables have room for.",
        read: |s, out| [("scope", &s.vitals.scope), ("losses", &s.vitals.losses)].into_iter().for_each(|(map, fill)| out.labelled(&[map], fill.max.get() as f64)) },
    Metric { name: "taffrail_probe_state", ty: Type::Gauge,
        labels: &[("probe", "its name in `taffrail doctor`"), ("state", "`attached`, `fallback` (the program for older kernels), `not_needed`, `replaced` (the portable tier sees the same), `failed`"), ("tier", "`portable`, `strong`")],
        help: "Always 1: what became of each probe.",
        read: |s, out| s.probes.iter().for_each(|probe| out.labelled(&[probe.hook.program, super::status::state_of(probe), probe.hook.tier.name()], 1.0)) },
    Metric { name: "taffrail_program_skipped_runs_total", ty: Type::Counter, labels: PROGRAM,
        help: "Runs that the kernel skipped since the program was still running on that CPU: each may be a lost event.",
        read: |s, out| s.vitals.programs().iter().for_each(|of| out.labelled(&[of.program], of.skipped as f64)) },
    Metric { name: "taffrail_program_runs_total", ty: Type::Counter, labels: PROGRAM,
        help: "Runs of a program of the kernel, while the kernel counts them (`sysctl kernel.bpf_stats_enabled=1`).",
        read: |s, out| s.vitals.programs().iter().filter(|of| of.runs > 0).for_each(|of| out.labelled(&[of.program], of.runs as f64)) },
    Metric { name: "taffrail_program_run_seconds_total", ty: Type::Counter, labels: PROGRAM,
        help: "CPU time of these runs.",
        read: |s, out| s.vitals.programs().iter().filter(|of| of.runs > 0).for_each(|of| out.labelled(&[of.program], seconds(of.run_ns))) },
    Metric { name: "taffrail_rules", ty: Type::Gauge, labels: NONE,
        help: "Rules that are in force.",
        read: |s, out| out.value(s.vitals.in_force().rules as f64) },
    Metric { name: "taffrail_rules_info", ty: Type::Gauge, labels: &[("sha256", "hash over all rules that are in force, as in the log's records `rules`")],
        help: "Always 1: which rules are in force.",
        read: |s, out| out.labelled(&[&s.vitals.in_force().sha256], 1.0) },
    Metric { name: "taffrail_rules_last_reload_successful", ty: Type::Gauge, labels: NONE,
        help: "Whether the rules, and the settings they come with, were taken when they were loaded last.",
        read: |s, out| out.flag(!s.vitals.in_force().is_refused) },
    Metric { name: "taffrail_rules_loaded_timestamp_seconds", ty: Type::Gauge, labels: NONE,
        help: "When the rules in force were loaded, by the wall clock.",
        read: |s, out| out.value(seconds(s.vitals.in_force().loaded_ns)) },
    Metric { name: "taffrail_alerts_total", ty: Type::Counter, labels: RULE,
        help: "Alerts since the start, or since the rule was loaded; 0 for a rule in force that has none.",
        read: |s, out| {
            each_rule(s, |of| of.alerts, out);
            out.labelled(&[access::PRIORITY, access::RULE], s.calls.alerts() as f64);
        } },
    Metric { name: "taffrail_alerts_throttled_total", ty: Type::Counter, labels: RULE,
        help: "Matches that raised no alert, since there were too many.",
        read: |s, out| each_rule(s, |of| of.suppressed, out) },
    Metric { name: "taffrail_processes", ty: Type::Gauge, labels: NONE,
        help: "Processes that are remembered.",
        read: |s, out| out.value(s.vitals.processes.get() as f64) },
    Metric { name: "taffrail_process_text_bytes", ty: Type::Gauge, labels: NONE,
        help: "Bytes of paths and arguments of the processes that are remembered: 134217728 at most.",
        read: |s, out| out.value(s.vitals.process_text_bytes.get() as f64) },
    Metric { name: "taffrail_process_evictions_total", ty: Type::Counter, labels: &[("state", "`ended`, `running`")],
        help: "Processes that were forgotten to make room for others.",
        read: |s, out| ["ended", "running"].iter().zip(&s.vitals.evicted).for_each(|(state, count)| out.labelled(&[state], count.get() as f64)) },
    Metric { name: "taffrail_processes_unknown_total", ty: Type::Counter, labels: NONE,
        help: "Processes that were first known by an event of theirs, not by their fork.",
        read: |s, out| out.value(s.vitals.unknown.get() as f64) },
    Metric { name: "taffrail_containers_nameless_total", ty: Type::Counter, labels: NONE,
        help: "Containers that were gone before anybody told what they are called.",
        read: |s, out| out.value(s.vitals.late.get() as f64) },
    Metric { name: "taffrail_log_sequence_number", ty: Type::Gauge, labels: NONE,
        help: "Number of the last record of the audit log that is durable.",
        read: |s, out| out.value(s.log.seq() as f64) },
    Metric { name: "taffrail_log_written_bytes_total", ty: Type::Counter, labels: NONE,
        help: "Bytes that were written to the audit log.",
        read: |s, out| out.value(s.log.stats().bytes.load(Ordering::Relaxed) as f64) },
    Metric { name: "taffrail_log_lost_records_total", ty: Type::Counter, labels: NONE,
        help: "Records that could not be written: the log has them as gaps of the log.",
        read: |s, out| out.value(s.log.stats().failed.load(Ordering::Relaxed) as f64) },
    Metric { name: "taffrail_log_queue_bytes", ty: Type::Gauge, labels: NONE,
        help: "Bytes of records that wait to be written.",
        read: |s, out| out.value(s.log.queued_bytes() as f64) },
    Metric { name: "taffrail_log_unsigned_records", ty: Type::Gauge, labels: NONE,
        help: "Records that no checkpoint covers yet.",
        read: |s, out| out.value(s.log.stats().unsigned.load(Ordering::Relaxed) as f64) },
    Metric { name: "taffrail_log_tamper_window_seconds", ty: Type::Gauge, labels: NONE,
        help: "Age of the oldest record that no checkpoint covers; 0 if there is none.",
        read: |s, out| out.value(age_seconds(s.log.stats().unsigned_since_ns.load(Ordering::Relaxed))) },
    Metric { name: "taffrail_export_lag_records", ty: Type::Gauge, labels: EXPORTER,
        help: "Records of the log that an exporter is behind.",
        read: |s, out| s.exporters.iter().for_each(|of| out.labelled(&[&of.name], s.log.seq().saturating_sub(of.seq.get()) as f64)) },
    Metric { name: "taffrail_export_failing", ty: Type::Gauge, labels: EXPORTER,
        help: "Whether nothing gets through to an exporter's receiver.",
        read: |s, out| s.exporters.iter().for_each(|of| out.labelled(&[&of.name], of.failing.get() as f64)) },
    Metric { name: "taffrail_export_sent_events_total", ty: Type::Counter, labels: EXPORTER,
        help: "Events that a receiver has taken, over all starts of the daemon.",
        read: |s, out| s.exporters.iter().for_each(|of| out.labelled(&[&of.name], of.sent.get() as f64)) },
    Metric { name: "taffrail_export_failures_total", ty: Type::Counter, labels: EXPORTER,
        help: "Times that sending failed and is tried again.",
        read: |s, out| s.exporters.iter().for_each(|of| out.labelled(&[&of.name], of.failed.get() as f64)) },
    Metric { name: "taffrail_export_refused_events_total", ty: Type::Counter, labels: EXPORTER,
        help: "Events that a receiver will not take: they are kept as dead letters.",
        read: |s, out| s.exporters.iter().for_each(|of| out.labelled(&[&of.name], of.refused.get() as f64)) },
    Metric { name: "taffrail_export_dropped_records_total", ty: Type::Counter, labels: EXPORTER,
        help: "Records that were deleted from the log before they were sent: the log has them as gaps of the exporter.",
        read: |s, out| s.exporters.iter().for_each(|of| out.labelled(&[&of.name], of.dropped.get() as f64)) },
    Metric { name: "taffrail_api_requests_total", ty: Type::Counter, labels: &[("endpoint", "its path, or `other`"), ("status", "HTTP status")],
        help: "Requests to the API, over the network and the local socket.",
        read: |s, out| s.calls.each(|endpoint, status, count| out.labelled(&[endpoint, status], count as f64)) },
    Metric { name: "taffrail_api_refused_connections_total", ty: Type::Counter, labels: &[("reason", "`full` (too many at once), `handshake` (no TLS, or none that we accept), `slow`")],
        help: "Connections to the API that ended without an answer.",
        read: |s, out| s.calls.each_refusal(|reason, count| out.labelled(&[reason], count as f64)) },
    Metric { name: "taffrail_server_requests_total", ty: Type::Counter, labels: &[("outcome", "`answered`, `failed`"), SERVER],
        help: "Questions to servers that the daemon was told to ask.",
        read: |s, out| s.remotes.iter().for_each(|of| [("answered", &of.answered), ("failed", &of.failed)].into_iter().for_each(|(outcome, count)| out.labelled(&[outcome, of.what], count.get() as f64))) },
    Metric { name: "taffrail_server_failing", ty: Type::Gauge, labels: &[SERVER],
        help: "Whether the last question to such a server came to nothing.",
        read: |s, out| s.remotes.iter().for_each(|of| out.labelled(&[of.what], if of.why_away().is_some() { 1.0 } else { 0.0 })) },
    Metric { name: "process_cpu_seconds_total", ty: Type::Counter, labels: NONE,
        help: "CPU time of the daemon, user and system.",
        read: |_, out| out.optional(Process::read().map(|of| of.cpu_seconds)) },
    Metric { name: "process_resident_memory_bytes", ty: Type::Gauge, labels: NONE,
        help: "Memory of the daemon that is in use.",
        read: |_, out| out.optional(Process::read().map(|of| of.resident_bytes)) },
    Metric { name: "process_open_fds", ty: Type::Gauge, labels: NONE,
        help: "Open file descriptors of the daemon.",
        read: |_, out| out.optional(super::process::open_fds()) },
    Metric { name: "process_threads", ty: Type::Gauge, labels: NONE,
        help: "Threads of the daemon.",
        read: |_, out| out.optional(Process::read().map(|of| of.threads)) },
    Metric { name: "process_start_time_seconds", ty: Type::Gauge, labels: NONE,
        help: "When the daemon was started, by the wall clock.",
        read: |_, out| out.optional(Process::read().map(|of| wall_seconds(of.start_ns))) },
];

/// Samples of one metric on their way into the page.
pub struct Samples<'a> {
    metric: &'static Metric,
    page: &'a mut String,
}

impl Samples<'_> {
    fn value(&mut self, value: f64) {
        self.labelled(&[], value);
    }

    fn flag(&mut self, is_set: bool) {
        self.value(if is_set { 1.0 } else { 0.0 });
    }

    fn optional(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.value(value);
        }
    }

    fn labelled(&mut self, values: &[&str], value: f64) {
        self.line("", values, None, value);
    }

    fn durations(&mut self, values: &[&str], durations: &Durations) {
        let (counts, sum) = durations.read();
        for (place, count) in counts.iter().enumerate() {
            let bound = Durations::BOUNDS.get(place);
            let bound = bound.map_or("+Inf".to_owned(), |ms| (*ms as f64 / 1e3).to_string());
            self.line("_bucket", values, Some(&bound), *count as f64);
        }
        self.line("_sum", values, None, sum.as_secs_f64());
        self.line("_count", values, None, counts[Durations::BOUNDS.len()] as f64);
    }

    fn line(&mut self, suffix: &str, values: &[&str], bound: Option<&str>, value: f64) {
        self.page.push_str(self.metric.name);
        self.page.push_str(suffix);
        let names = self.metric.labels.iter().map(|(name, _)| *name).zip(values.iter().copied());
        let mut separator = '{';
        for (name, value) in names.chain(bound.map(|bound| ("le", bound))) {
            self.page.push(separator);
            self.page.push_str(name);
            self.page.push_str("=\"");
            for char in value.chars() {
                match char {
                    '\\' => self.page.push_str("\\\\"),
                    '"' => self.page.push_str("\\\""),
                    '\n' => self.page.push_str("\\n"),
                    char => self.page.push(char),
                }
            }
            self.page.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.page.push('}');
        }
        // Writing to memory cannot fail.
        let _ = writeln!(self.page, " {value}");
    }
}

/// The page that is scraped.
pub fn page(sources: &Sources) -> String {
    let mut page = String::with_capacity(16 << 10);
    for metric in METRICS {
        let Metric { name, ty, help, read, .. } = metric;
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {}", ty.name());
        read(sources, &mut Samples { metric, page: &mut page });
    }
    page
}

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\nGenerated from `monitor/src/serve/metrics.rs`. [Operating](../operating.md#metrics) says how they are scraped. \
         Units are those that the names end with.\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for Metric { name, ty, labels, help, .. } in METRICS {
        let labels: Vec<String> = labels.iter().map(|(name, values)| format!("`{name}`: {values}")).collect();
        let _ = writeln!(page, "| `{name}` | {} | {} | {help} |", ty.name(), labels.join("; "));
    }
    page
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A time of the boot clock by the wall clock, in seconds since 1970; 0 stays 0.
fn wall_seconds(boot_ns: u64) -> f64 {
    if boot_ns == 0 { 0.0 } else { seconds(clock::Clock::now().realtime_ns(boot_ns)) }
}

fn age_seconds(since_ns: u64) -> f64 {
    if since_ns == 0 { 0.0 } else { seconds(clock::boot_ns().saturating_sub(since_ns)) }
}

fn each_kind(sources: &Sources, read: fn(&OfKind) -> u64, mut each: impl FnMut(&'static str, f64)) {
    for kind in 1..KINDS {
        each(event::kind_name(kind as u16), read(&sources.vitals.kinds[kind]) as f64);
    }
}

fn each_rule(sources: &Sources, read: fn(&OfRule) -> u64, out: &mut Samples<'_>) {
    for (rule, of) in sources.vitals.rules() {
        out.labelled(&[of.priority, &rule], read(&of) as f64);
    }
}

macro_rules! rings {
    ($( ($id:literal, $name:ident, $record:ident, $lane:ident) )*) => {
        /// The ring that events of a kind go by.
        fn ring_of(kind: &str) -> &'static str {
            match kind {
                $( stringify!($name) => match stringify!($lane).as_bytes() { b"Urgent" => "urgent", _ => "bulk" }, )*
                _ => "",
            }
        }
    };
}

for_each_kind!(rings);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::serve::testing::sources;

    #[test]
    fn reference_page_is_fresh() {
        crate::testing::assert_fresh("docs/reference/metrics.md", &reference());
    }

    #[test]
    fn each_sample_has_the_labels_of_its_metric_and_each_metric_a_name_once() {
        let folder = tempfile::tempdir().unwrap();
        let (sources, _log) = sources(folder.path());
        let page = page(&sources);
        let mut names = BTreeSet::new();
        for Metric { name, ty, labels, .. } in METRICS {
            assert!(names.insert(*name), "{name} twice");
            assert_eq!(name.ends_with("_total"), *ty == Type::Counter, "{name}");
            assert!(labels.is_sorted(), "{name}");
        }
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            let plain = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            let metric = METRICS.iter().find(|of| of.name == name || Some(of.name) == plain);
            let metric = metric.unwrap_or_else(|| panic!("{line}"));
            for (label, _) in metric.labels {
                assert!(labels.contains(&format!("{label}=\"")), "{line}");
            }
        }
        assert!(page.contains("taffrail_events_lost_total{kind=\"exec\",ring=\"urgent\"} 0"), "{page}");
        assert!(page.contains("taffrail_events_lost_total{kind=\"open\",ring=\"bulk\"} 0"), "{page}");
    }

    #[test]
    fn each_metric_that_the_dashboard_and_the_alerts_ask_for_exists() {
        for file in ["dashboard.json", "alerts.yaml"] {
            let path = format!("{}/../deploy/chart/files/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
            let asked: BTreeSet<&str> = words
                .filter(|word| word.starts_with("taffrail_") || word.starts_with("process_"))
                .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
                .collect();
            assert!(asked.len() >= 8, "{file}: {asked:?}");
            for name in asked {
                assert!(METRICS.iter().any(|metric| metric.name == name), "{file}: {name}");
            }
        }
    }

    #[test]
    fn label_values_cannot_end_a_label_or_a_line() {
        let metric = METRICS.iter().find(|metric| metric.name == "taffrail_export_failing").unwrap();
        let mut page = String::new();
        Samples { metric, page: &mut page }.labelled(&["a\"} 1\n\\"], 1.0);
        assert_eq!(page, "taffrail_export_failing{exporter=\"a\\\"} 1\\n\\\\\"} 1\n");
    }
}

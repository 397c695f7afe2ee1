//! `taffrail run`: the daemon.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use taffrail_common::kind::{ASKED_NAME, KINDS, SYSCALL};
use taffrail_common::map::COUNTED;

use super::config::Source;
use super::control::{Control, Signals};
use super::load::{Loaded, load};
use super::restart::{self, Last};
use super::scope::Choice;
use super::sink::LogSink;
use crate::audit::{Log, RecordKind};
use crate::clock::{self, Clock};
use crate::config::Settings;
use crate::confine::{ConfineError, Confinement, Role};
use crate::enrich::cgroup::Layout;
use crate::enrich::{Enricher, Source as Enrichment};
use crate::event;
use crate::event::field::KindSet;
use crate::event::text::escaped;
use crate::export::Exporters;
use crate::pipeline::inbox::{Inbox, Word};
use crate::pipeline::{self, Live, Message, Sink, Worker, receive};
use crate::probe::handover::{self, Claim};
use crate::probe::hook::{PROCESS_KINDS, Status, bit};
use crate::probe::loss::LOST_MAX;
use crate::probe::scope::SCOPE_MAX;
use crate::probe::tree::Tree;
use crate::probe::{LoadError, Options, ProbeState, Probes};
use crate::rules::RuleSet;
use crate::scope::{Scope, Selector};
use crate::serve::Api;
use crate::serve::access::Calls;
use crate::serve::identity::Providers;
use crate::serve::local::{self, Socket};
use crate::serve::metrics::Sources;
use crate::serve::network::{Listener, Server};
use crate::stamp::Seen;
use crate::vitals::Vitals;

/// How long exporters may take at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// Run the daemon.
#[derive(clap::Args)]
pub struct Args {
    /// Where settings come from.
    #[command(flatten)]
    pub source: Source,
    /// What is watched.
    #[command(flatten)]
    pub choice: Choice,
    /// Print what the probes log about themselves.
    #[arg(long)]
    debug_probes: bool,
}

/// Runs the sub-command.
pub fn run(args: Args, give_back_memory: fn()) -> ExitCode {
    abort_on_panic();
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            super::complain(&error, None);
            return ExitCode::from(super::FAILED);
        }
    };
    let Loaded { files, told, valid } = load(&args);
    told.tell();
    let Some((settings, rules)) = valid else { return told.code() };
    let last = Last::of(&settings.log_dir);
    let layout = Layout::detect();
    // Later nothing can be mounted any more.
    let tree = Tree::open(&layout);
    let options = audit_options(&settings);
    let opened = Confinement::begin(&settings)
        .and_then(|confinement| Ok((confinement.within(Role::Work, || Log::open(options))?, confinement)));
    let (log, confinement) = match opened {
        Ok((Ok(log), confinement)) => (log, confinement),
        Ok((Err(error), _)) => {
            super::complain(&error, Some(error.hint()));
            return ExitCode::from(super::FAILED);
        }
        Err(error) => return cannot_confine(&error),
    };
    log::info!("the audit log is signed by {}", log.key());
    match watch(
        (&args, files, signals),
        &settings,
        rules,
        (log, last),
        (layout, tree),
        confinement,
        give_back_memory,
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

/// A daemon that has lost a thread must not look as if it watched.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

fn audit_options(settings: &Settings) -> crate::audit::Options {
    let folder = settings.log_dir.clone();
    let mut options = crate::audit::Options::new(folder, settings.node_name.clone(), clock::boot_id());
    options.policy = settings.log.clone();
    options
}

/// Attaches the probes and works until a signal ends it.
fn watch(
    (args, files, signals): (&Args, Seen, Signals),
    settings: &Settings,
    rules: RuleSet,
    (log, last): (Log, Option<Last>),
    (layout, tree): (Layout, Tree),
    mut confinement: Confinement,
    give_back_memory: fn(),
) -> Result<(), ExitCode> {
    let watched = Watched::of(settings, &rules);
    let kinds = watched.kinds;
    let options = Options {
        urgent_bytes: settings.urgent_bytes,
        bulk_bytes: settings.bulk_bytes,
        kinds,
        cgroups: layout.clone(),
        tree,
        calls: watched.calls.iter().cloned().collect(),
        count_calls: settings.syscalls_count,
        flight: settings.syscalls_flight_recorder,
        tiers: settings.tiers,
        debug: args.debug_probes,
        pin: settings.pin.clone(),
    };
    let claim = claim_pins(settings)?;
    // Before new ones are put there.
    let (left, mut problems) =
        settings.pin.as_deref().map(|root| handover::left(root, &layout)).unwrap_or_default();
    let (mut probes, rings, losses) = Probes::load(&options).map_err(|error| cannot_load(&error))?;
    give_back_memory();
    let (states, ring_fills) = (probes.states.clone(), std::mem::take(&mut probes.rings));
    let live = Live::new(probes, kinds, settings.syscalls_interval).map_err(|error| {
        super::complain(&error, None);
        ExitCode::from(super::FAILED)
    })?;

    let rules = Arc::new(rules);
    let cgroups = layout.tree();
    let clock = Clock::now();
    let mut enricher = Enricher::new(Enrichment::Live(cgroups), settings.max_processes);
    enricher.set_runtimes(settings.folders.clone(), settings.name_wait);
    let (to_match, messages) = receive::queue();
    let asking = confinement.within(Role::Work, || pipeline::ask_runtimes(settings, &to_match));
    let apis = asking.map_err(|error| cannot_confine(&error))?.map_err(|error| {
        super::complain(&error, None);
        ExitCode::from(super::FAILED)
    })?;
    let mut remotes = apis.standings.clone();
    enricher.set_apis(apis);
    let attached_ns = clock::boot_ns();
    // What both see from now on is only told twice over, or lost by the old ones alone.
    for left in &left {
        if let Err(error) = left.detach() {
            problems.push(format!("probes of the last daemon stay attached: {error}"));
        }
    }
    let vitals: Arc<Vitals> = Arc::default();
    vitals.scope.max.set(SCOPE_MAX.into());
    vitals.losses.max.set(LOST_MAX.into());
    vitals.put_in_force(&rules);
    let durable = log.durable();
    let sink = LogSink {
        log,
        sent: 0,
        place: restart::place(&settings.log_dir),
        record: settings.log_record.1.clone(),
        calls: settings.syscalls_events.clone(),
        host: settings.scope.host,
        vitals: Arc::clone(&vitals),
        body: Vec::new(),
    };
    let mut worker = Worker::new(enricher, (Arc::clone(&rules), settings.state.clone()), clock, sink);
    (worker.live, worker.scope) = (Some(live), settings.scope.clone());
    let hashing = confinement.within(Role::Look, || worker.hash_if_needed(kinds));
    hashing.map_err(|error| cannot_confine(&error))?;
    worker.vitals = Arc::clone(&vitals);
    let inbox = Arc::new(Inbox::new(to_match.clone()));
    worker.inbox = Arc::clone(&inbox);
    // Should this daemon end in a moment, the next one need not go through all of the log.
    worker.settle();
    write_start(&mut worker, settings, &rules, &states, &confinement);
    let stop = AtomicBool::new(false);
    // Before anybody is told that it watches: what ends a moment later must not be nameless.
    worker.seed();
    restart::take_over(last, &mut worker, &settings.log_dir, (left, attached_ns), problems);
    let resolving = confinement.within(Role::Look, || worker.start_resolving());
    let ahead = resolving.map_err(|error| cannot_confine(&error))?.map_err(|error| {
        super::complain(&error, None);
        ExitCode::from(super::FAILED)
    })?;
    let telling = to_match.clone();
    // The match thread only ends when nobody tells it anything any more.
    let tell = move |kind, body| drop(telling.send(Message::Note(kind, body)));
    let exporting = confinement
        .within(Role::Work, || Exporters::start(&settings.exporters, &settings.log_dir, &durable, tell));
    let exporters = exporting.map_err(|error| cannot_confine(&error))?.map_err(|error| {
        super::complain(&error, Some("look at the folder `export` beside the log"));
        ExitCode::from(super::FAILED)
    })?;
    let socket = local_socket(settings);
    let listener = listener(settings);
    let calls = Arc::new(Calls::new(Arc::clone(&inbox)));
    let providers = Providers::new(&settings.api.providers, &settings.kubernetes, || {
        let inbox = Arc::clone(&inbox);
        Box::new(move |body| inbox.put(Word::Note(RecordKind::Degraded, body)))
    });
    remotes.extend(providers.standings());
    let sources = Sources {
        vitals: Arc::clone(&vitals),
        log: durable,
        exporters: exporters.standings().to_vec(),
        probes: states.clone(),
        rings: ring_fills,
        calls: Arc::clone(&calls),
        remotes,
        node: settings.node_name.clone(),
        listen: Default::default(),
    };
    let api = Arc::new(Api { sources, calls: Arc::clone(&calls), providers });
    let start = || listener.map(|listener| listener.start(Arc::clone(&api))).transpose();
    let serving = confinement.within(Role::Work, start).map_err(|error| cannot_confine(&error))?;
    let server = serving.map_err(|error| {
        super::complain(&error, None);
        ExitCode::from(super::FAILED)
    })?;
    let control = Control {
        args,
        settings: settings.clone(),
        watched: &watched,
        inbox: &inbox,
        api,
        files,
        is_asked: false,
    };
    let answers = || worker.live.as_ref().is_some_and(|live| live.probes.answers());
    confinement.keep_maps(answers).map_err(|error| {
        super::complain(&error, None);
        ExitCode::from(super::FAILED)
    })?;
    let ended = std::thread::scope(|threads| {
        let matching = confinement.within(Role::Look, || {
            std::thread::Builder::new().name("match".to_owned()).spawn_scoped(threads, move || {
                worker.run(&messages);
                worker.sink
            })
        });
        let matching = matching.map_err(std::io::Error::other).flatten();
        // The threads that are started from here on inherit it.
        let confined = confinement.enter(Role::Work).map_err(std::io::Error::other);
        let receiving = to_match.clone();
        let (stop, vitals) = (&stop, &*vitals);
        let looking = ahead.map(|(ahead, asker)| {
            let look = move || receive::look_ahead(ahead, &asker, stop);
            std::thread::Builder::new().name("ahead".to_owned()).spawn_scoped(threads, look)
        });
        let receiver = std::thread::Builder::new()
            .name("receive".to_owned())
            .spawn_scoped(threads, move || receive::receive(rings, losses, &receiving, stop, vitals));
        let is_received = receiver.is_ok();
        let waited = looking.transpose().and(receiver).and(confined).and_then(|()| {
            // Without it nobody would hear.
            if matching.is_err() {
                return Ok(());
            }
            control.run(signals, socket.as_ref(), || {
                report(&states, settings, &confinement, rules.enabled().count());
            })
        });
        // What was asked until now is told; the rest is asked of nobody.
        if !server.is_none_or(Server::stop) {
            log::warn!("the API is still answering: calls from here on are not in the log");
        }
        calls.close();
        exporters.hush();
        stop.store(true, Ordering::Release);
        if !is_received {
            // Else the receiver says it, when the rings are empty.
            let _ = to_match.send(Message::End);
        }
        matching.and_then(|thread| waited.map(|()| thread.join()))
    });
    let sink = match ended {
        Ok(Ok(sink)) => sink,
        Ok(Err(_)) => return Err(ExitCode::from(super::FAILED)),
        Err(error) => {
            super::complain(&error, None);
            return Err(ExitCode::from(super::FAILED));
        }
    };
    // Before the log is free for the next daemon, which would find them in use.
    drop((socket, claim));
    let stopped = sink.stop();
    // The last record has to get out too, but nobody waits long for a receiver that does not answer.
    exporters.drain(DRAIN);
    stopped
}

/// The folder of pins, if there is to be one: its probes are not taken from a daemon that is at work.
fn claim_pins(settings: &Settings) -> Result<Option<Claim>, ExitCode> {
    let Some(root) = &settings.pin else { return Ok(None) };
    let claim = Claim::take(root).map_err(|source| LoadError::Pin { folder: root.clone(), source });
    claim.map(Some).map_err(|error| cannot_load(&error))
}

/// The local socket. Without it the daemon watches as well.
fn local_socket(settings: &Settings) -> Option<Socket> {
    let path = settings.api.socket_path(&settings.log_dir)?;
    let opened = local::listen(&path);
    opened.inspect_err(|error| log::warn!("cannot listen at {}: {error}", path.display())).ok()
}

/// What listens on the network, if anything is to.
fn listener(settings: &Settings) -> Option<Listener> {
    let (listener, problems) = Listener::new(&settings.api)?;
    for problem in problems {
        log::warn!("the API does not listen, which is tried again: {problem}");
    }
    if let Some(address) = listener.local_addr() {
        log::info!("the API listens at {address}");
    }
    Some(listener)
}

fn cannot_confine(error: &ConfineError) -> ExitCode {
    super::complain(error, Some(error.hint()));
    ExitCode::from(super::FAILED)
}

fn cannot_load(error: &LoadError) -> ExitCode {
    super::complain(error, Some(error.hint()));
    ExitCode::from(super::FAILED)
}

/// What was made visible at the start: a reload can make use of that, and of no more.
pub(super) struct Watched {
    kinds: KindSet,
    calls: BTreeSet<String>,
    /// Whether the last system calls are kept.
    pub flight: bool,
}

impl Watched {
    /// What these ask for.
    pub fn of(settings: &Settings, rules: &RuleSet) -> Self {
        let (_, record) = &settings.log_record;
        let mut calls = rules.calls();
        calls.extend(record.calls.iter().chain(&settings.syscalls_events).cloned());
        let mut kinds = rules.kinds() | record.kinds | record.needs;
        if !calls.is_empty() {
            kinds |= bit(SYSCALL);
        }
        if settings.syscalls_count || settings.syscalls_flight_recorder > 0 {
            kinds |= COUNTED;
        }
        Self { kinds, calls, flight: settings.syscalls_flight_recorder > 0 }
    }

    /// What is to be visible and is not.
    pub fn lacks(&self, wanted: &Watched) -> Vec<String> {
        let lacking = wanted.kinds & !(self.kinds | PROCESS_KINDS);
        let kinds = (1..KINDS as u16).filter(|kind| lacking & bit(*kind) != 0).map(event::kind_name);
        let names = (lacking & bit(ASKED_NAME) != 0).then(|| "names as callers gave them".to_owned());
        let calls = wanted.calls.difference(&self.calls).cloned();
        kinds.map(str::to_owned).chain(names).chain(calls).collect()
    }
}

/// Tells a person what is watched.
fn report(states: &[ProbeState], settings: &Settings, confinement: &Confinement, rules: usize) {
    for ProbeState { hook, status, .. } in states {
        if let Status::Failed(why) = status {
            log::warn!("probe {} is not attached: {why}\n  not seen: {}", hook.program, hook.blinds);
        }
    }
    for why in confinement.state.split().1 {
        log::warn!("the daemon is not confined as it could be: {why}");
    }
    for folder in &confinement.closed {
        let folder = folder.display();
        log::warn!("{folder} cannot be opened now; nothing is written there until a restart");
    }
    report_scope(&settings.scope);
    let attached = states.iter().filter(|state| state.status == Status::Attached).count();
    log::info!("watching with {attached} probes and {rules} rules");
}

/// Tells a person what is not watched.
pub fn report_scope(scope: &Scope) {
    for what in scope.excluded() {
        log::info!("not watched: {}", escaped(what.as_bytes()));
    }
}

/// What is watched, for a record.
pub fn scope_body(Scope { host, include, exclude }: &Scope) -> serde_json::Value {
    let texts = |selectors: &[Selector]| selectors.iter().map(Selector::to_string).collect::<Vec<_>>();
    json!({ "host": host, "include": texts(include), "exclude": texts(exclude) })
}

fn write_start(
    worker: &mut Worker<LogSink>,
    settings: &Settings,
    rules: &RuleSet,
    states: &[ProbeState],
    confinement: &Confinement,
) {
    let boot_ns = clock::boot_ns();
    let time_ns = worker.clock.realtime_ns(boot_ns);
    let mut note = |kind, body: &[u8]| worker.sink.note(kind, boot_ns, time_ns, body);
    let start = json!({
        "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(), "config_sha256": settings.hash(),
        "scope": scope_body(&settings.scope),
        "confined": confinement.state.to_json(),
    });
    note(RecordKind::Start, &members(&start));
    note(RecordKind::Rules, &members(&rules_body(rules, "loaded")));
    let probes: Vec<_> = states.iter().map(probe).collect();
    note(RecordKind::Probes, &members(&json!({ "probes": probes })));
}

/// What the log says of a probe.
fn probe(ProbeState { hook, program, status, .. }: &ProbeState) -> serde_json::Value {
    let mut probe = json!({ "probe": program, "tier": hook.tier.name() });
    match status {
        Status::Attached => probe["state"] = "attached".into(),
        Status::NotNeeded => probe["state"] = "not_needed".into(),
        Status::Replaced(why) => {
            probe["state"] = "replaced".into();
            probe["reason"] = why.as_str().into();
        }
        Status::Failed(why) => {
            probe["state"] = "failed".into();
            probe["reason"] = why.as_str().into();
            probe["not_seen"] = hook.blinds.into();
        }
    }
    probe
}

/// What the log says of rules.
pub(super) fn rules_body(rules: &RuleSet, result: &str) -> serde_json::Value {
    json!({ "result": result, "rules": rules.enabled().count(), "sha256": rules.hash() })
}

/// The members of an object, without its braces.
pub(super) fn members(object: &serde_json::Value) -> Vec<u8> {
    let text = object.to_string().into_bytes();
    text.get(1..text.len() - 1).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::hook::HOOKS;

    #[test]
    fn rules_lack_no_kind_that_is_always_watched() {
        let (rules, _) = RuleSet::load(&crate::rules::embedded()).unwrap();
        let wanted = Watched { kinds: rules.kinds(), calls: rules.calls(), flight: false };
        let watched = Watched { kinds: wanted.kinds & !PROCESS_KINDS, calls: rules.calls(), flight: false };
        assert!(wanted.kinds & PROCESS_KINDS != 0);
        assert_eq!(watched.lacks(&wanted), [""; 0]);
        let nothing = Watched { kinds: 0, ..watched }.lacks(&wanted);
        assert!(nothing.contains(&"open".to_owned()) && !nothing.contains(&"exec".to_owned()), "{nothing:?}");
    }

    #[test]
    fn each_probes_tier_is_in_the_log() {
        for hook in HOOKS {
            let status = Status::Failed("no".to_owned());
            let state = ProbeState {
                hook,
                program: hook.program,
                status,
                wanted: hook.kinds,
                kinds: 0,
                verified_instructions: None,
            };
            let expected = json!({
                "probe": hook.program, "tier": hook.tier.name(), "state": "failed", "reason": "no",
                "not_seen": hook.blinds,
            });
            assert_eq!(probe(&state), expected);
        }
    }
}

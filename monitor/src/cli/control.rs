//! The daemon's control plane: signals, the local socket, files that change, and whether anything is seen at all. It
//! has the main thread, and nothing here touches an event.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::load::{Loaded, load};
use super::run::{Args, Watched, members, report_scope, rules_body, scope_body};
use crate::audit::RecordKind;
use crate::config::{self, Settings};
use crate::pipeline::Anew;
use crate::pipeline::inbox::{Inbox, Word};
use crate::serve::canary::Sender;
use crate::serve::local::{self, Socket};
use crate::serve::{Api, status};
use crate::stamp::Seen;

/// How often it is looked whether there is something to do.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two canaries, looks at files, and settlements of the book of calls.
const CANARY: u64 = 15;
const LOOK: u64 = 2;
const SETTLE: u64 = 5;

/// Signals that ask for something, from the daemon's first moment on: without it they would end it.
pub struct Signals {
    runtime: Runtime,
    hang_up: Signal,
    user: Signal,
}

impl Signals {
    /// What comes from here on is heard, if late: by [`Control::run`].
    pub fn catch() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (hang_up, user) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?);
        drop(inside);
        Ok(Self { runtime, hang_up, user })
    }
}

/// What the control plane works with.
pub struct Control<'a> {
    /// Where settings come from.
    pub args: &'a Args,
    /// Those that were read last.
    pub settings: Settings,
    /// What was made visible at the start.
    pub watched: &'a Watched,
    /// To the match thread, which is not waited for: whoever asks what is wrong with it, or ends the daemon, has to be heard.
    pub inbox: &'a Inbox,
    /// What can be asked.
    pub api: Arc<Api>,
    /// What was read for that, as it was just before.
    pub files: Seen,
    /// Whether somebody wants all to be loaded anew, and it was not yet.
    pub is_asked: bool,
}

impl Control<'_> {
    /// Waits for signals and whatever else it has to do, and says that it is ready once it would hear them. Returns when
    /// the daemon is to stop.
    pub fn run(
        mut self,
        signals: Signals,
        socket: Option<&Socket>,
        ready: impl FnOnce(),
    ) -> std::io::Result<()> {
        let Signals { runtime, mut hang_up, mut user } = signals;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut upkeep = Upkeep::default();
            let api = Arc::clone(&self.api);
            let mut answering = std::pin::pin!(async {
                if let Some(socket) = socket
                    && let Err(error) = local::serve(socket, api).await
                {
                    log::warn!("the local socket is not answered any more: {error}");
                }
                std::future::pending::<()>().await;
            });
            ready();
            loop {
                tokio::select! {
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                    _ = hang_up.recv() => {
                        self.is_asked = true;
                        self.reload_if_asked();
                    }
                    _ = user.recv() => self.ask_for_flights(),
                    _ = tick.tick() => upkeep.tick(&mut self),
                    () = &mut answering => {}
                }
            }
        })
    }

    /// Asks the match thread to record the last system calls of containers.
    fn ask_for_flights(&self) {
        if !self.watched.flight {
            log::info!("no system calls are kept; `syscalls.flight_recorder` is 0");
            return;
        }
        self.inbox.put(Word::Flights);
    }

    fn note(&self, kind: RecordKind, body: &serde_json::Value) {
        self.inbox.put(Word::Note(kind, members(body)));
    }

    /// Loads the configuration and the rules anew, once those that were loaded before are in force: a match thread that is
    /// stuck is given no heap of them.
    fn reload_if_asked(&mut self) {
        if self.is_asked && !self.inbox.has_anew() {
            self.is_asked = false;
            self.reload();
        }
    }

    /// With any error in them, all stays as it is.
    fn reload(&mut self) {
        let Loaded { files, told, valid } = load(self.args);
        self.files = files;
        told.tell();
        let Some((new, rules)) = valid else {
            let (errors, reasons) = (told.errors(), told.reasons());
            log::error!("the rules and settings in force stay as they are: {errors} errors");
            reasons.iter().for_each(|reason| log::error!("not loaded: {reason}"));
            self.api.sources.vitals.refuse_rules();
            let body = json!({ "result": "refused", "errors": errors, "reasons": reasons });
            return self.note(RecordKind::Rules, &body);
        };
        log::info!("reloaded, {} rules", rules.enabled().count());
        let mut body = rules_body(&rules, "reloaded");
        let lacking = self.watched.lacks(&Watched::of(&new, &rules));
        if !lacking.is_empty() {
            log::warn!("what rules or settings need is seen only after a restart: {}", lacking.join(", "));
            body["not_seen"] = lacking.into();
        }
        let changed = new.changed_from(&self.settings);
        let is_other_scope = changed.iter().any(|key| key.starts_with("scope."));
        if is_other_scope {
            report_scope(&new.scope);
        }
        let changes = (!changed.is_empty()).then(|| (RecordKind::Config, changes(&new, &changed)));
        let notes = changes.into_iter().chain([(RecordKind::Rules, body)]);
        let anew = Anew {
            rules: Arc::new(rules),
            limits: new.state.clone(),
            scope: is_other_scope.then(|| new.scope.clone()),
            record: new.log_record.1.clone(),
            notes: notes.map(|(kind, body)| (kind, members(&body))).collect(),
        };
        self.settings = new;
        self.api.sources.vitals.accept_rules();
        // There is room for it always: no other one waits.
        self.inbox.offer(Word::Anew(Box::new(anew)), usize::MAX);
    }
}

/// Which settings are not what they were, and which of them take effect at the next start only.
fn changes(new: &Settings, changed: &[&str]) -> serde_json::Value {
    let later: Vec<&str> = changed.iter().copied().filter(|key| !config::is_live(key)).collect();
    if !later.is_empty() {
        log::warn!("these settings take effect at the next start: {}", later.join(", "));
    }
    json!({ "sha256": new.hash(), "changed": changed, "at_next_start": later, "scope": scope_body(&new.scope) })
}

/// What is done now and then.
#[derive(Default)]
struct Upkeep {
    ticks: u64,
    canary: Sender,
    /// Whether it is told that no canary comes back.
    is_blind: bool,
    /// What the files were at the last look, if that is not what was loaded.
    changed: Option<Seen>,
}

impl Upkeep {
    fn tick(&mut self, control: &mut Control<'_>) {
        let is_time = |every: u64| self.ticks.is_multiple_of(every);
        let (canary, look, settle) = (is_time(CANARY), is_time(LOOK), is_time(SETTLE));
        self.ticks += 1;
        if canary && let Err(error) = self.canary.send(&control.api.sources.vitals.canary) {
            log::warn!("cannot send a canary: {error}");
        }
        self.look_at_canary(control);
        if settle {
            control.api.calls.settle();
        }
        if look && control.settings.rules_watch {
            self.look_at_files(control);
        }
        control.reload_if_asked();
    }

    /// Says once that nothing is seen, and once that it is again.
    fn look_at_canary(&mut self, control: &Control<'_>) {
        let age = status::canary_age(&control.api.sources);
        let waited = age.unwrap_or(TICK * u32::try_from(self.ticks).unwrap_or(u32::MAX));
        let is_blind = waited > status::CANARY_MAX;
        if is_blind && !self.is_blind {
            let error =
                format!("an event that the daemon causes itself was not seen for {} s", waited.as_secs());
            log::error!("{error}: are the probes attached?");
            control.note(RecordKind::Degraded, &json!({ "what": "canary", "count": 1, "error": error }));
        } else if self.is_blind && !is_blind {
            log::info!("events of the daemon's own are seen again");
            control.note(RecordKind::Degraded, &json!({ "what": "canary", "count": 1, "is_over": true }));
        }
        self.is_blind = is_blind;
    }

    /// Has what has changed loaded anew, once it is the same at two looks: somebody may be writing.
    fn look_at_files(&mut self, control: &mut Control<'_>) {
        let files = control.files.again();
        let is_other = files != control.files;
        control.is_asked |= is_other && self.changed.as_ref() == Some(&files);
        self.changed = is_other.then_some(files);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::tests::{args, folder, rule};
    use super::*;
    use crate::serve::identity::Providers;
    use crate::serve::testing;

    /// Calls `look` with the control plane of a daemon that was started with that folder and has changed since as `change` says.
    fn with_control(folder: &Path, change: impl FnOnce(), look: impl FnOnce(&mut Control<'_>, &Inbox)) {
        let args = args(folder, &[]);
        let Loaded { files, valid, .. } = load(&args);
        let (settings, rules) = valid.unwrap();
        change();
        let (sources, _log) = testing::sources(folder);
        let calls = Arc::clone(&sources.calls);
        let tell = || -> crate::remote::Tell { Box::new(|_| {}) };
        let providers = Providers::new(&settings.api.providers, &settings.kubernetes, tell);
        let api = Arc::new(Api { sources, calls, providers });
        let (watched, inbox) = (Watched::of(&settings, &rules), Inbox::default());
        let mut control =
            Control { args: &args, settings, watched: &watched, inbox: &inbox, api, files, is_asked: false };
        look(&mut control, &inbox);
    }

    /// The names of the rules that are to be in force, each time.
    fn loaded(inbox: &Inbox) -> Vec<Vec<String>> {
        let words = inbox.take().0.into_iter();
        let names = words.filter_map(|word| match word {
            Word::Anew(anew) => Some(anew.rules.enabled().map(|rule| rule.name.clone()).collect()),
            _ => None,
        });
        names.collect()
    }

    #[test]
    fn change_while_the_daemon_starts_is_loaded_once_it_is_the_same_at_two_looks() {
        let folder = folder();
        let path = folder.path().join("rules/more/one.yaml");
        let change = || std::fs::write(&path, rule("other")).unwrap();
        with_control(folder.path(), change, |control, inbox| {
            let mut upkeep = Upkeep::default();
            upkeep.look_at_files(control);
            assert!(!control.is_asked);
            upkeep.look_at_files(control);
            control.reload_if_asked();
            assert_eq!(loaded(inbox), [["other"]]);
            (0..3).for_each(|_| upkeep.look_at_files(control));
            assert!(!control.is_asked);
        });
    }

    #[test]
    fn nothing_is_loaded_while_what_was_loaded_before_is_not_in_force_and_then_the_newest_is() {
        let folder = folder();
        let path = folder.path().join("rules/more/one.yaml");
        with_control(
            folder.path(),
            || {},
            |control, inbox| {
                for name in ["first", "second", "third"] {
                    std::fs::write(&path, rule(name)).unwrap();
                    control.is_asked = true;
                    control.reload_if_asked();
                }
                assert_eq!(loaded(inbox), [["first"]]);
                control.reload_if_asked();
                assert_eq!(loaded(inbox), [["third"]]);
            },
        );
    }

    #[test]
    fn refusal_has_its_reasons_in_the_log() {
        let folder = folder();
        with_control(
            folder.path(),
            || {},
            |control, inbox| {
                std::fs::write(folder.path().join("rules/more/one.yaml"), "- rule: x\n  condition: (\n")
                    .unwrap();
                control.is_asked = true;
                control.reload_if_asked();
                assert!(control.api.sources.vitals.in_force().is_refused);
                let (words, _) = inbox.take();
                let Some(Word::Note(RecordKind::Rules, body)) = words.front() else { panic!("no record") };
                let body: serde_json::Value =
                    serde_json::from_str(&format!("{{{}}}", String::from_utf8_lossy(body))).unwrap();
                let reasons = body["reasons"].as_array().unwrap();
                assert_eq!(
                    (&body["result"], body["errors"].as_u64()),
                    (&"refused".into(), Some(reasons.len() as u64))
                );
                assert!(
                    reasons.iter().all(|reason| reason.as_str().unwrap().contains("/one.yaml:")),
                    "{reasons:?}"
                );
            },
        );
    }

    #[test]
    fn signal_that_comes_before_anybody_listens_is_heard_and_ends_nobody() {
        let Signals { runtime, mut hang_up, mut user } = Signals::catch().unwrap();
        for signal in [libc::SIGHUP, libc::SIGUSR1] {
            // SAFETY: no pointers.
            unsafe { libc::raise(signal) };
        }
        runtime.block_on(async {
            assert_eq!((hang_up.recv().await, user.recv().await), (Some(()), Some(())));
        });
    }
}

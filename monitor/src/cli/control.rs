//! The daemon's control plane: signals, the local socket, files that change, and whether anything is seen at all. It
//! has the main thread, and nothing here touches an event.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::run::{Args, Watched, load_rules, members, report_scope, rules_body, scope_body};
use crate::audit::RecordKind;
use crate::config::{self, Settings};
use crate::pipeline::Anew;
use crate::pipeline::inbox::{Inbox, Word};
use crate::serve::canary::Sender;
use crate::serve::local::{self, Socket};
use crate::serve::{Api, status};

/// How often it is looked whether there is something to do.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two canaries, looks at files, and settlements of the book of calls.
const CANARY: u64 = 15;
const LOOK: u64 = 2;
const SETTLE: u64 = 5;

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
    /// Whether somebody wants all to be loaded anew, and it was not yet.
    pub is_asked: bool,
}

impl Control<'_> {
    /// Waits for signals and whatever else it has to do, and says that it is ready once it would hear them. Returns when
    /// the daemon is to stop.
    pub fn run(mut self, socket: Option<&Socket>, ready: impl FnOnce()) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            let mut user = signal(SignalKind::user_defined1())?;
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut upkeep = Upkeep::new(&self);
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
                        upkeep.reload(&mut self);
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

    /// Loads the configuration and the rules anew. With any error in them, all stays as it is.
    fn reload(&mut self) {
        let loaded = self.args.settings().and_then(|new| Ok((load_rules(&new)?, new)));
        let Ok(((rules, warnings), new)) = loaded else {
            log::error!("the rules and settings in force stay as they are");
            self.api.sources.vitals.refuse_rules();
            return self.note(RecordKind::Rules, &json!({ "result": "refused" }));
        };
        eprint!("{}", crate::diagnostic::render(&warnings, false));
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
        self.inbox.put(Word::Anew(Box::new(anew)));
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
struct Upkeep {
    ticks: u64,
    canary: Sender,
    /// Whether it is told that no canary comes back.
    is_blind: bool,
    files: Files,
    /// What the files were at the last look, if that is not what was loaded.
    changed: Option<Files>,
}

impl Upkeep {
    fn new(control: &Control<'_>) -> Self {
        let files = Files::of(control);
        Self { ticks: 0, canary: Sender::default(), is_blind: false, files, changed: None }
    }

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
        if control.is_asked {
            self.reload(control);
        }
    }

    /// Loads anew what there is, once what was loaded before is in force: a match thread that is stuck is given no heap of rules.
    fn reload(&mut self, control: &mut Control<'_>) {
        if control.inbox.has_anew() {
            return;
        }
        control.reload();
        // What the new settings name may be other files.
        (self.files, self.changed, control.is_asked) = (Files::of(control), None, false);
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

    /// Loads anew what has changed, once it is the same at two looks: somebody may be writing.
    fn look_at_files(&mut self, control: &mut Control<'_>) {
        let files = Files::of(control);
        if files == self.files {
            self.changed = None;
        } else if self.changed.as_ref() == Some(&files) {
            control.is_asked = true;
        } else {
            self.changed = Some(files);
        }
    }
}

/// The configuration and the rules, as they are known by without being read.
#[derive(PartialEq, Eq)]
struct Files(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

/// Files of one folder that are looked at.
const FILES_MAX: usize = 4096;

impl Files {
    fn of(control: &Control<'_>) -> Self {
        let settings = &control.settings;
        let named = control.args.source.path().into_iter().chain(settings.rules_files.iter().cloned());
        let mut files = Vec::new();
        for path in named.chain([settings.rules_local.clone()]) {
            if let Ok(entries) = path.read_dir() {
                let mut inside: Vec<PathBuf> =
                    entries.take(FILES_MAX).flatten().map(|entry| entry.path()).collect();
                inside.sort();
                files.extend(inside.into_iter().map(Self::look));
            }
            files.push(Self::look(path));
        }
        Self(files)
    }

    fn look(path: PathBuf) -> (PathBuf, Option<(SystemTime, u64)>) {
        let of = |path: &Path| {
            let metadata = path.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        let found = of(&path);
        (path, found)
    }
}

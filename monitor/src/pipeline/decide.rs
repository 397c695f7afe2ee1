//! What is watched and recorded, and by which rules: decided of each container as it becomes known, and of all anew when the
//! settings change.

use std::sync::Arc;

use super::{Sink, Worker};
use crate::audit::RecordKind;
use crate::detect::Detector;
use crate::detect::memory::Limits;
use crate::enrich::container::Container;
use crate::enrich::seed;
use crate::rules::{Filter, RuleSet};
use crate::scope::Scope;

/// What can become another while it runs.
pub struct Anew {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// Bounds of what they remember, and of their alerts.
    pub limits: Limits,
    /// What is watched, if that is not as it was.
    pub scope: Option<Scope>,
    /// Which events are recorded besides alerts.
    pub record: Filter,
    /// What the log is to say of it.
    pub notes: Vec<(RecordKind, Vec<u8>)>,
}

impl<S: Sink> Worker<S> {
    /// New rules and settings are in force from here on.
    pub(super) fn take_anew(&mut self, anew: Anew) {
        let Anew { rules, limits, scope, record, notes } = anew;
        self.hash_if_needed(rules.kinds() | record.needs);
        self.detector = Detector::new(Arc::clone(&rules));
        self.vitals.put_in_force(&rules);
        let forgotten = self.memory.replace(rules, limits);
        self.take_reports();
        if !forgotten.is_empty() {
            log::info!("these rules remember nothing of before: {}", forgotten.join(", "));
        }
        let is_other = scope.is_some();
        self.scope = scope.unwrap_or_else(|| std::mem::take(&mut self.scope));
        self.sink.choose(record, self.scope.host);
        for (kind, body) in notes {
            self.note(kind, &body);
        }
        if is_other {
            self.decide_all();
        }
    }

    /// Decides whether a container is watched, by what is known of it now. Tells whether it was otherwise before.
    pub(super) fn decide(&mut self, container: &Arc<Container>) -> bool {
        let is_watched = self.scope.watches(container);
        let is_other = container.watched.set(is_watched);
        if is_other && let Some(live) = &mut self.live {
            for id in self.enricher.cgroups_of(container) {
                live.watch(id, &container.cgroup_path, Some(container), is_watched);
            }
        }
        is_other
    }

    /// Decides anew of every container, of those that left theirs, and of the host.
    pub(super) fn decide_all(&mut self) {
        for container in self.enricher.containers() {
            if self.decide(&container) {
                self.tell_container(&container, &[]);
            }
        }
        let Some(live) = &mut self.live else { return };
        for (key, origin) in self.enricher.left() {
            let is_watched = origin.watched.get();
            live.probes.set_moved(key.tgid, if is_watched { live.kinds(Some(origin), true) } else { 0 });
            // The kernel takes out who ends, but not who had ended before.
            if !seed::is_running(key) {
                live.probes.set_moved(key.tgid, 0);
            }
        }
        for (id, path, is_host) in self.enricher.cgroups_of_none() {
            live.watch(id, &path, None, self.scope.host || !is_host);
        }
    }
}

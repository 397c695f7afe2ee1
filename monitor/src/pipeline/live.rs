//! The probes behind a pipeline, and what is done with them now and then: what they watch, what they count, and how they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use taffrail_common::map::LEFT_OUT;

use super::{Sink, Worker};
use crate::audit::RecordKind;
use crate::clock::{self, Step};
use crate::enrich::container::Container;
use crate::event::field::KindSet;
use crate::probe::Probes;
use crate::probe::count::CallCounts;
use crate::probe::hook::PROCESS_KINDS;
use crate::syscalls::{self, Counts};
use crate::vitals::OfProgram;

/// Whose share of the rings a cgroup uses: the container's; else that of the service or user that it belongs to.
fn share_holder<'a>(container: Option<&'a Container>, path: &'a str) -> &'a str {
    match container {
        Some(container) => &container.cgroup_path,
        None => path.match_indices('/').nth(2).map_or(path, |(end, _)| &path[..end]),
    }
}

/// The probes and what they are to watch.
pub struct Live {
    /// The attached probes.
    pub probes: Probes,
    /// The kinds that anything downstream needs.
    kinds: KindSet,
    programs: Vec<OfProgram>,
    unfollowed: u64,
    /// When these two were read, by the boot clock.
    probes_looked_ns: u64,
    next_look: Instant,
    /// How often it is told how often system calls were made.
    counts_interval: Duration,
    next_counts: Instant,
    /// When that was told last, by the boot clock.
    counted_ns: u64,
}

/// How often the probes are asked for runs that the kernel skipped, and the wall clock for steps.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Live {
    /// Starts watching: all cgroups at first, since none is known yet.
    pub fn new(
        mut probes: Probes,
        kinds: KindSet,
        counts_interval: Duration,
    ) -> Result<Self, aya::maps::MapError> {
        probes.scopes.set_default(kinds | PROCESS_KINDS)?;
        let now = Instant::now();
        Ok(Self {
            probes_looked_ns: probes.loaded_ns,
            counted_ns: probes.loaded_ns,
            probes,
            kinds,
            programs: Vec::new(),
            unfollowed: 0,
            next_look: now + LOOK_INTERVAL,
            counts_interval,
            next_counts: now + counts_interval,
        })
    }

    /// The kinds that a cgroup is watched for, of a container or not.
    pub(super) fn kinds(&self, container: Option<&Arc<Container>>, is_watched: bool) -> KindSet {
        match container {
            _ if is_watched => self.kinds | PROCESS_KINDS,
            Some(_) => PROCESS_KINDS | LEFT_OUT,
            None => PROCESS_KINDS,
        }
    }

    /// Tells the kernel what a cgroup is watched for.
    pub(super) fn watch(
        &mut self,
        id: u64,
        path: &str,
        container: Option<&Arc<Container>>,
        is_watched: bool,
    ) {
        let kinds = self.kinds(container, is_watched);
        let probes = &mut self.probes;
        let flight = match (&mut probes.flights, container) {
            (Some(flights), Some(container)) if is_watched => {
                flights.slot(container, || probes.scopes.flights())
            }
            _ => 0,
        };
        let holder = share_holder(container.map(|container| &**container), path);
        // A full table leaves it with the default, which watches everything.
        let _ = probes.scopes.set(id, holder, kinds, flight);
    }
}

impl<S: Sink> Worker<S> {
    /// Now and then: steps of the wall clock, runs that the kernel skipped.
    pub(super) fn look(&mut self) {
        if self.enricher.is_full() {
            self.forget_cgroups();
        }
        self.settle();
        let Some(live) = &mut self.live else { return };
        live.probes.print_debug_log();
        if Instant::now() < live.next_look {
            return;
        }
        live.next_look = Instant::now() + LOOK_INTERVAL;
        self.memory.tell(clock::boot_ns(), false);
        self.take_reports();
        if let Some(Step { by_ns }) = self.clock.refresh() {
            self.write_recording(|recording, clock| recording.clock(clock.offset_ns));
            self.note(RecordKind::Clock, format!("\"step_ns\":{by_ns}").as_bytes());
        }
        self.look_at_cgroups();
        self.look_at_probes();
        self.note_tables();
        if self.live.as_ref().is_some_and(|live| Instant::now() >= live.next_counts) {
            self.tell_counts();
        }
    }

    /// Tells how often system calls were made since the last time.
    pub(super) fn tell_counts(&mut self) {
        let Some(live) = &mut self.live else { return };
        live.next_counts = Instant::now() + live.counts_interval;
        let Some(counts) = &mut live.probes.counts else { return };
        // What is gone before the counters are read counts no more.
        let gone = self.enricher.gone(&counts.cgroups());
        let (new, missed) = (counts.new_counts(), counts.newly_missed());
        counts.forget(&gone);
        let now_ns = clock::boot_ns();
        let between = (std::mem::replace(&mut live.counted_ns, now_ns), now_ns);
        let host = self.scope.host;
        let enricher = &mut self.enricher;
        let counted: BTreeSet<u64> = new.iter().map(|(key, _)| key.cgroup_id).collect();
        enricher.wait_for(&counted.into_iter().collect::<Vec<_>>());
        let (by_container, nobodys) = syscalls::by_container(new, |id| enricher.owner_of(id), between);
        let time_ns = self.clock.realtime_ns(now_ns);
        let is_watched = |counts: &Counts| counts.container.as_ref().map_or(host, |of| of.watched.get());
        for counts in by_container.into_iter().filter(is_watched) {
            self.sink.counts(counts, time_ns);
        }
        for (cgroup_id, calls) in nobodys {
            self.gap("counts", "syscalls", (Some(cgroup_id), calls), between.0);
        }
        if missed > 0 {
            self.gap("counts", "syscalls", (None, missed), between.0);
        }
        self.take_findings();
    }

    /// Makes room for more cgroups. Counters are told first: whose they are may be known only here by now.
    fn forget_cgroups(&mut self) {
        self.tell_counts();
        let counts = self.live.as_ref().and_then(|live| live.probes.counts.as_ref());
        self.enricher.forget_cgroups(&counts.map(CallCounts::cgroups).unwrap_or_default());
    }

    /// Tells the last system calls of all containers.
    pub fn tell_flights(&mut self) {
        let Some(flights) = self.live.as_ref().and_then(|live| live.probes.flights.as_ref()) else { return };
        let boot_ns = clock::boot_ns();
        let time_ns = self.clock.realtime_ns(boot_ns);
        for flight in flights.read() {
            self.sink.flight(flight, boot_ns, time_ns);
        }
    }

    /// Takes cgroups that are gone out of the kernel's table.
    fn look_at_cgroups(&mut self) {
        let Some(live) = &mut self.live else { return };
        let scopes = &mut live.probes.scopes;
        let gone = self.enricher.gone(&scopes.some());
        scopes.forget(&gone);
    }

    pub(super) fn look_at_probes(&mut self) {
        let Some(live) = &mut self.live else { return };
        let from_ns = std::mem::replace(&mut live.probes_looked_ns, clock::boot_ns());
        let now = live.probes.runs();
        let before = std::mem::replace(&mut live.programs, now.clone());
        let unfollowed = live.probes.unfollowed().max(live.unfollowed);
        let before_unfollowed = std::mem::replace(&mut live.unfollowed, unfollowed);
        for OfProgram { program, skipped, .. } in now {
            let known = before.iter().find(|of| of.program == program).map_or(0, |of| of.skipped);
            if skipped > known {
                self.gap("probe", program, (None, skipped - known), from_ns);
            }
        }
        if unfollowed > before_unfollowed {
            self.gap(
                "scope",
                "processes outside of their container's cgroup",
                (None, unfollowed - before_unfollowed),
                from_ns,
            );
        }
    }

    /// Notes how full the tables are, and what the kernel says of its programs.
    fn note_tables(&self) {
        let vitals = &self.vitals;
        vitals.held_bytes.set(self.held.bytes() as u64);
        vitals.processes.set(self.enricher.processes.len() as u64);
        vitals.process_text_bytes.set(self.enricher.processes.text_bytes() as u64);
        let of = self.enricher.processes.stats();
        vitals.evicted[0].set(of.evicted);
        vitals.evicted[1].set(of.evicted_running);
        vitals.unknown.set(of.unknown);
        vitals.late.set(self.enricher.container_stats().late);
        if let Some(live) = &self.live {
            vitals.scope.used.set(live.probes.scopes.len() as u64);
            vitals.take_programs(live.programs.clone());
        }
    }
}

//! How the daemon is, in numbers: its threads note here what they do, and metrics, `taffrail status` and the checks for
//! life read it. Nothing here decides anything about events. Each counter has one thread that writes it, and none of
//! them has to agree with another at any moment, so all is relaxed; what is not needed at each event is noted
//! batch by batch or every two seconds, from counters that are kept anyway.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taffrail_common::kind::KINDS;
use taffrail_common::map::Tally;

use crate::clock;
use crate::rules::{Rule, RuleSet};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// It grows.
    pub fn add(&self, by: u64) {
        // With one writer that is exact, and cheaper than an atomic addition.
        self.set(self.get().wrapping_add(by));
    }

    /// It is that now.
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, each time: counts by upper bounds.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [Number; Self::BOUNDS.len() + 1],
    sum_ns: Number,
}

impl Durations {
    /// Upper bounds of the counts, in ms; the last count has none.
    pub const BOUNDS: [u64; 10] = [1, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000];

    /// It took so long.
    pub fn add(&self, ns: u64) {
        let place = Self::BOUNDS.iter().position(|bound| ns <= bound * 1_000_000);
        self.counts[place.unwrap_or(Self::BOUNDS.len())].add(1);
        self.sum_ns.add(ns);
    }

    /// How often it took no longer than each bound, the last one being none; and how long all of it took.
    pub fn read(&self) -> ([u64; Self::BOUNDS.len() + 1], Duration) {
        let mut sum = 0;
        let counts = std::array::from_fn(|place| {
            sum += self.counts[place].get();
            sum
        });
        (counts, Duration::from_nanos(self.sum_ns.get()))
    }
}

/// When a thread came round last, and whether it is at work on something.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Since when it is at work, by the boot clock, in ns; 0 while it waits for work.
    busy_since_ns: Number,
    /// When it was seen last.
    seen_ns: Number,
}

impl Pulse {
    /// It begins something that it should be through with soon.
    pub fn begin(&self) {
        let now = clock::boot_ns();
        self.busy_since_ns.set(now);
        self.seen_ns.set(now);
    }

    /// It is through, and waits. Returns how long it took, in ns.
    pub fn end(&self) -> u64 {
        let now = clock::boot_ns();
        let began = self.busy_since_ns.get();
        self.busy_since_ns.set(0);
        self.seen_ns.set(now);
        if began == 0 { 0 } else { now.saturating_sub(began) }
    }

    /// For how long it has been at work on one thing.
    pub fn busy_for(&self) -> Duration {
        let began = self.busy_since_ns.get();
        if began == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(clock::boot_ns().saturating_sub(began))
    }

    /// Puts it back in time.
    #[cfg(test)]
    pub fn seem_silent_for(&self, time: Duration) {
        self.seen_ns.set(clock::boot_ns() - time.as_nanos() as u64);
    }

    /// How long ago it was seen; `None` if never.
    pub fn silent_for(&self) -> Option<Duration> {
        let seen = self.seen_ns.get();
        (seen > 0).then(|| Duration::from_nanos(clock::boot_ns().saturating_sub(seen)))
    }
}

/// What became of events of a kind.
#[derive(Debug, Default)]
pub struct OfKind {
    /// Events that the kernel side saw.
    pub offered: Number,
    /// Events of these for which a ring had no room.
    pub lost: Number,
    /// Events that were taken out of the rings and dealt with.
    pub handled: Number,
}

/// What became of matches of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRule {
    /// The rule's priority.
    pub priority: &'static str,
    /// Alerts in the log.
    pub alerts: u64,
    /// Matches without an alert, since there were too many.
    pub suppressed: u64,
}

/// The rules that are in force, and the last try to change them.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// How many are switched on.
    pub rules: usize,
    /// Hash over all of them, hex digits.
    pub sha256: String,
    /// Whether others were refused since.
    pub is_refused: bool,
    /// When the rules in force were loaded, by the wall clock, in ns since 1970.
    pub loaded_ns: u64,
}

/// How often a program of the kernel ran, as far as the kernel counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfProgram {
    /// Its name.
    pub program: &'static str,
    /// Runs that the kernel skipped since the program was still running on that CPU.
    pub skipped: u64,
    /// Runs that it counted (`kernel.bpf_stats_enabled`).
    pub runs: u64,
    /// How long these took, in ns.
    pub run_ns: u64,
}

/// A table of the kernel side, and how full it is.
#[derive(Debug, Default)]
pub struct Fill {
    /// Entries that are in use.
    pub used: Number,
    /// Entries that there is room for.
    pub max: Number,
}

/// Places where events get lost, as gap records name them.
pub const GAPS: [&str; 6] = ["ring", "decode", "probe", "scope", "counts", "restart"];

/// All of it.
#[derive(Debug, Default)]
pub struct Vitals {
    /// The thread that takes records out of the rings.
    pub receive: Pulse,
    /// The thread that decodes, enriches and matches.
    pub matching: Pulse,
    /// By kind of event.
    pub kinds: [OfKind; KINDS],
    /// Events that are missing, by [`GAPS`].
    pub gaps: [Number; GAPS.len()],
    /// Batches that were sent to the match thread …
    pub sent: Number,
    /// … and that it is through with.
    pub done: Number,
    /// How long the match thread took for a batch.
    pub match_time: Durations,
    /// How old the last event of a batch was then.
    pub delay: Durations,
    /// Bytes of events that wait for the name of their container.
    pub held_bytes: Number,
    /// Processes that are known.
    pub processes: Number,
    /// Bytes of their paths and arguments.
    pub process_text_bytes: Number,
    /// Ended processes that were forgotten to make room, and running ones.
    pub evicted: [Number; 2],
    /// Processes that were first known by an event of theirs.
    pub unknown: Number,
    /// Containers that were gone before anybody told their name.
    pub late: Number,
    /// The kernel side's tables of cgroups, and of losses by cgroup.
    pub scope: Fill,
    /// See `scope`.
    pub losses: Fill,
    /// The events by which the daemon sees whether it sees.
    pub canary: Canary,
    rules: Mutex<BTreeMap<String, OfRule>>,
    in_force: Mutex<InForce>,
    programs: Mutex<Vec<OfProgram>>,
}

/// Children of the daemon that do nothing but end: their `exit` has to come out of the ring.
#[derive(Debug, Default)]
pub struct Canary {
    /// Process ids, in the daemon's pid namespace, of those that are waited for; 0 in a place that is free.
    pids: [AtomicU64; Self::AWAITED_MAX],
    /// Inode number of that namespace.
    pub pid_ns: Number,
    /// When the last one was seen, by the boot clock, in ns; 0 for never.
    pub seen_ns: Number,
}

impl Canary {
    /// So many are waited for at once: the way through may take longer than it is until the next one.
    pub const AWAITED_MAX: usize = 8;

    /// The one in that place, if one is waited for there.
    pub fn awaited(&self, place: usize) -> Option<u64> {
        self.pids.get(place).map(|pid| pid.load(Ordering::Relaxed)).filter(|pid| *pid > 0)
    }

    /// Waits for that one there from here on, or for none (0).
    pub fn wait_for(&self, place: usize, pid: u64) {
        if let Some(of) = self.pids.get(place) {
            of.store(pid, Ordering::Relaxed);
        }
    }

    /// Whether a process that has ended is one that is waited for; then it is so no longer.
    pub fn takes(&self, tgid: u32, pid_ns: u32) -> bool {
        if tgid == 0 || u64::from(pid_ns) != self.pid_ns.get() {
            return false;
        }
        let is_it = |pid: &AtomicU64| {
            pid.load(Ordering::Relaxed) == u64::from(tgid)
                // In the meantime its place may have become another one's.
                && pid.compare_exchange(tgid.into(), 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let found = self.pids.iter().any(is_it);
        if found {
            self.seen_ns.set(clock::boot_ns());
        }
        found
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vitals {
    /// The kernel's counters by kind.
    pub fn take_tallies(&self, tallies: &[Tally; KINDS]) {
        for (kind, Tally { offered, lost }) in self.kinds.iter().zip(tallies) {
            kind.offered.set(*offered);
            kind.lost.set(*lost);
        }
    }

    /// Events are missing.
    pub fn gap(&self, place: &str, count: u64) {
        if let Some(at) = GAPS.iter().position(|known| *known == place) {
            self.gaps[at].add(count);
        }
    }

    /// A rule has raised alerts, or would have.
    pub fn matched(&self, rule: &Rule, alerts: u64, suppressed: u64) {
        let mut rules = lock(&self.rules);
        // No copy of the name but for the first time.
        if let Some(of) = rules.get_mut(&rule.name) {
            of.alerts += alerts;
            of.suppressed += suppressed;
        } else {
            rules.insert(rule.name.clone(), OfRule { priority: rule.priority.name(), alerts, suppressed });
        }
    }

    /// Rules are in force from now on. What earlier ones did that are gone, or had another priority, is forgotten.
    pub fn put_in_force(&self, set: &RuleSet) {
        let mut rules = lock(&self.rules);
        let mut before = std::mem::take(&mut *rules);
        // Whoever scrapes sees that the first alert of a rule is one more only if it was seen to have none.
        rules.extend(set.enabled().map(|rule| {
            let new = OfRule { priority: rule.priority.name(), ..OfRule::default() };
            let of = before.remove(&rule.name).filter(|of| of.priority == new.priority);
            (rule.name.clone(), of.unwrap_or(new))
        }));
        let mut in_force = lock(&self.in_force);
        *in_force = InForce {
            rules: rules.len(),
            sha256: set.hash().to_owned(),
            // Others may have been refused while these were on their way.
            is_refused: in_force.is_refused,
            loaded_ns: clock::Clock::now().realtime_ns(clock::boot_ns()),
        };
    }

    /// New rules were refused.
    pub fn refuse_rules(&self) {
        lock(&self.in_force).is_refused = true;
    }

    /// New rules were taken, and will be in force.
    pub fn accept_rules(&self) {
        lock(&self.in_force).is_refused = false;
    }

    /// The rules that are in force.
    pub fn in_force(&self) -> InForce {
        lock(&self.in_force).clone()
    }

    /// What became of matches, by rule.
    pub fn rules(&self) -> BTreeMap<String, OfRule> {
        lock(&self.rules).clone()
    }

    /// What the kernel says of its programs.
    pub fn take_programs(&self, programs: Vec<OfProgram>) {
        *lock(&self.programs) = programs;
    }

    /// See [`Vitals::take_programs`].
    pub fn programs(&self) -> Vec<OfProgram> {
        lock(&self.programs).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::diagnostic::Source;

    #[test]
    fn durations_are_counted_up_to_each_bound() {
        let durations = Durations::default();
        for ns in [1_000_000, 1_000_001, 70_000_000, 40_000_000_000] {
            durations.add(ns);
        }
        let (counts, sum) = durations.read();
        assert_eq!(counts, [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4]);
        assert_eq!(sum, Duration::from_nanos(40_072_000_001));
    }

    #[test]
    fn rules_in_force_have_numbers_and_those_that_are_gone_have_none() {
        let (set, _) = RuleSet::load(&crate::rules::embedded()).unwrap();
        let vitals = Vitals::default();
        let first = set.enabled().next().unwrap();
        let mut gone = first.clone();
        gone.name = "gone".to_owned();
        vitals.matched(first, 1, 2);
        vitals.matched(&gone, 1, 0);
        vitals.matched(first, 1, 0);
        vitals.put_in_force(&set);
        let mut rules = vitals.rules();
        assert!(rules.keys().eq(set.enabled().map(|rule| &rule.name).collect::<BTreeSet<_>>()));
        let of = OfRule { priority: first.priority.name(), alerts: 2, suppressed: 2 };
        assert_eq!(rules.remove(&first.name), Some(of));
        assert!(rules.values().all(|of| (of.alerts, of.suppressed) == (0, 0)));
    }

    #[test]
    fn rules_that_come_into_force_late_do_not_hide_that_later_ones_were_refused() {
        let vitals = Vitals::default();
        vitals.accept_rules();
        vitals.refuse_rules();
        vitals.put_in_force(&RuleSet::default());
        assert!(vitals.in_force().is_refused);
        vitals.accept_rules();
        assert!(!vitals.in_force().is_refused);
    }

    #[test]
    fn alerts_of_a_rule_that_has_another_priority_now_are_counted_anew() {
        let load = |priority: &str| {
            let text = format!(
                "- rule: r\n  desc: d\n  condition: evt.kind = exec\n  output: o\n  priority: {priority}\n"
            );
            RuleSet::load(&[std::sync::Arc::new(Source { name: "r.yaml".to_owned(), text })]).unwrap().0
        };
        let vitals = Vitals::default();
        let told = || {
            let rules = vitals.rules();
            rules.values().map(|of| (of.priority, of.alerts)).collect::<Vec<_>>()
        };
        for (priority, expected) in
            [("NOTICE", ("Notice", 1)), ("NOTICE", ("Notice", 2)), ("CRITICAL", ("Critical", 1))]
        {
            let set = load(priority);
            vitals.put_in_force(&set);
            vitals.matched(set.enabled().next().unwrap(), 1, 0);
            assert_eq!(told(), [expected]);
        }
    }
}

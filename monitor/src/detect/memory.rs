//! What rules remember: takes the rules that an event matched and says what alerts it raises. It stands between
//! matching and responding, and knows nothing of how rules are matched.
//!
//! Time is the events' own boot clock, so a replay comes out the same. Events are handled in the order in which
//! they come; one that is older than the one before it counts as having happened at the same time. All that is
//! remembered is bounded, and what has to be forgotten too early is counted and told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::alert::{Fired, Mark, Proof, Verdict, write_operands};
use super::key::Keys;
use super::seen::{self, Seen};
use super::sequence::{self, Progress};
use super::table::{Table, Weigh};
use super::threshold::{self, Counted};
use super::throttle::{Limit, Throttled, Untold};
use super::wiring::{Hit, Wiring};
use crate::audit::RecordKind;
use crate::enrich::Subject;
use crate::enrich::process::Process;
use crate::event::field::{self, Values};
use crate::event::json::Members;
use crate::rules::state::{self, Input, Operand, Stateful, Trigger};
use crate::rules::{Rule, RuleSet};

/// Bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Alerts of a rule and container; rules can say otherwise.
    pub throttle: Limit,
    /// Keys that one rule remembers.
    pub keys_per_rule: usize,
    /// Bytes that all of them take.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { throttle: Limit { alerts: u32::MAX, per_ns: 1 }, keys_per_rule: 16_384, bytes: 32 << 20 }
    }
}

/// An event as it is looked at here.
pub struct Occurrence<'a, V> {
    /// Its values.
    pub values: &'a V,
    /// Its kind; `None` asks all conditions.
    pub kind: Option<u16>,
    /// When it happened, by the boot clock.
    pub boot_ns: u64,
    /// Who did it.
    pub process: Option<&'a Process>,
}

impl<'a, 'e> Occurrence<'a, Subject<'e>> {
    /// Of a live event.
    pub fn of(subject: &'a Subject<'e>) -> Self {
        let header = subject.event.header();
        Self {
            values: subject,
            kind: Some(header.kind),
            boot_ns: header.boot_ns,
            process: Some(subject.process),
        }
    }
}

/// Something for the log.
#[derive(Debug)]
pub struct Report {
    /// `Suppressed` or `Evicted`.
    pub kind: RecordKind,
    /// JSON members.
    pub body: Vec<u8>,
}

/// What all rules remember.
pub struct Memory {
    set: Arc<RuleSet>,
    wiring: Wiring,
    limits: Limits,
    keys: Keys,
    /// What makes a group of alerts if a rule does not say.
    container: Box<[Operand]>,
    trackers: Vec<Tracker>,
    /// The latest event so far.
    clock_ns: u64,
    /// Bytes of all trackers.
    bytes: usize,
    /// Whether a tracker has something to tell.
    has_untold: bool,
    /// When it is looked what there is to tell.
    next_report_ns: u64,
    reports: Vec<Report>,
    fired: Vec<Fired>,
    queue: BinaryHeap<Reverse<Hit>>,
    scratch: Vec<u128>,
}

/// How often it is looked what there is to tell.
const REPORT_INTERVAL_NS: u64 = 1_000_000_000;

/// How long it is remembered how many alerts a group had, at least: the next one tells what had none since.
const IDLE_NS: u64 = 3_600 * 1_000_000_000;

/// What one rule remembers.
struct Tracker {
    state: State,
    throttle: Table<Throttled>,
    /// When its first event was.
    start_ns: Option<u64>,
    evicted: Evicted,
}

/// What a rule remembers for its alerts, and of its alerts.
#[derive(Clone, Copy)]
enum Part {
    State,
    Throttle,
}

enum State {
    Nothing,
    Threshold(Table<Counted>),
    Sequence(Table<Progress>),
    New(Table<Seen>),
}

/// Keys that were forgotten too early.
#[derive(Default)]
struct Evicted {
    count: u64,
    from_ns: u64,
    to_ns: u64,
}

impl Memory {
    /// Nothing is remembered yet.
    pub fn new(set: Arc<RuleSet>, limits: Limits) -> Self {
        let trackers: Vec<_> = set.rules.iter().map(|rule| Tracker::new(&rule.stateful)).collect();
        let wiring = Wiring::of(&set);
        Self {
            wiring,
            limits,
            keys: Keys::new(),
            container: container(),
            bytes: 0,
            trackers,
            set,
            clock_ns: 0,
            has_untold: false,
            next_report_ns: 0,
            reports: Vec::new(),
            fired: Vec::new(),
            queue: BinaryHeap::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes new rules and bounds. What a rule remembers stays if its condition and its key `taffrail` read as before;
    /// returns the names of those that start anew.
    pub fn replace(&mut self, set: Arc<RuleSet>, limits: Limits) -> Vec<String> {
        self.tell(self.clock_ns, true);
        self.limits = limits;
        let before = std::mem::replace(&mut self.set, set);
        let old = state::by_name(&before.rules);
        let mut anew = Vec::new();
        let mut trackers = Vec::new();
        for rule in &self.set.rules {
            let same = old.get(rule.name.as_str()).copied();
            let same = same.filter(|&at| before.rules[at].stateful.text == rule.stateful.text);
            let mut tracker = Tracker::new(&rule.stateful);
            match same.and_then(|at| self.trackers.get_mut(at)) {
                Some(kept) => std::mem::swap(&mut tracker, kept),
                None if !rule.stateful.name().is_empty() => anew.push(rule.name.clone()),
                None => {}
            }
            trackers.push(tracker);
        }
        self.bytes = trackers.iter().map(Tracker::bytes).sum();
        self.trackers = trackers;
        self.wiring = Wiring::of(&self.set);
        anew
    }

    /// Goes on by an event that matched these rules.
    pub fn advance<'r, V: Values>(
        &mut self,
        event: &Occurrence<'_, V>,
        matched: impl Iterator<Item = &'r Rule>,
    ) -> Verdict<'_> {
        let Occurrence { values, kind, boot_ns, process } = event;
        self.clock_ns = self.clock_ns.max(*boot_ns);
        self.fired.clear();
        if self.has_untold && self.clock_ns >= self.next_report_ns {
            self.tell(self.clock_ns, false);
        }
        for rule in matched {
            let own = match rule.stateful.trigger {
                Trigger::Each => {
                    self.fire(rule.at, 0, None);
                    continue;
                }
                Trigger::New(_) => Some(0),
                Trigger::Threshold(_) | Trigger::Sequence(_) => {
                    rule.stateful.steps().position(|step| matches!(step.input, Input::Own))
                }
            };
            self.queue.extend(self.wiring.place(rule.at).zip(own).map(Reverse));
        }
        self.wiring.hits(*values, *kind, |hit| self.queue.push(Reverse(hit)));
        if !self.queue.is_empty() {
            let mark = Mark { clock_ns: self.clock_ns, ..Mark::new(*kind, *boot_ns, *process) };
            self.make_steps(*values, &mark);
        }
        if !self.fired.is_empty() {
            self.fired.sort_unstable_by_key(|fired| fired.rule);
            self.throttle(*values, *process);
        }
        Verdict { set: &self.set, fired: &self.fired }
    }

    /// Makes all steps that are queued, those of rules that others wait for first.
    fn make_steps(&mut self, values: &impl Values, mark: &Mark) {
        while let Some(Reverse((place, first))) = self.queue.pop() {
            let mut hits: sequence::Hits = 1 << first;
            while let Some(&Reverse((next, step))) = self.queue.peek()
                && next == place
            {
                hits |= 1 << step;
                self.queue.pop();
            }
            let Some(rule) = self.wiring.rule(place) else { continue };
            let (Some(tracker), Some(Rule { stateful, .. })) =
                (self.trackers.get_mut(rule), self.set.rules.get(rule))
            else {
                continue;
            };
            let before = tracker.bytes();
            let start_ns = *tracker.start_ns.get_or_insert(mark.clock_ns);
            let fired = match (&stateful.trigger, &mut tracker.state) {
                (Trigger::Threshold(spec), State::Threshold(table)) => {
                    forget(table, mark.clock_ns, spec.within_ns);
                    threshold::advance(spec, table, first, values, mark, &self.keys)
                        .map(|proof| (first, proof))
                }
                (Trigger::Sequence(spec), State::Sequence(table)) => {
                    forget(table, mark.clock_ns, spec.within_ns);
                    sequence::advance(spec, table, hits, values, mark, &self.keys, &mut self.scratch)
                }
                (Trigger::New(spec), State::New(table)) => {
                    if let Some(per_ns) = spec.per_ns {
                        forget(table, mark.clock_ns, per_ns);
                    }
                    seen::advance(spec, table, start_ns, values, mark, &self.keys).map(|proof| (0, proof))
                }
                _ => None,
            };
            self.settle(rule, before);
            if let Some((step, proof)) = fired {
                self.fire(rule, step, Some(proof));
            }
        }
    }

    /// A rule fires: it alerts, and others that take its matches go on.
    fn fire(&mut self, rule: usize, step: usize, proof: Option<Proof>) {
        if self.set.rules.get(rule).is_some_and(|rule| !rule.stateful.silent) {
            self.fired.push(Fired { rule, step, proof, suppressed: Some(0) });
        }
        self.queue.extend(self.wiring.takers(rule).map(Reverse));
    }

    /// Marks those alerts of which there were too many.
    fn throttle(&mut self, values: &impl Values, process: Option<&Process>) {
        let mut fired = std::mem::take(&mut self.fired);
        for one in &mut fired {
            let (Some(rule), Some(tracker)) = (self.set.rules.get(one.rule), self.trackers.get_mut(one.rule))
            else {
                continue;
            };
            let (limit, by) = match &rule.stateful.throttle {
                Some(own) => (Limit { alerts: own.alerts, per_ns: own.per_ns }, &*own.by),
                None => (self.limits.throttle, &[][..]),
            };
            if limit.alerts == u32::MAX {
                continue;
            }
            let key = self.keys.one(values, if by.is_empty() { &self.container } else { by });
            let whose = || {
                let mut group = Vec::new();
                if !by.is_empty() {
                    group.push(b'{');
                    write_operands(by, values, &mut Members::within(&mut group));
                    group.push(b'}');
                }
                (process.and_then(|process| process.container.clone()), group.into())
            };
            let before = tracker.bytes();
            let idle_ns = self.clock_ns.saturating_sub(limit.per_ns.max(IDLE_NS));
            while let Some(old) = tracker.throttle.take_before(idle_ns) {
                self.reports.extend(old.into_untold().map(|untold| suppressed(rule, &untold)));
            }
            let now_ns = self.clock_ns;
            let (passed, untold) =
                tracker.throttle.enter(key, now_ns, |throttled| throttled.pass(limit, now_ns, whose));
            self.has_untold |= passed.is_none();
            one.suppressed = passed;
            self.reports.extend(untold.map(|untold| suppressed(rule, &untold)));
            self.settle(one.rule, before);
        }
        self.fired = fired;
    }

    /// Keeps within the bounds after a rule remembers more.
    fn settle(&mut self, rule: usize, bytes_before: usize) {
        self.bytes = self.bytes - bytes_before + self.trackers[rule].bytes();
        let most = self.limits.keys_per_rule;
        while self.trackers[rule].state.size().0 > most {
            self.evict(rule, Part::State);
        }
        while self.trackers[rule].throttle.len() > most {
            self.evict(rule, Part::Throttle);
        }
        while self.bytes > self.limits.bytes {
            // Whoever has most gives: a flood of keys of one rule costs no other rule its own.
            let sizes = self.trackers.iter().enumerate().flat_map(|(at, tracker)| {
                [(tracker.state.size().1, at, Part::State), (tracker.throttle.bytes(), at, Part::Throttle)]
            });
            match sizes.max_by_key(|(bytes, ..)| *bytes) {
                Some((1.., at, part)) => self.evict(at, part),
                _ => return,
            }
        }
    }

    /// Forgets the oldest of what a rule remembers.
    fn evict(&mut self, rule: usize, part: Part) {
        let (tracker, named) = (&mut self.trackers[rule], &self.set.rules[rule]);
        let before = tracker.bytes();
        match part {
            Part::State => drop(tracker.state.forget_oldest()),
            Part::Throttle => {
                let untold = tracker.throttle.take_oldest().and_then(Throttled::into_untold);
                self.reports.extend(untold.map(|untold| suppressed(named, &untold)));
            }
        }
        self.bytes = self.bytes - before + tracker.bytes();
        let evicted = &mut tracker.evicted;
        if evicted.count == 0 {
            evicted.from_ns = self.clock_ns;
        }
        evicted.count += 1;
        evicted.to_ns = self.clock_ns;
        self.has_untold = true;
    }

    /// Looks what there is to tell, at that time of the boot clock, which may be later than the last event; `at_end`
    /// tells all. It changes nothing about what becomes of the next event.
    pub fn tell(&mut self, now_ns: u64, at_end: bool) {
        if !self.has_untold || !at_end && now_ns < self.next_report_ns {
            return;
        }
        self.next_report_ns = now_ns.saturating_add(REPORT_INTERVAL_NS);
        self.has_untold = false;
        for (rule, tracker) in self.set.rules.iter().zip(&mut self.trackers) {
            let per_ns =
                rule.stateful.throttle.as_ref().map_or(self.limits.throttle.per_ns, |own| own.per_ns);
            tracker.throttle.for_each(|throttled| {
                let untold = throttled.tell(per_ns, now_ns, at_end);
                self.reports.extend(untold.map(|untold| suppressed(rule, &untold)));
                self.has_untold |= throttled.has_untold();
            });
            if tracker.evicted.count > 0 {
                self.reports.push(std::mem::take(&mut tracker.evicted).report(rule));
            }
        }
        self.bytes = self.trackers.iter().map(Tracker::bytes).sum();
    }

    /// What there is to write into the log.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Keys that are remembered, and bytes that they take.
    pub fn size(&self) -> (usize, usize) {
        let keys = |tracker: &Tracker| tracker.state.size().0 + tracker.throttle.len();
        (self.trackers.iter().map(keys).sum(), self.bytes)
    }
}

/// Forgets what was not touched for so long that it cannot matter any more.
fn forget<V: Weigh>(table: &mut Table<V>, now_ns: u64, within_ns: u64) {
    while table.take_before(now_ns.saturating_sub(within_ns)).is_some() {}
}

/// What makes a group if a rule says nothing of groups: the container. Two of one name are two.
fn container() -> Box<[Operand]> {
    let fields = ["container.id", "container.cgroup_path"].into_iter().filter_map(field::find);
    fields.map(|field| Operand { field, index: None, key: None }).collect()
}

fn suppressed(rule: &Rule, untold: &Untold) -> Report {
    Report { kind: RecordKind::Suppressed, body: untold.body(&rule.name) }
}

impl Evicted {
    fn report(self, rule: &Rule) -> Report {
        let Self { count, from_ns, to_ns } = self;
        let mut body = Vec::new();
        let mut members = Members::within(&mut body);
        members.text("rule", rule.name.as_bytes());
        members.number("count", count as i64);
        members.number("from_boot_ns", from_ns as i64);
        members.number("to_boot_ns", to_ns as i64);
        Report { kind: RecordKind::Evicted, body }
    }
}

impl Tracker {
    fn new(stateful: &Stateful) -> Self {
        let state = match stateful.trigger {
            Trigger::Each => State::Nothing,
            Trigger::Threshold(_) => State::Threshold(Table::new()),
            Trigger::Sequence(_) => State::Sequence(Table::new()),
            Trigger::New(_) => State::New(Table::new()),
        };
        Self { state, throttle: Table::new(), start_ns: None, evicted: Evicted::default() }
    }

    fn bytes(&self) -> usize {
        self.state.size().1 + self.throttle.bytes()
    }
}

impl State {
    /// Keys, and bytes that they take.
    fn size(&self) -> (usize, usize) {
        match self {
            State::Nothing => (0, 0),
            State::Threshold(table) => (table.len(), table.bytes()),
            State::Sequence(table) => (table.len(), table.bytes()),
            State::New(table) => (table.len(), table.bytes()),
        }
    }

    /// Forgets the oldest; returns whether there was one.
    fn forget_oldest(&mut self) -> bool {
        match self {
            State::Nothing => false,
            State::Threshold(table) => table.take_oldest().is_some(),
            State::Sequence(table) => table.take_oldest().is_some(),
            State::New(table) => table.take_oldest().is_some(),
        }
    }
}

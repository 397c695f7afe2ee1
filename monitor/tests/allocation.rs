//! Conditions, the engine that finds rules, and rules that remember, allocate nothing for an event. A test of its own, for it counts all that its thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use taffrail::detect::Detector;
use taffrail::detect::memory::{Limits, Memory, Occurrence};
use taffrail::diagnostic::Source;
use taffrail::rules::{Filter, RuleSet, embedded};
use taffrail::testing::{self, with_subject};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: All is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: The caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: The caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn condition_allocates_nothing_for_an_event() {
    let conditions = [
        "proc.name in (a, b) or proc.args icontains anyof (X, Y) or proc.exepath pmatch (/a, /b*/c)",
        "proc.args regex \"(x|y)*\\d+\" or proc.cmdline search \"[^a-z]z\" or proc.name iglob \"[a-c]*x\"",
        "tolower(proc.name) = toupper(proc.exe) or b64(proc.args) contains x or basename(proc.exepath) iequals X",
        "join(\",\", proc.arg) = concat(proc.name, proc.pid) or getopt(proc.args, \"ab:\")[b] = x",
        "len(proc.arg) > 7 or proc.arg in (a, b) or proc.name in val(proc.aname) or proc.args icontains val(proc.exe)",
    ];
    let filters = conditions.map(|text| Filter::from_text(text, "t").expect("a condition"));
    let records = [testing::exec(7, 1_000, (6, 500), "/bin/sh", &["sh", "-b", "\u{fffd} 1", "c2hlbGw="])];
    with_subject(&records, |subject| {
        let matching = || filters.iter().filter(|filter| filter.matches(subject)).count();
        // What each thread has once is made by then.
        matching();
        let before = ALLOCATIONS.get();
        matching();
        assert_eq!(ALLOCATIONS.get(), before);
    });
}

#[test]
fn rule_that_remembers_allocates_nothing_for_an_event_of_a_key_that_it_knows() {
    let rules = [
        "sequence: {within: 1m, by: [container.id], steps: [{condition: evt.kind = exec, by: [proc.key]}], until: {condition: evt.kind = fork}}",
        "new: [container.id, proc.exepath]",
        "threshold: {count: 5, distinct: proc.exepath, within: 1m, by: [container.id, 'proc.aname[1]']}",
        "throttle: {alerts: 1, per: 1h}",
    ];
    let rules = rules.iter().enumerate().map(|(n, rule)| {
        // The sequence waits for its last step for ever.
        let kind = if n == 0 { "open" } else { "exec" };
        format!(
            "- rule: r{n}\n  desc: d\n  condition: evt.kind = {kind}\n  output: o\n  priority: INFO\n  taffrail: {{{rule}}}\n"
        )
    });
    let source = Source { name: "t.yaml".to_owned(), text: rules.collect() };
    let set = Arc::new(RuleSet::load(&[source.into()]).expect("rules").0);
    let mut detector = Detector::new(Arc::clone(&set));
    let mut memory = Memory::new(set, Limits::default());
    let records = [testing::exec(7, 1_000, (6, 500), "/bin/sh", &["sh"])];
    with_subject(&records, |subject| {
        let mut alerts = || {
            let matched = detector.matches(subject.event.header().kind, subject);
            memory.advance(&Occurrence::of(subject), matched).alerts().count()
        };
        assert_eq!(alerts(), 2);
        alerts();
        let before = ALLOCATIONS.get();
        assert_eq!((0..100).map(|_| alerts()).sum::<usize>(), 0);
        assert_eq!(ALLOCATIONS.get(), before);
    });
}

/// Rules with guards of all sorts, and rules without any.
const RULES: &str = r#"
- rule: all sorts
  desc: d
  condition: >
    proc.name in (sh, bash) or proc.cmdline contains "a b" or fd.name startswith /etc or fd.name endswith wd or
    proc.aname = sshd or fd.sip = 10.0.0.1 or fd.sport = 443 or proc.cmdline icontains "A" or fd.name glob "*etc*"
  output: o
  priority: INFO
- rule: no guard
  desc: d
  condition: not proc.name startswith x and container.id != host and thread.cap_effective exists and proc.key != x
  output: o
  priority: INFO
"#;

#[test]
fn rules_are_found_without_an_allocation_from_the_first_event_on() {
    let own = Arc::new(Source { name: "t.yaml".to_owned(), text: RULES.to_owned() });
    let sources: Vec<_> = embedded().into_iter().chain([own]).collect();
    let mut detector = Detector::new(Arc::new(RuleSet::load(&sources).expect("rules").0));
    let exec = testing::exec(7, 1_000, (6, 500), "/bin/sh", &["-sh", "-c", "a b"]);
    let records = [
        testing::fork(7, 1_000, (8, 2_000)),
        testing::open(7, 1_000, "/etc/passwd", 2, 3),
        testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0),
        testing::signal(7, 1_000, (6, 500), 9),
        testing::dns(7, 1_000, testing::DNS_ANSWER),
        testing::exit(7, 1_000, 0),
    ];
    // What transformers work in is a thread's own, from the first time on.
    let transformed = Filter::from_text("basename(proc.exepath) = x", "t").expect("a condition");
    with_subject(std::slice::from_ref(&exec), |subject| assert!(!transformed.matches(subject)));
    let mut matches = 0;
    for record in records.into_iter().chain(testing::calls(7, 1_000)) {
        with_subject(&[exec.clone(), record], |subject| {
            let before = ALLOCATIONS.get();
            matches += detector.matches(subject.event.header().kind, subject).count();
            assert_eq!(ALLOCATIONS.get(), before, "at {}", subject.event.kind());
        });
    }
    assert!(matches > 50, "{matches}");
}

//! What rules remember, in virtual time, and against models that remember everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::memory::{Limits, Memory, Occurrence};
use super::throttle::Limit;
use crate::audit::RecordKind;
use crate::diagnostic::{Source, render};
use crate::event::json::Members;
use crate::rules::RuleSet;
use crate::rules::example::{self, Event};
use crate::yaml;

const SECOND: u64 = 1_000_000_000;

fn load(text: &str) -> Arc<RuleSet> {
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text: text.to_owned() });
    let (set, warnings) =
        RuleSet::load(&[source]).unwrap_or_else(|found| panic!("{}", render(&found, false)));
    // Most conditions here are about one thing only.
    let others: Vec<_> = warnings.into_iter().filter(|found| found.code != "R218").collect();
    assert!(others.is_empty(), "{}", render(&others, false));
    Arc::new(set)
}

fn rule(name: &str, condition: &str, taffrail: &str) -> String {
    format!(
        "- rule: {name}\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n  taffrail: {taffrail}\n"
    )
}

fn correlation(name: &str, taffrail: &str) -> String {
    format!("- correlation: {name}\n  desc: d\n  output: o\n  priority: INFO\n  taffrail: {taffrail}\n")
}

fn event(text: &str) -> Event {
    let source = Arc::new(Source { name: "event".to_owned(), text: format!("{{{text}}}") });
    let nodes = yaml::parse(&source).unwrap();
    example::event(&nodes[0], false).unwrap_or_else(|found| panic!("{}", render(&found, false)))
}

struct Trial {
    set: Arc<RuleSet>,
    memory: Memory,
}

impl Trial {
    fn new(text: &str) -> Self {
        Self::within(text, Limits::default())
    }

    fn within(text: &str, limits: Limits) -> Self {
        let set = load(text);
        Self { memory: Memory::new(Arc::clone(&set), limits), set }
    }

    /// The alerts on an event at that time, as JSON with their rule and output.
    fn alerts(&mut self, boot_ns: u64, event: &Event) -> Vec<Value> {
        let matched = self.set.rules.iter().filter(|rule| rule.matches(event));
        let occurrence = Occurrence { values: event, kind: None, boot_ns, process: None };
        let verdict = self.memory.advance(&occurrence, matched);
        let alerts = verdict.alerts().map(|alert| {
            let mut body = b"{".to_vec();
            let mut members = Members::within(&mut body);
            members.text("rule", alert.rule.name.as_bytes());
            let mut output = String::new();
            alert.render(event, &mut output);
            members.text("output", output.as_bytes());
            alert.write_json(event, &mut members);
            body.push(b'}');
            serde_json::from_slice(&body).unwrap()
        });
        alerts.collect()
    }

    /// The names of the rules that alert on an event so many seconds after the start.
    fn names(&mut self, seconds: u64, text: &str) -> Vec<String> {
        let alerts = self.alerts(seconds * SECOND, &event(text));
        alerts.into_iter().map(|alert| alert["rule"].as_str().unwrap().to_owned()).collect()
    }

    /// The counts of all reports of that kind since the last time, by rule.
    fn reported(&mut self, kind: RecordKind) -> Vec<(String, u64)> {
        let reports = self.memory.take_reports().into_iter().filter(|report| report.kind == kind);
        let counts = reports.map(|report| {
            let body = [b"{", report.body.as_slice(), b"}"].concat();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(body["from_boot_ns"].as_u64() <= body["to_boot_ns"].as_u64(), "{body}");
            (body["rule"].as_str().unwrap().to_owned(), body["count"].as_u64().unwrap())
        });
        counts.collect()
    }
}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Compares a rule with a model over many random events, in two containers.
fn compare(rule: &str, names: &[&str], mut model: impl FnMut(usize, u64, &str) -> bool) {
    let mut trial = Trial::new(rule);
    let mut random = Random(11);
    let (mut seconds, mut fired) = (0, 0);
    for n in 0..4_000 {
        seconds += random.below(3);
        let container = random.below(2) as usize;
        let name = names[random.below(names.len() as u64) as usize];
        let expected = model(container, seconds, name);
        let found = trial.names(seconds, &format!("container.id: c{container}, proc.name: {name}"));
        assert_eq!(!found.is_empty(), expected, "event {n}: {name} in {container} after {seconds} s");
        fired += usize::from(expected);
    }
    assert!(fired > 100 && fired < 3_000, "{fired} of 4000 say little");
}

#[test]
fn threshold_finds_what_a_model_that_remembers_all_finds() {
    let rule = rule("r", "proc.name = a", "{threshold: {count: 4, within: 5s, by: [container.id]}}");
    let mut seen: [Vec<u64>; 2] = Default::default();
    compare(&rule, &["a", "a", "b"], |container, now, name| {
        let seen = &mut seen[container];
        if name == "a" {
            seen.push(now);
        }
        let whole = name == "a" && seen.iter().filter(|at| now - **at <= 5).count() >= 4;
        if whole {
            seen.clear();
        }
        whole
    });
}

#[test]
fn distinct_values_are_counted_as_a_model_that_remembers_all_counts_them() {
    let rule = rule(
        "r",
        "proc.name != e",
        "{threshold: {count: 4, distinct: proc.name, within: 6s, by: [container.id]}}",
    );
    let mut seen: [Vec<(u64, String)>; 2] = Default::default();
    compare(&rule, &["a", "b", "c", "d", "e"], |container, now, name| {
        let seen = &mut seen[container];
        if name == "e" {
            return false;
        }
        seen.push((now, name.to_owned()));
        let late = seen.iter().filter(|(at, _)| now - at <= 6);
        let whole = late.map(|(_, name)| name).collect::<BTreeSet<_>>().len() >= 4;
        if whole {
            seen.clear();
        }
        whole
    });
}

/// `x` is each step; `u` starts anew.
const STEPS: &str = "within: 7s, by: [container.id], steps: [{condition: 'proc.name in (a, x)'}, {condition: 'proc.name in (b, x)'}]";
const LAST: &str = "proc.name in (c, x)";

fn step_of(name: &str, step: usize) -> bool {
    name == "x" || name == ["a", "b", "c"][step]
}

#[test]
fn sequence_finds_what_a_model_that_tries_all_ways_finds() {
    let rule = rule("r", LAST, &format!("{{sequence: {{{STEPS}, until: {{condition: proc.name = u}}}}}}"));
    let mut seen: [Vec<(u64, String)>; 2] = Default::default();
    compare(&rule, &["a", "b", "c", "x", "u", "y"], |container, now, name| {
        let seen = &mut seen[container];
        if name == "u" {
            seen.clear();
        }
        let is_whole = step_of(name, 2)
            && seen.iter().enumerate().any(|(n, (at, first))| {
                step_of(first, 0)
                    && now - at <= 7
                    && seen[n + 1..].iter().any(|(_, second)| step_of(second, 1))
            });
        if is_whole {
            seen.clear();
        } else {
            seen.push((now, name.to_owned()));
        }
        is_whole
    });
}

#[test]
fn steps_in_any_order_are_found_as_a_model_that_remembers_all_finds_them() {
    let rule = rule("r", LAST, &format!("{{sequence: {{{STEPS}, ordered: false}}}}"));
    let mut seen: [Vec<(u64, String)>; 2] = Default::default();
    compare(&rule, &["a", "b", "c", "y"], |container, now, name| {
        let seen = &mut seen[container];
        seen.push((now, name.to_owned()));
        let made = |step| seen.iter().any(|(at, name)| now - at <= 7 && step_of(name, step));
        let is_whole = name != "y" && (0..3).all(made);
        if is_whole {
            seen.clear();
        }
        is_whole
    });
}

#[test]
fn new_values_are_those_that_a_model_has_not_seen_for_so_long() {
    let rule =
        rule("r", "proc.name exists", "{new: {fields: [container.id, proc.name], per: 10s, learn: 20s}}");
    let mut last = std::collections::HashMap::new();
    let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut start = None;
    compare(&rule, &names, |container, now, name| {
        let start = *start.get_or_insert(now);
        let before = last.insert((container, name.to_owned()), now);
        before.is_none_or(|at| now - at > 10) && now - start >= 20
    });
}

#[test]
fn alerts_and_suppressed_matches_are_all_matches() {
    let limits = Limits { throttle: Limit { alerts: 3, per_ns: 10 * SECOND }, ..Limits::default() };
    let mut trial = Trial::within(&rule("r", "proc.name = a", "{}"), limits);
    let mut random = Random(5);
    let (mut now, mut alerts, mut told, mut carried) = (0, 0, 0, 0);
    for _ in 0..5_000 {
        now += random.below(2 * SECOND);
        let event = event(&format!("container.id: c{}, proc.name: a", random.below(3)));
        for alert in trial.alerts(now, &event) {
            alerts += 1;
            carried += alert["suppressed"].as_u64().unwrap_or(0);
        }
        told += trial.reported(RecordKind::Suppressed).iter().map(|(_, count)| count).sum::<u64>();
    }
    assert!(alerts > 1_000 && told > 1_000, "{alerts} {told}");
    trial.memory.tell(now, true);
    told += trial.reported(RecordKind::Suppressed).iter().map(|(_, count)| count).sum::<u64>();
    assert_eq!(alerts + told, 5_000);
    // All but what came after the last alert of each container was told with an alert, too.
    assert!(carried <= told && told - carried < 100, "{carried} of {told}");
}

#[test]
fn rule_can_throttle_itself_by_other_values_or_not_at_all() {
    let limits = Limits { throttle: Limit { alerts: 1, per_ns: 60 * SECOND }, ..Limits::default() };
    let text = rule("once", "proc.name = a", "{throttle: {alerts: 1, per: 1h, by: [proc.exepath]}}")
        + &rule("always", "proc.name = a", "{throttle: false}")
        + &rule("default", "proc.name = a", "{}");
    let mut trial = Trial::within(&text, limits);
    let a = |path: &str| format!("container.id: c, proc.name: a, proc.exepath: {path}");
    assert_eq!(trial.names(0, &a("/x")), ["once", "always", "default"]);
    assert_eq!(trial.names(1, &a("/x")), ["always"]);
    assert_eq!(trial.names(2, &a("/y")), ["once", "always"]);
    assert_eq!(trial.names(61, &a("/y")), ["always", "default"]);
    assert_eq!(trial.names(3_600, &a("/x")), ["once", "always", "default"]);
    trial.memory.tell(0, true);
    let reports = trial.memory.take_reports();
    let bodies: Vec<String> =
        reports.iter().map(|report| String::from_utf8(report.body.clone()).unwrap()).collect();
    let told = bodies.iter().find(|body| body.contains(r#""group":{"proc.exepath":"/x"}"#)).unwrap();
    assert!(told.starts_with(r#""rule":"once","count":1,"#), "{told}");
    assert_eq!(trial.names(7_300, &a("/x")), ["once", "always", "default"]);
}

#[test]
fn looking_what_there_is_to_tell_decides_nothing() {
    let text = rule("r", "proc.name = a", "{throttle: {alerts: 1, per: 10s}}");
    let (mut looked, mut not) = (Trial::new(&text), Trial::new(&text));
    for seconds in 0..40 {
        let text = "container.id: c, proc.name: a";
        assert_eq!(looked.names(seconds, text), not.names(seconds, text));
        // The wall goes on while the events wait.
        looked.memory.tell((seconds + 100) * SECOND, false);
    }
}

#[test]
fn flood_of_keys_takes_bounded_memory_is_counted_and_costs_no_other_rule_its_own() {
    let limits = Limits { keys_per_rule: 100, ..Limits::default() };
    let text = rule(
        "pair",
        "proc.name = last",
        "{sequence: {within: 1h, by: [container.id], steps: [{condition: proc.name = first}]}}",
    ) + &rule(
        "count",
        "proc.name = flood",
        "{threshold: {count: 2, within: 1h, by: [fd.name, container.id]}}",
    ) + &rule(
        "new",
        "proc.name = flood",
        "{new: [fd.name], throttle: {alerts: 1, per: 1h, by: [fd.name]}}",
    );
    let mut trial = Trial::within(&text, limits);
    trial.names(0, "proc.name: first, container.id: c");
    let mut evicted = std::collections::BTreeMap::<String, u64>::new();
    for n in 0..3_000u64 {
        trial.alerts(n * 1_000_000, &event(&format!("proc.name: flood, container.id: c, fd.name: /{n}")));
        let (keys, _) = trial.memory.size();
        assert!(keys <= 301, "{keys} keys");
        for (rule, count) in trial.reported(RecordKind::Evicted) {
            *evicted.entry(rule).or_default() += count;
        }
    }
    trial.memory.tell(0, true);
    for (rule, count) in trial.reported(RecordKind::Evicted) {
        *evicted.entry(rule).or_default() += count;
    }
    let told: Vec<_> = evicted.iter().map(|(rule, count)| (rule.as_str(), *count)).collect();
    // Of the rule `new` the values, and as many groups of its alerts.
    assert_eq!(told, [("count", 2_900), ("new", 2 * 2_900)]);
    assert_eq!(trial.names(60, "proc.name: last, container.id: c"), ["pair"]);
}

#[test]
fn bytes_of_all_rules_are_bounded_and_the_largest_gives_way() {
    let limits = Limits { bytes: 64 << 10, ..Limits::default() };
    let steps = vec!["{condition: proc.name = flood}"; 15].join(", ");
    let text = rule(
        "long",
        "proc.name = last",
        &format!("{{sequence: {{within: 1h, by: [fd.name], steps: [{steps}]}}}}"),
    ) + &rule(
        "values",
        "proc.name = flood",
        "{threshold: {count: 1000, within: 1h, distinct: fd.name, by: [container.id]}}",
    ) + &rule("small", "proc.name = small", "{threshold: {count: 2, within: 1h}}");
    let mut trial = Trial::within(&text, limits);
    trial.names(0, "proc.name: small");
    for n in 0..3_000u64 {
        let path = format!("/{}/{n}", "x".repeat(500));
        trial.alerts(
            n * 1_000_000,
            &event(&format!("proc.name: flood, container.id: c{}, fd.name: {path}", n % 7)),
        );
        let (_, bytes) = trial.memory.size();
        assert!(bytes <= 64 << 10, "{bytes} bytes");
    }
    assert_eq!(trial.names(60, "proc.name: small"), ["small"]);
}

#[test]
fn event_that_comes_late_counts_as_happening_now() {
    let mut trial = Trial::new(&rule(
        "r",
        "proc.name = b",
        "{sequence: {within: 5s, steps: [{condition: proc.name = a}]}}",
    ));
    trial.names(10, "proc.name: a");
    // By its own time it was before.
    assert_eq!(trial.names(9, "proc.name: b"), ["r"]);
    trial.names(20, "proc.name: a");
    trial.names(2, "proc.name: y");
    assert_eq!(trial.names(26, "proc.name: b"), [""; 0]);
}

#[test]
fn descendants_are_joined_by_lineage() {
    let mut trial = Trial::new(&rule(
        "r",
        "evt.kind = exec and proc.name = x",
        "{sequence: {within: 1m, by: [container.id, proc.lineage], steps: [{condition: evt.kind = open, by: [container.id, proc.key]}]}}",
    ));
    trial.names(0, "evt.kind: open, container.id: c, proc.key: 7-1");
    let exec = |lineage: &str, container: &str| {
        format!("evt.kind: exec, proc.name: x, container.id: {container}, proc.lineage: [{lineage}]")
    };
    assert_eq!(trial.names(1, &exec("9-1, 8-1, 1-1", "c")), [""; 0]);
    assert_eq!(trial.names(1, &exec("9-1, 7-1, 1-1", "other")), [""; 0]);
    assert_eq!(trial.names(1, &exec("9-1, 8-1, 7-1, 1-1", "c")), ["r"]);
    assert_eq!(trial.names(1, &exec("9-1, 8-1, 7-1, 1-1", "c")), [""; 0]);
}

#[test]
fn matches_of_other_rules_are_steps_and_are_counted_and_silent_rules_raise_no_alert() {
    let text = rule("a", "proc.name = a", "{alert: false}")
        + &correlation("both", "{sequence: {ordered: false, within: 1m, steps: [{rule: pair}, {rule: a}]}}")
        + &rule("b", "proc.name = b", "{}")
        + &correlation("pair", "{sequence: {within: 1m, steps: [{rule: a}, {rule: b}]}}")
        + &rule("many", "proc.name = c", "{threshold: {count: 3, within: 1m, rules: [a, b]}}");
    let mut trial = Trial::new(&text);
    assert_eq!(trial.names(0, "proc.name: a"), [""; 0]);
    assert_eq!(trial.names(1, "proc.name: b"), ["both", "b", "pair"]);
    assert_eq!(trial.names(2, "proc.name: c"), ["many"]);
}

#[test]
fn reload_keeps_what_unchanged_rules_remember_and_says_which_start_anew() {
    let same = rule("same", "proc.name = a", "{threshold: {count: 2, within: 1m}}");
    let other =
        |name: &str| rule("other", &format!("proc.name = {name}"), "{threshold: {count: 2, within: 1m}}");
    let mut trial = Trial::new(&(same.clone() + &other("a")));
    assert_eq!(trial.names(0, "proc.name: a"), [""; 0]);
    let set = load(&(other("a") + &rule("n", "proc.name = n", "{}") + &same));
    assert_eq!(trial.memory.replace(Arc::clone(&set), Limits::default()), [""; 0]);
    trial.set = set;
    let set = load(&(other("b") + &same));
    assert_eq!(trial.memory.replace(Arc::clone(&set), Limits::default()), ["other"]);
    trial.set = set;
    assert_eq!(trial.names(1, "proc.name: a"), ["same"]);
    assert_eq!(trial.names(1, "proc.name: b"), [""; 0]);
    assert_eq!(trial.names(1, "proc.name: b"), ["other"]);
}

#[test]
fn alert_carries_its_evidence_and_its_text_can_name_it() {
    let text = rule(
        "values",
        "proc.name = a",
        "{threshold: {count: 2, within: 1m, distinct: fd.name, by: [container.id, 'proc.aname[1]']}}",
    ) + &rule("count", "proc.name = a", "{threshold: {count: 3, within: 1m}}")
        + &rule(
            "steps",
            "proc.name = b",
            "{sequence: {within: 1m, by: [container.id], steps: [{name: drop, condition: proc.name = a}]}}",
        );
    let text = text.replace("output: o", "output: '%alert.count of %alert.values %alert.suppressed'");
    let mut trial = Trial::new(&text);
    let mut last = |seconds: u64, text: &str| trial.alerts(seconds * SECOND, &event(text));
    let a = |file: &str| format!("proc.name: a, container.id: c, proc.aname: [sh], fd.name: \"{file}\"");
    assert_eq!(last(1, &a("/ü\u{202e}\\n")), [Value::Null; 0]);
    assert_eq!(
        last(2, &a(&"y".repeat(100))),
        [json!({
            "rule": "values",
            "output": format!("2 of /ü\\u{{202e}}\\n,{}… 0", "y".repeat(64)),
            "evidence": {
                "by": { "container.id": "c", "proc.aname[1]": "sh" }, "distinct": 2,
                "values": ["/ü\u{202e}\n", format!("{}…", "y".repeat(64))],
                "first_boot_ns": SECOND, "last_boot_ns": 2 * SECOND,
            },
        })]
    );
    assert_eq!(
        last(3, &a("z")),
        [json!({
            "rule": "count", "output": "3 of <NA> 0",
            "evidence": { "by": {}, "count": 3, "first_boot_ns": SECOND, "last_boot_ns": 3 * SECOND },
        })]
    );
    assert_eq!(
        last(4, "proc.name: b, container.id: c"),
        [json!({
            "rule": "steps", "output": "2 of <NA> 0",
            "evidence": {
                "by": { "container.id": "c" },
                "steps": [
                    { "step": "drop", "boot_ns": 3 * SECOND },
                    { "step": "condition", "boot_ns": 4 * SECOND },
                ],
            },
        })]
    );
}

#[test]
fn snippets_of_the_specification_load_and_their_examples_pass() {
    let page = include_str!("../../../docs/rule-state.md");
    let snippets: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(snippets.len() >= 4);
    for snippet in snippets {
        let set = load(snippet);
        let outcomes = example::run_examples(&set);
        assert!(!outcomes.is_empty(), "{snippet}");
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    }
}

//! Each mistake in the key, and what rules say of one another.

use std::sync::Arc;

use super::order;
use crate::diagnostic::Source;
use crate::rules::RuleSet;

fn codes(text: &str) -> Vec<&'static str> {
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text: text.to_owned() });
    let (Ok((_, found)) | Err(found)) = RuleSet::load(&[source]);
    // Some conditions here are about one thing only.
    found.iter().map(|found| found.code).filter(|code| *code != "R218").collect()
}

/// A rule on execs that has this key.
fn rule(taffrail: &str) -> String {
    format!(
        "- rule: r\n  desc: d\n  condition: evt.kind = exec\n  output: o\n  priority: INFO\n  taffrail: {taffrail}\n"
    )
}

fn correlation(taffrail: &str) -> String {
    format!(
        "{}- correlation: c\n  desc: d\n  output: o\n  priority: INFO\n  taffrail: {taffrail}\n",
        rule("{}")
    )
}

const A: &str = "{condition: evt.kind = open}";

#[test]
fn each_mistake_has_its_code_and_the_right_form_has_none() {
    let seq = |rest: &str| rule(&format!("{{sequence: {{within: 1m, {rest}}}}}"));
    let steps = |count: usize| seq(&format!("steps: [{}]", vec![A; count].join(", ")));
    for (wrong, code, right) in [
        (rule("{treshold: {}}"), "R401", rule("{}")),
        (
            rule("{threshold: {count: 2, within: 1m, bye: []}}"),
            "R401",
            rule("{threshold: {count: 2, within: 1m, by: []}}"),
        ),
        (
            seq("steps: [{condition: evt.kind = open, nmae: x}]"),
            "R401",
            seq("steps: [{condition: evt.kind = open, name: x}]"),
        ),
        (rule("{threshold: {within: 1m}}"), "R402", rule("{threshold: {count: 2, within: 1m}}")),
        (rule("{threshold: {count: 2}}"), "R402", rule("{threshold: {count: 2, within: 7d}}")),
        (seq("by: []"), "R402", steps(1)),
        (seq("steps: [{name: x}]"), "R402", steps(1)),
        (rule("{new: []}"), "R402", rule("{new: [proc.name]}")),
        (rule("{throttle: {alerts: 1}}"), "R402", rule("{throttle: {alerts: 1, per: 1h}}")),
        (correlation("{}"), "R402", correlation("{threshold: {count: 2, within: 1s, rules: [r]}}")),
        (rule("[]"), "R403", rule("{}")),
        (rule("{threshold: 7}"), "R403", rule("{threshold: {count: 7, within: 1s}}")),
        (rule("{threshold: {count: many, within: 1s}}"), "R403", rule("{threshold: {count: 3, within: 1s}}")),
        (rule("{new: {fields: proc.name}}"), "R403", rule("{new: {fields: [proc.name]}}")),
        (rule("{throttle: true}"), "R403", rule("{throttle: false}")),
        (seq("steps: [x]"), "R403", steps(2)),
        (
            seq(&format!("ordered: perhaps, steps: [{A}]")),
            "R403",
            seq(&format!("ordered: false, steps: [{A}]")),
        ),
        (rule("{threshold: {count: 2, within: 10}}"), "R404", rule("{threshold: {count: 2, within: 10s}}")),
        (rule("{threshold: {count: 2, within: 0s}}"), "R404", rule("{threshold: {count: 2, within: 1ms}}")),
        (rule("{threshold: {count: 2, within: 8d}}"), "R404", rule("{threshold: {count: 2, within: 168h}}")),
        (
            rule("{new: {fields: [proc.name], per: 1w}}"),
            "R404",
            rule("{new: {fields: [proc.name], per: 7d}}"),
        ),
        (
            rule("{threshold: {count: 2, within: 99999999999999999999d}}"),
            "R404",
            rule("{threshold: {count: 2, within: 1d}}"),
        ),
        (rule("{threshold: {count: 1, within: 1s}}"), "R405", rule("{threshold: {count: 2, within: 1s}}")),
        (
            rule("{threshold: {count: 10001, within: 1s}}"),
            "R405",
            rule("{threshold: {count: 10000, within: 1s}}"),
        ),
        (
            rule("{threshold: {count: 1001, within: 1s, distinct: proc.name}}"),
            "R405",
            rule("{threshold: {count: 1000, within: 1s, distinct: proc.name}}"),
        ),
        (rule("{throttle: {alerts: 0, per: 1s}}"), "R405", rule("{throttle: {alerts: 1, per: 1s}}")),
        (rule("{new: [proc.nmae]}"), "R201", rule("{new: [proc.name]}")),
        (rule("{new: ['proc.name[1]']}"), "R206", rule("{new: ['proc.aname[1]']}")),
        (rule("{new: [proc.aname]}"), "R406", rule("{new: ['proc.aname[2]']}")),
        (
            seq(&format!("by: [proc.lineage], steps: [{A}]")),
            "R406",
            seq("by: [proc.lineage], steps: [{condition: evt.kind = open, by: [proc.key]}]"),
        ),
        (
            seq(
                "by: [proc.lineage, proc.aname], steps: [{condition: evt.kind = open, by: [proc.key, proc.name]}, {condition: evt.kind = fork}]",
            ),
            "R406",
            seq(
                "by: [proc.lineage, proc.name], steps: [{condition: evt.kind = open, by: [proc.key, proc.name]}, {condition: evt.kind = fork}]",
            ),
        ),
        (
            rule("{threshold: {count: 2, within: 1s, by: [fd.name]}}"),
            "R407",
            rule("{threshold: {count: 2, within: 1s, by: [proc.name]}}"),
        ),
        (
            seq(&format!("by: [fd.name], steps: [{A}]")),
            "R407",
            seq("by: [proc.exepath], steps: [{condition: evt.kind = open, by: [fd.name]}]"),
        ),
        (rule("{new: [fd.rip]}"), "R407", rule("{new: [proc.name, container.id]}")),
        (steps(16), "R408", steps(15)),
        (seq("steps: []"), "R408", steps(1)),
        (
            rule(&format!("{{new: [{}]}}", ["proc.name"; 9].join(", "))),
            "R408",
            rule(&format!("{{new: [{}]}}", ["proc.name"; 8].join(", "))),
        ),
        (
            correlation("{threshold: {count: 2, within: 1s, rules: [q]}}"),
            "R409",
            correlation("{threshold: {count: 2, within: 1s, rules: [r]}}"),
        ),
        (
            correlation("{threshold: {count: 2, within: 1s, rules: [r, c]}}"),
            "R410",
            correlation("{threshold: {count: 2, within: 1s, rules: [r]}}"),
        ),
        (
            rule("{new: [proc.name], threshold: {count: 2, within: 1s}}"),
            "R411",
            rule("{threshold: {count: 2, within: 1s}}"),
        ),
        (seq("steps: [{condition: evt.kind = open, rule: r}]"), "R411", steps(1)),
        (
            seq("by: [proc.name], steps: [{condition: evt.kind = open, by: []}]"),
            "R412",
            seq("by: [proc.name], steps: [{condition: evt.kind = open, by: [proc.exe]}]"),
        ),
        (rule("{alert: false}"), "R413", rule("{alert: true}")),
        (
            correlation("{threshold: {count: 2, within: 1s, rules: [r]}}")
                .replace("INFO\n  taffrail: {}", "INFO\n  enabled: false"),
            "R413",
            correlation("{threshold: {count: 2, within: 1s, rules: [r]}}")
                .replace("taffrail: {}", "taffrail: {alert: false}"),
        ),
        (seq("steps: [{condition: proc.nmae = x}]"), "R201", seq("steps: [{condition: proc.name = x}]")),
    ] {
        assert_eq!(codes(&wrong), [code], "{wrong}");
        assert_eq!(codes(&right), [""; 0], "{right}");
    }
}

#[test]
fn all_mistakes_in_one_key_are_told_at_once() {
    let text = rule(
        "{sequence: {within: 0s, by: [proc.nmae], ordered: 1, steps: [{condition: proc.exe = }, {rule: [], by: [fd.nmae]}, {nmae: x, rule: r}]}, throttle: {per: 1, by: [proc.aname]}, alert: 7}",
    );
    let mut found = codes(&text);
    found.sort_unstable();
    assert_eq!(
        found,
        ["R106", "R201", "R201", "R401", "R402", "R403", "R403", "R403", "R404", "R404", "R406"]
    );
}

#[test]
fn mistake_is_told_at_its_place_with_a_hint() {
    let text = rule("{threshold: {count: 2, within: 10}}");
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text: text.clone() });
    let found = RuleSet::load(&[source]).unwrap_err();
    assert_eq!(&text[found[0].labels[0].span.range.clone()], "10");
    assert_eq!(found[0].hint.as_deref(), Some("write `10s`"));
    let text = correlation("{threshold: {count: 2, within: 1s, rules: [rr]}}");
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text: text.clone() });
    let found = RuleSet::load(&[source]).unwrap_err();
    assert_eq!(&text[found[0].labels[0].span.range.clone()], "rr");
    assert_eq!(found[0].hint.as_deref(), Some("did you mean `r`?"));
}

#[test]
fn rules_are_ordered_behind_those_whose_matches_they_take_and_a_long_chain_is_no_problem() {
    let link = |n: usize| {
        format!(
            "- correlation: c{n}\n  desc: d\n  output: o\n  priority: INFO\n  taffrail: {{threshold: {{count: 2, within: 1s, rules: [c{}]}}}}\n",
            n + 1
        )
    };
    let chain: String = (0..2_000).map(link).collect();
    let text = format!("{chain}{}", rule("{}").replace("rule: r\n", "rule: c2000\n"));
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text });
    let (set, _) = RuleSet::load(&[source]).unwrap();
    assert_eq!(order(&set.rules), Ok((0..=2_000).rev().collect()));
}

#[test]
fn any_value_of_the_key_is_read_or_told_and_never_a_panic() {
    let seed = seed();
    let mut state = 7u64;
    for _ in 0..500 {
        let mut text: Vec<char> = seed.chars().collect();
        for _ in 0..3 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (state >> 33) as usize % text.len();
            text[at] = ['0', 'x', '[', '{', '}', ',', ':', ' ', '9', 'ü'][(state >> 20) as usize % 10];
        }
        codes(&text.into_iter().collect::<String>());
    }
}

fn seed() -> String {
    rule(
        "{sequence: {within: 10s, by: [proc.lineage], steps: [{name: a, condition: evt.kind = open, by: ['proc.akey[1]']}, {rule: r}], until: {condition: evt.kind = exit}}, throttle: {alerts: 3, per: 1m, by: [container.id]}}",
    )
}

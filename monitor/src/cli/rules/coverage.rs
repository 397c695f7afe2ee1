//! `taffrail rules coverage`: which techniques of ATT&CK for Containers which enabled rules detect.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::Files;
use crate::rules::RuleSet;
use crate::rules::attack::{CONTAINERS, Reach, Technique};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), ExitCode> {
    let set = args.files.valid()?;
    if args.json {
        println!("{}", json(&set))
    } else {
        print!("{}", text(&set))
    }
    Ok(())
}

/// How many techniques there are, of each sort.
#[derive(Default)]
struct Count {
    deeds: usize,
    programs: usize,
    not: usize,
    out_of_reach: usize,
}

impl Count {
    fn add(&mut self, technique: &Technique, is_detected: bool) {
        *match (technique.reach, is_detected) {
            (Reach::Deed, true) => &mut self.deeds,
            (_, true) => &mut self.programs,
            (Reach::None(_), false) => &mut self.out_of_reach,
            (_, false) => &mut self.not,
        } += 1;
    }

    fn detected(&self) -> usize {
        self.deeds + self.programs
    }

    fn sentence(&self, set: &RuleSet) -> String {
        let Self { deeds, programs, not, out_of_reach } = self;
        format!(
            "{} of {} techniques are detected by {} enabled rules: {deeds} by what is done, {programs} only by the \
             usual programs for it; {not} are not detected, {out_of_reach} are out of reach",
            self.detected(),
            CONTAINERS.len(),
            set.enabled().count(),
        )
    }
}

/// What is known of a technique, and the rules' names.
fn row<'a>(technique: &'a Technique, set: &'a RuleSet) -> (&'static str, Vec<&'a str>) {
    let rules: Vec<&str> = technique.rules(set).map(|rule| rule.name.as_str()).collect();
    let by = match technique.reach {
        _ if rules.is_empty() => "",
        Reach::Deed => "what is done",
        Reach::Program | Reach::None(_) => "program",
    };
    (by, rules)
}

/// What stands where there are no rules.
fn without_rules(technique: &Technique) -> String {
    match technique.reach {
        Reach::None(reason) => format!("out of reach: {reason}"),
        Reach::Deed | Reach::Program => "not detected".to_owned(),
    }
}

/// As a table for people, one rule a line.
fn text(set: &RuleSet) -> String {
    let mut out = String::new();
    let mut count = Count::default();
    for technique in CONTAINERS {
        let (by, rules) = row(technique, set);
        count.add(technique, !rules.is_empty());
        let first = rules.first().map_or_else(|| without_rules(technique), |rule| (*rule).to_owned());
        let _ = writeln!(out, "{:<10} {:<43} {by:<13} {first}", technique.id, technique.name);
        for rule in rules.iter().skip(1) {
            let _ = writeln!(out, "{:<68} {rule}", "");
        }
    }
    let _ = writeln!(out, "\n{}", count.sentence(set));
    out
}

/// As one JSON object.
fn json(set: &RuleSet) -> serde_json::Value {
    let mut count = Count::default();
    let mut techniques = Vec::new();
    for technique in CONTAINERS {
        let (by, rules) = row(technique, set);
        count.add(technique, !rules.is_empty());
        let Technique { id, name, tactics, reach } = technique;
        let mut entry = json!({ "id": id, "name": name, "tactics": tactics, "rules": rules });
        if !by.is_empty() {
            entry["detected_by"] = if by == "program" { "program" } else { "deed" }.into();
        }
        if let Reach::None(reason) = reach {
            entry["out_of_reach"] = (*reason).into();
        }
        techniques.push(entry);
    }
    json!({
        "matrix": "ATT&CK for Containers 18.1", "techniques": techniques, "entries": CONTAINERS.len(),
        "detected": count.detected(), "detected_by_deed": count.deeds, "detected_by_program": count.programs,
        "not_detected": count.not, "out_of_reach": count.out_of_reach, "enabled_rules": set.enabled().count(),
    })
}

/// The reference page for the rules that come with the program.
#[cfg(test)]
fn page(set: &RuleSet) -> String {
    let mut out = String::from(
        "# Coverage\n\nWhich techniques of MITRE ATT&CK for Containers (18.1) the rules that come with the program detect \
         when nothing is configured. Generated from the rules' tags and `monitor/src/rules/attack.rs`; \
         `taffrail rules coverage` says the same of any rules.\n\n\
         A technique counts if an enabled rule sees a usual way of doing it, which may be a sub-technique's; no rule sees \
         all ways. *What is done*: the kernel resolves what the rule looks at, whoever does it. *Program*: what matters is \
         within an encrypted request or a file's bytes, so the rule knows the usual programs and their arguments, and an \
         attacker's own program is not seen. Each enabled rule is set off by the real thing in the tests (`tests/tests/pack`).\n\n\
         ATT&CK 19 has replaced T1562.001 by T1685, and split the tactic Defense Evasion; a tag of either counts.\n\n\
         | id | technique | tactics | by | rules |\n|---|---|---|---|---|\n",
    );
    let mut count = Count::default();
    for technique in CONTAINERS {
        let (by, rules) = row(technique, set);
        count.add(technique, !rules.is_empty());
        let rules = if rules.is_empty() { without_rules(technique) } else { rules.join("; ") };
        let tactics = technique.tactics.join(", ");
        let _ = writeln!(out, "| {} | {} | {tactics} | {by} | {rules} |", technique.id, technique.name);
    }
    let _ = writeln!(out, "\n{}.", count.sentence(set));
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::Source;
    use crate::rules;

    #[test]
    fn reference_page_is_fresh() {
        let (set, _) = RuleSet::load(&rules::embedded()).unwrap();
        crate::testing::assert_fresh("docs/reference/coverage.md", &page(&set));
    }

    #[test]
    fn rule_that_is_off_detects_nothing() {
        for (enabled, detected) in [(true, 2), (false, 0)] {
            let text = format!(
                "- rule: r\n  desc: d\n  condition: proc.name = x\n  output: o\n  priority: INFO\n  tags: [T1552.007]\n  enabled: {enabled}\n"
            );
            let (set, _) = RuleSet::load(&[Arc::new(Source { name: "t.yaml".to_owned(), text })]).unwrap();
            let answer = json(&set);
            assert_eq!(answer["detected"], detected);
            let rules = if enabled { &["r"][..] } else { &[] };
            let of = |id: &str| {
                let all = answer["techniques"].as_array().unwrap();
                all.iter().find(|technique| technique["id"] == id).unwrap()["rules"].clone()
            };
            assert_eq!(of("T1552"), json!(rules));
            assert_eq!(of("T1552.007"), json!(rules));
            assert_eq!(of("T1552.001"), json!([]));
        }
    }
}

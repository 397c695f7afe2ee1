//! `taffrail rules explain`: what a rule comes to, as a database explains a query: the expanded condition, which
//! part of it the kernel decides, the fields, the probes, and whether these are there.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::Files;
use crate::cli::{NO, doctor};
use crate::diagnostic::closest;
use crate::event::field::{self, kind_names};
use crate::probe::hook::Status;
use crate::probe::load::Tiers;
use crate::probe::{HOOKS, ProbeState};
use crate::rules::explain::{fields, layout};
use crate::rules::{Rule, RuleSet};

#[derive(clap::Args)]
pub struct Args {
    /// The rule's name.
    rule: String,
    #[command(flatten)]
    files: Files,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Which hooks to try, to say whether the rule's probes can be attached here.
    #[arg(long, value_enum, default_value = "auto")]
    tier: Tiers,
}

pub fn run(args: &Args) -> Result<(), ExitCode> {
    let set = args.files.valid()?;
    let Some(rule) = set.find(&args.rule) else {
        eprintln!("error: there is no rule `{}`", args.rule);
        if let Some(name) = closest(&args.rule, set.rules.iter().map(|rule| rule.name.as_str())) {
            eprintln!("  hint: did you mean `{name}`?");
        }
        return Err(ExitCode::from(NO));
    };
    let probes = probes(rule, args.tier);
    if args.json {
        println!("{:#}", in_json(&set, rule, &probes));
    } else {
        print!("{}", in_text(&set, rule, &probes));
    }
    Ok(())
}

/// A probe that the rule's kinds need, and how it is.
struct Probe {
    name: &'static str,
    hook: &'static str,
    kinds: Vec<&'static str>,
    state: String,
    /// Whether kinds are blind as it is.
    blinds: bool,
}

fn probes(rule: &Rule, tiers: Tiers) -> Vec<Probe> {
    let states = doctor::try_probes(tiers);
    let needed = HOOKS.iter().filter(|hook| hook.kinds & rule.all_kinds() != 0);
    let describe = needed.map(|hook| {
        let state = match &states {
            Ok(states) => states.iter().find(|state| state.hook.program == hook.program),
            Err(_) => None,
        };
        let (state, blinds) = match (state, &states) {
            (Some(ProbeState { status, .. }), _) => match status {
                Status::Attached => ("can be attached".to_owned(), false),
                Status::NotNeeded => ("not needed beside the other tier".to_owned(), false),
                Status::Replaced(why) => (format!("{why}; the other tier sees it"), false),
                Status::Failed(why) => (format!("cannot be attached: {why}"), hook.vital),
            },
            (None, Err(error)) => (format!("not tried: {error}"), false),
            (None, Ok(_)) => ("not tried".to_owned(), false),
        };
        Probe {
            name: hook.program,
            hook: hook.hook_name(),
            kinds: kind_names(hook.kinds & rule.all_kinds()),
            state,
            blinds,
        }
    });
    describe.collect()
}

fn in_text(set: &RuleSet, rule: &Rule, probes: &[Probe]) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let expanded = set.expanded(rule);
    // Writing to a string cannot fail.
    let _ = (|| {
        let state = if rule.enabled { "on" } else { "off" };
        writeln!(out, "{} ({}, {state}, {})", rule.name, rule.priority.name(), rule.source.name)?;
        writeln!(out, "\n{}", rule.desc)?;
        if !rule.response.is_empty() {
            writeln!(out, "\nWhat to do first\n  {}", rule.response)?;
        }
        writeln!(out, "\nCondition\n  {}", layout(&expanded, 2))?;
        if !rule.stateful.name().is_empty() {
            writeln!(out, "\nRemembers ({})", rule.stateful.name())?;
            for step in rule.stateful.steps() {
                writeln!(out, "  {}", step.name)?;
            }
        }
        writeln!(out, "\nDecided in the kernel")?;
        writeln!(out, "  cgroup      only of what is watched (`scope.*`)")?;
        writeln!(out, "  kind        {}", kind_names(rule.all_kinds()).join(", "))?;
        let calls = rule.all_calls();
        if !calls.is_empty() {
            let calls: Vec<_> = calls.iter().map(String::as_str).collect();
            writeln!(out, "  call        {} (no other of kind `syscall`)", calls.join(", "))?;
        }
        writeln!(out, "  the rest is matched by the daemon")?;
        writeln!(out, "\nFields")?;
        for field in fields(&expanded).into_iter().filter_map(field::find) {
            writeln!(out, "  {:<24} {:<13} {}", field.name, field.ty.name(), field.doc)?;
        }
        writeln!(out, "\nProbes")?;
        for Probe { name, hook, kinds, state, blinds } in probes {
            let blind = if *blinds { "  BLIND" } else { "" };
            writeln!(out, "  {name:<24} {hook}: {state}{blind}  [{}]", kinds.join(","))?;
        }
        let (matching, other) = rule.example_counts();
        writeln!(out, "\nExamples\n  {matching} that match, {other} that do not")?;
        if !rule.tags.is_empty() {
            writeln!(out, "\nTags\n  {}", rule.tags.join(" "))?;
        }
        std::fmt::Result::Ok(())
    })();
    out
}

fn in_json(set: &RuleSet, rule: &Rule, probes: &[Probe]) -> Value {
    let expanded = set.expanded(rule);
    let probes: Vec<_> = probes
        .iter()
        .map(|probe| {
            let Probe { name, hook, kinds, state, blinds } = probe;
            json!({ "probe": name, "hook": hook, "kinds": kinds, "state": state, "blinds": blinds })
        })
        .collect();
    json!({
        "rule": rule.name, "priority": rule.priority.name(), "enabled": rule.enabled, "desc": rule.desc,
        "response": rule.response,
        "file": rule.source.name, "tags": rule.tags, "condition": expanded.to_string(),
        "kernel": { "kinds": kind_names(rule.all_kinds()), "calls": rule.all_calls() },
        "fields": fields(&expanded), "probes": probes,
    })
}

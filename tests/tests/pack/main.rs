//! The rules that come with the program, set off for real: one daemon, what each rule is about done in a real container,
//! and beside it a twin that looks much the same and is harmless. An alert is put down to an act by the lineage of
//! the process that it is about. In `quiet.rs` usual services work, and no rule of the default set has anything to say; in
//! `falco.rs` the same is done with Falco's stable rules.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod acts;
mod falco;
mod quiet;

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use taffrail::rules::{self, Maturity, RuleSet};
use taffrail_tests::container::{Container, Machine};
use taffrail_tests::daemon::Daemon;
use taffrail_tests::raw;

use acts::{ACTS, AMONG_HOST, Act};

/// Rules that no test sets off, and why.
const NOT_ACTED: &[(&str, &str)] = &[];

/// What the last argument of a shell that does an act begins with; the act's number follows.
const MARK: &str = "act ";

/// The exit status of an act that this machine cannot do.
const CANNOT: &str = "77";

/// One script that was run.
struct Done {
    rule: &'static str,
    /// Whether the rule must say so.
    alerts: bool,
    script: &'static str,
    /// How it ended.
    status: String,
}

#[test]
fn each_rule_is_set_off_by_the_real_thing_and_not_by_its_harmless_twin() {
    const TEST: &str = "each_rule_is_set_off_by_the_real_thing_and_not_by_its_harmless_twin";
    if let Some(reason) = taffrail_tests::cannot_trace() {
        taffrail_tests::skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&[
        "rules.maturity=sandbox",
        "log.record=container.id != host and evt.kind in (exec, fork)",
    ]);
    let programs = tempfile::tempdir().unwrap();
    make_programs(programs.path());
    let machine = Machine { layers: &[programs.path()], host_processes: false, is_privileged: false };
    let mut done = play("own", &machine, ACTS, 0, |_| Ok(()));
    // A process of the host for those who see it to end.
    let mut victim = Command::new("sleep").arg("1000").spawn().unwrap();
    let machine = Machine { host_processes: true, ..machine };
    done.extend(play("among", &machine, AMONG_HOST, done.len(), |root| {
        std::fs::write(root.join("scripts/outside"), std::process::id().to_string())?;
        std::fs::write(root.join("scripts/victim"), victim.id().to_string())
    }));
    victim.kill().unwrap();
    victim.wait().unwrap();
    let (status, records) = daemon.stop();
    assert!(status.success());
    let gaps: Vec<_> = records.iter().filter(|record| record["kind"] == "gap").collect();
    assert!(gaps.iter().all(|gap| gap["where"] == "probe"), "events were lost: {gaps:?}");

    let mut wrong = missing(&done);
    wrong.extend(otherwise(&done, &records));
    assert!(wrong.is_empty(), "{}\n\n{}", wrong.join("\n"), dump(&records));
}

/// What did not come out as it should. What this machine cannot do is told as skipped.
fn otherwise(done: &[Done], records: &[Value]) -> Vec<String> {
    let alerts = attribute(records);
    let mut wrong = Vec::new();
    for (number, Done { rule, alerts: wanted, script, status }) in done.iter().enumerate() {
        if status == CANNOT {
            taffrail::testing::skipped(rule, format_args!("this machine cannot: {script}"));
            continue;
        }
        let found = alerts.contains(&(number, *rule));
        if found != *wanted {
            let outcome = if found { "set off" } else { "not set off" };
            wrong.push(format!("{rule}: {outcome} by (status {status}): {script}"));
        }
    }
    wrong
}

/// Rules that nothing is done about, for good or ill.
fn missing(done: &[Done]) -> Vec<String> {
    let (mut set, _) = RuleSet::load(&rules::embedded()).unwrap();
    set.enable_down_to(Maturity::Sandbox);
    let mut missing = Vec::new();
    for rule in set.enabled() {
        let is_done = |alerts| done.iter().any(|one| one.rule == rule.name && one.alerts == alerts);
        match NOT_ACTED.iter().find(|(name, _)| *name == rule.name) {
            None if is_done(true) && is_done(false) => {}
            None => missing.push(format!("{}: nothing sets it off, or it has no twin", rule.name)),
            Some((name, reason)) => taffrail::testing::skipped(name, reason),
        }
    }
    missing
}

/// Runs all scripts, one shell each, in one container; the first is number `first`.
fn play(
    name: &str,
    machine: &Machine<'_>,
    acts: &'static [Act],
    first: usize,
    prepare: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Vec<Done> {
    let all = acts.iter().flat_map(|Act { rule, does, twin }| {
        let done = move |alerts, script| Done { rule, alerts, script, status: String::new() };
        does.iter().map(move |script| done(true, *script)).chain([done(false, *twin)])
    });
    let mut all: Vec<Done> = all.collect();
    let file = |number: usize| format!("acts/{:03}", first + number);
    let container = Container::with_machine(name, machine, |root| {
        acts::prepare(root)?;
        prepare(root)?;
        std::fs::create_dir(root.join("acts"))?;
        all.iter()
            .enumerate()
            .try_for_each(|(number, act)| std::fs::write(root.join(file(number)), act.script))
    })
    .unwrap();
    // The shell's arguments must not be what sets a rule off: it reads the script.
    let driver =
        format!("for act in /acts/*; do sh $act - \"{MARK}${{act#/acts/}}\" </dev/null; echo $? >$act; done");
    let output = container.sh(&driver).unwrap();
    if std::env::var_os("TAFFRAIL_SHOW").is_some() {
        eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    for (number, act) in all.iter_mut().enumerate() {
        act.status = std::fs::read_to_string(container.root().join(file(number))).unwrap().trim().to_owned();
    }
    all
}

/// Programs of the image that only their name, or what they are a copy of, makes what they are.
fn make_programs(layer: &Path) {
    let folder = layer.join("local/bin");
    std::fs::create_dir_all(&folder).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    for name in acts::NAMES {
        put(name, &raw::program());
    }
    for (name, real) in acts::COPIES {
        put(name, &std::fs::read(real).unwrap());
    }
    put("deed", &std::fs::read(env!("CARGO_BIN_EXE_deed")).unwrap());
}

/// Which rules were set off by which acts.
fn attribute(records: &[Value]) -> HashSet<(usize, &str)> {
    let mut parents: HashMap<&str, &str> = HashMap::new();
    let mut acts: HashMap<&str, usize> = HashMap::new();
    for record in records {
        let process = &record["process"];
        let Some(key) = process["key"].as_str() else { continue };
        if let Some(parent) = process["parent_key"].as_str() {
            parents.insert(key, parent);
        }
        let name = record["event"]["args"].as_array().and_then(|arguments| arguments.get(3)?.as_str());
        if let Some(number) = name.and_then(|name| name.strip_prefix(MARK)?.parse().ok()) {
            acts.insert(key, number);
        }
    }
    let act_of = |key| {
        let mut lineage = std::iter::successors(Some(key), |key| parents.get(key).copied()).take(32);
        lineage.find_map(|key| acts.get(key).copied())
    };
    let alerts = records.iter().filter(|record| record["kind"] == "alert");
    let attributed = alerts
        .filter_map(|alert| Some((act_of(alert["process"]["key"].as_str()?)?, alert["rule"].as_str()?)));
    attributed.collect()
}

fn dump(records: &[Value]) -> String {
    let alerts = records.iter().filter(|record| record["kind"] == "alert");
    alerts.map(|alert| format!("{}: {}\n", alert["rule"], alert["output"])).collect()
}

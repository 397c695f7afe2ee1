//! `taffrail doctor`: what works on this machine, what does not, what that blinds, what to do. It tries
//! things rather than guess from versions, and leaves nothing behind. [`folders`] are looked at, [`servers`] are asked.

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::config::Source;
use crate::config::Settings;
use crate::confine;
use crate::enrich::cgroup::{Hierarchy, Layout};
use crate::probe::hook::{ALL_KINDS, Status, Tier};
use crate::probe::load::Tiers;
use crate::probe::tree::Tree;
use crate::probe::{HOOKS, LoadError, Options, ProbeState, Probes, load};

mod folders;
mod servers;

/// Say what works on this machine.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Which hooks to try.
    #[arg(long, value_enum, default_value = "auto")]
    tier: Tiers,
}

/// How one thing is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// Works, with something missing.
    Less,
    /// Nothing works without it.
    Broken,
}

struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What is lost, and what to do.
    advice: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, found: String) -> Self {
        Self { what, verdict: Verdict::Ok, found, advice: None }
    }

    fn less(what: &'static str, found: String, advice: &str) -> Self {
        Self { what, verdict: Verdict::Less, found, advice: Some(advice.to_owned()) }
    }

    fn broken(what: &'static str, found: String, advice: &str) -> Self {
        Self { what, verdict: Verdict::Broken, found, advice: Some(advice.to_owned()) }
    }
}

/// Runs the sub-command.
pub fn run(args: Args) -> ExitCode {
    let settings = match args.source.load() {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let layout = Layout::detect();
    let mut findings = vec![kernel(), btf(), capabilities(), cgroups(&layout), confinement(&settings)];
    findings.extend([folders::processes(Path::new("/proc")), folders::log(&settings)]);
    findings.extend(settings.pin.as_deref().map(folders::pins));
    findings.push(folders::containers(&settings.folders, &layout));
    findings.extend(servers::runtimes(&settings));
    findings.extend(servers::api_server(&settings));
    let (found, states) = probes(args.tier);
    findings.extend(found);
    let worst = findings.iter().map(|finding| finding.verdict).fold(Verdict::Ok, |worst, verdict| {
        if worst == Verdict::Broken || verdict == Verdict::Ok { worst } else { verdict }
    });
    if args.json {
        let list: Vec<Value> = findings.iter().map(to_json).collect();
        println!("{}", json!({ "verdict": word(worst), "findings": list, "probes": states }));
    } else {
        for Finding { what, verdict, found, advice } in &findings {
            println!("{:<8} {what:<14} {found}", word(*verdict));
            if let Some(advice) = advice {
                println!("{:<8} {:<14} → {advice}", "", "");
            }
        }
    }
    match worst {
        Verdict::Ok => ExitCode::SUCCESS,
        Verdict::Less => ExitCode::from(super::NO),
        Verdict::Broken => ExitCode::from(super::FAILED),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Less => "less",
        Verdict::Broken => "BROKEN",
    }
}

fn to_json(finding: &Finding) -> Value {
    let Finding { what, verdict, found, advice } = finding;
    json!({ "what": what, "verdict": word(*verdict), "found": found, "advice": advice })
}

fn kernel() -> Finding {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    Finding::ok("kernel", format!("Linux {} ({})", read("osrelease").trim(), std::env::consts::ARCH))
}

fn btf() -> Finding {
    match load::kernel_facts() {
        Ok(facts) if facts.missing.is_empty() => {
            Finding::ok("BTF", format!("all {} kernel fields found", facts.offsets.len()))
        }
        Ok(facts) => Finding::less(
            "BTF",
            format!("this kernel has no {}", facts.missing.join(", ")),
            "values that come from these fields are absent or zero",
        ),
        Err(error) => broken("BTF", &error),
    }
}

fn broken(what: &'static str, error: &LoadError) -> Finding {
    let mut found = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        found = format!("{found}: {error}");
        cause = error.source();
    }
    Finding::broken(what, found, error.hint())
}

/// The capabilities that something needs: number in the kernel's `capability.h`, name, what is lost without it. The table in
/// `docs/deploy.md` says the same.
const NEEDED: &[(u32, &str, &str)] = &[
    (39, "BPF", "the probes cannot be loaded"),
    (38, "PERFMON", "the probes can neither be attached nor read kernel memory"),
    (12, "NET_ADMIN", "datagrams and DNS are not seen, nor connects by io_uring, MSG_FASTOPEN and MPTCP"),
    (
        2,
        "DAC_READ_SEARCH",
        "what runtimes keep in folders of other users than root is not read: their containers have ids only; cgroups are \
         looked for in the whole tree, which takes longer",
    ),
    (
        19,
        "SYS_PTRACE",
        "executables of processes that ran before the start are not known, users of containers have numbers",
    ),
];

fn capabilities() -> Finding {
    const SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & 1 << capability != 0;
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(number, ..)| !has(*number) && !(matches!(number, 12 | 38 | 39) && has(SYS_ADMIN)))
        .collect();
    if missing.is_empty() {
        let names: Vec<_> = NEEDED.iter().map(|(_, name, _)| *name).collect();
        let found = format!("{} are there", names.join(", "));
        return Finding::ok("capabilities", found);
    }
    let names: Vec<_> = missing.iter().map(|(_, name, _)| *name).collect();
    let costs: Vec<_> = missing.iter().map(|(_, name, cost)| format!("without {name} {cost}")).collect();
    let vital = missing.iter().any(|(number, ..)| matches!(number, 38 | 39));
    Finding {
        what: "capabilities",
        verdict: if vital { Verdict::Broken } else { Verdict::Less },
        found: format!("{} not there", names.join(", ")),
        advice: Some(format!("{}; run as root or add them", costs.join("; "))),
    }
}

fn cgroups(layout: &Layout) -> Finding {
    let (verdict, found, advice) = match layout {
        Layout::Unified(root) => (Verdict::Ok, format!("v2 at {}", root.display()), None),
        Layout::Hybrid(root) => (Verdict::Ok, format!("hybrid: v2 at {}", root.display()), None),
        Layout::V1(Hierarchy { controller, root, .. }) => (
            Verdict::Less,
            format!(
                "v1, without a v2 tree that is used: containers are told apart by `{controller}` at {}",
                root.display()
            ),
            Some(
                "whose a socket is that nobody was seen to use is not known; programs for packets and sockets need \
                 CAP_SYS_ADMIN, and fsopen, fsconfig and fsmount if system calls are filtered; boot with cgroup v2 \
                 (systemd: systemd.unified_cgroup_hierarchy=1)",
            ),
        ),
        Layout::None => (
            Verdict::Less,
            "no tree of cgroups is mounted".to_owned(),
            Some("all containers share one cgroup id, so none can be named; mount cgroup2"),
        ),
    };
    Finding { what: "cgroups", verdict, found, advice: advice.map(str::to_owned) }
}

/// What would hold the daemon back if somebody took it over.
fn confinement(settings: &Settings) -> Finding {
    const WHAT: &str = "confinement";
    if !settings.confine {
        let advice =
            Some("whoever takes the daemon over can do all that it may; see `daemon.confine`".to_owned());
        return Finding { what: WHAT, verdict: Verdict::Less, found: "off".to_owned(), advice };
    }
    let state = confine::trial();
    let (by, not) = state.split();
    let verdict = if not.is_empty() { Verdict::Ok } else { Verdict::Less };
    let found = by.into_iter().chain(not.iter().copied()).collect::<Vec<_>>().join(", ");
    let advice = (!not.is_empty())
        .then(|| "whoever takes the daemon over can write wherever its user and mounts let it".to_owned());
    Finding { what: WHAT, verdict, found, advice }
}

/// How each probe is, by trying all. No cgroup is in scope, so they see nothing while they are tried.
pub fn try_probes(tiers: Tiers) -> Result<Vec<ProbeState>, LoadError> {
    let layout = Layout::detect();
    let options = Options {
        urgent_bytes: 1 << 16,
        bulk_bytes: 1 << 16,
        kinds: ALL_KINDS,
        tree: Tree::open(&layout),
        cgroups: layout,
        calls: Vec::new(),
        count_calls: false,
        flight: 0,
        tiers,
        debug: false,
        pin: None,
    };
    Probes::load(&options).map(|(probes, ..)| probes.states)
}

/// Findings on the probes, and the same for programs to read.
fn probes(tiers: Tiers) -> (Vec<Finding>, Vec<Value>) {
    let states = match try_probes(tiers) {
        Ok(states) => states,
        Err(error) => return (vec![broken("probes", &error)], Vec::new()),
    };
    let mut findings: Vec<Finding> = states.iter().map(probe).collect();
    findings.push(strong_tier());
    debug_assert_eq!(findings.len(), HOOKS.len() + 1);
    (findings, states.iter().map(state_json).collect())
}

fn state_json(state: &ProbeState) -> Value {
    let (status, reason) = match &state.status {
        Status::Attached => ("attached", None),
        Status::NotNeeded => ("not_needed", None),
        Status::Replaced(why) => ("replaced", Some(why)),
        Status::Failed(why) => ("refused", Some(why)),
    };
    json!({
        "probe": state.hook.program,
        "program": state.program,
        "hook": state.hook.hook_name(),
        "tier": state.hook.tier.name(),
        "status": status,
        "reason": reason,
        "verified_instructions": state.verified_instructions,
    })
}

fn probe(state: &ProbeState) -> Finding {
    let hook = state.hook;
    let tier = hook.tier.name();
    let other = match hook.tier {
        Tier::Portable => Tier::Strong.name(),
        Tier::Strong => Tier::Portable.name(),
    };
    let (verdict, found, advice) = match &state.status {
        Status::Attached => {
            let verified = state
                .verified_instructions
                .map_or(String::new(), |count| format!(", {count} instructions verified"));
            let found = format!("{} ({tier}{verified})", hook.hook_name());
            if hook.classic().is_some_and(|classic| state.program != classic)
                && load::preempts_in_tracepoints()
            {
                let found = format!("{} ({tier}): a thread can be preempted within it", hook.hook_name());
                let advice = "of a busy machine events are skipped, which gaps tell; mount tracefs at /sys/kernel/tracing (of the chart: `tracefs: true`)";
                return Finding {
                    what: hook.program,
                    verdict: Verdict::Less,
                    found,
                    advice: Some(advice.to_owned()),
                };
            }
            let advice = (Some(state.program) == hook.fallback).then(|| {
                "without bpf_loop (Linux 5.17): paths of more than 20 names lose their start, and say so"
                    .to_owned()
            });
            (Verdict::Ok, found, advice)
        }
        Status::NotNeeded => {
            (Verdict::Ok, format!("{} ({tier}): not needed beside the {other} tier", hook.hook_name()), None)
        }
        Status::Replaced(why) => {
            (Verdict::Ok, format!("{} ({tier}): {why}; the {other} tier sees it", hook.hook_name()), None)
        }
        Status::Failed(why) => {
            let advice = format!("not seen: {} (needs Linux {})", hook.blinds, hook.since);
            (Verdict::Less, format!("{}: {why}", hook.hook_name()), Some(advice))
        }
    };
    Finding { what: hook.program, verdict, found, advice }
}

fn strong_tier() -> Finding {
    let found = match load::try_strong_tier() {
        Ok(()) => "fentry works".to_owned(),
        Err(why) => format!("fentry is refused ({why}); the portable tier is used"),
    };
    Finding { what: "strong tier", verdict: Verdict::Ok, found, advice: None }
}

//! How the daemon is, in a word and at length: alive, ready, and what `taffrail status` shows.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use taffrail_common::kind::KINDS;

use super::metrics::Sources;
use super::process::{self, Process};
use crate::clock;
use crate::probe::ProbeState;
use crate::probe::hook::Status;
use crate::talk;

/// A stage that has not come round for this long is stuck. The disk may take its time.
const STALL: Duration = Duration::from_secs(30);

/// The canary is sent every 15 s; without one for this long, nothing is seen.
pub const CANARY_MAX: Duration = Duration::from_secs(50);

/// The stages that make no progress: name, and for how long.
pub fn stalled(sources: &Sources) -> Vec<String> {
    let vitals = &sources.vitals;
    let record = &sources.log.stats().pulse;
    let stuck = |name: &str, silent: Duration| {
        (silent > STALL).then(|| format!("{name}: no progress for {} s", silent.as_secs()))
    };
    // The thread of the log may have nothing to do for long.
    let stages = [
        ("receive", vitals.receive.silent_for().unwrap_or_default()),
        ("match", vitals.matching.silent_for().unwrap_or_default()),
        ("record", record.busy_for()),
    ];
    stages.into_iter().filter_map(|(name, silent)| stuck(name, silent)).collect()
}

/// What is missing for the daemon to be of use.
pub fn lacking(sources: &Sources) -> Vec<String> {
    let mut lacking = stalled(sources);
    if !sources.probes.iter().any(|probe| probe.status == Status::Attached) {
        lacking.push("no probe is attached".to_owned());
    }
    if sources.vitals.in_force().sha256.is_empty() {
        lacking.push("no rules are loaded".to_owned());
    }
    match canary_age(sources) {
        None => lacking.push("no canary was seen yet".to_owned()),
        Some(age) if age > CANARY_MAX => {
            lacking.push(format!("no canary was seen for {} s: are the probes attached?", age.as_secs()));
        }
        Some(_) => {}
    }
    lacking
}

/// How long ago the canary was seen last; `None` if never.
pub fn canary_age(sources: &Sources) -> Option<Duration> {
    let seen_ns = sources.vitals.canary.seen_ns.get();
    (seen_ns > 0).then(|| Duration::from_nanos(clock::boot_ns().saturating_sub(seen_ns)))
}

/// A probe's state in a word.
pub fn state_of(probe: &ProbeState) -> &'static str {
    match probe.status {
        Status::Attached if Some(probe.program) == probe.hook.fallback => "fallback",
        Status::Attached => "attached",
        Status::NotNeeded => "not_needed",
        Status::Replaced(_) => "replaced",
        Status::Failed(_) => "failed",
    }
}

/// All of it, for programs.
pub fn to_json(sources: &Sources) -> Value {
    let Sources { vitals, log, exporters, probes, rings, calls, remotes, listen, node } = sources;
    let (stats, process, rules) = (log.stats(), Process::read(), vitals.in_force());
    let sum =
        |read: fn(&crate::vitals::OfKind) -> u64| vitals.kinds.iter().take(KINDS).map(read).sum::<u64>();
    let by_rule = vitals.rules();
    let uptime = process.map(|of| clock::boot_ns().saturating_sub(of.start_ns) / 1_000_000_000);
    let since = |boot_ns: u64| {
        if boot_ns == 0 { 0.0 } else { clock::boot_ns().saturating_sub(boot_ns) as f64 / 1e9 }
    };
    let failed: Vec<Value> = probes
        .iter()
        .filter_map(|probe| match &probe.status {
            Status::Failed(why) => Some(json!({
                "probe": probe.hook.program, "reason": why, "not_seen": probe.hook.blinds,
            })),
            _ => None,
        })
        .collect();
    let count = |state: &str| probes.iter().filter(|probe| state_of(probe) == state).count();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "node": node,
        "uptime_s": uptime,
        "live": stalled(sources).is_empty(),
        "ready": lacking(sources).is_empty(),
        "lacking": lacking(sources),
        "canary_age_s": canary_age(sources).map(|age| age.as_secs()),
        "probes": {
            "attached": count("attached") + count("fallback"), "fallback": count("fallback"),
            "not_needed": count("not_needed"), "replaced": count("replaced"), "failed": failed,
        },
        "rules": {
            "count": rules.rules, "sha256": rules.sha256, "last_reload_ok": !rules.is_refused,
            "alerts": by_rule.values().map(|of| of.alerts).sum::<u64>() + calls.alerts(),
            "throttled": by_rule.values().map(|of| of.suppressed).sum::<u64>(),
        },
        "events": {
            "received": sum(|of| of.handled.get()), "offered": sum(|of| of.offered.get()),
            "lost": sum(|of| of.lost.get()),
        },
        "rings": rings.iter().map(|ring| (ring.name.to_owned(), json!({ "used_bytes": ring.used(), "size_bytes": ring.size }))).collect::<serde_json::Map<_, _>>(),
        "processes": vitals.processes.get(),
        "log": {
            "seq": log.seq(), "queue_bytes": log.queued_bytes(),
            "lost_records": stats.failed.load(Ordering::Relaxed),
            "unsigned_records": stats.unsigned.load(Ordering::Relaxed),
            "tamper_window_s": since(stats.unsigned_since_ns.load(Ordering::Relaxed)),
        },
        "exporters": exporters.iter().map(|of| json!({
            "name": of.name, "lag": log.seq().saturating_sub(of.seq.get()), "failing": of.failing.get() > 0,
            "sent": of.sent.get(), "failed": of.failed.get(), "refused": of.refused.get(), "dropped": of.dropped.get(),
        })).collect::<Vec<_>>(),
        "process": process.map(|of| json!({
            "cpu_s": of.cpu_seconds, "resident_bytes": of.resident_bytes as u64, "threads": of.threads as u64,
            "open_fds": process::open_fds().map(|count| count as u64),
        })),
        "api": { "listen": listen.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.to_string()) },
        "servers": remotes.iter().map(|of| json!({
            "name": of.what, "answered": of.answered.get(), "failed": of.failed.get(), "error": of.why_away(),
        })).collect::<Vec<_>>(),
        "log_level": talk::level(),
    })
}

/// The same for people, from what the daemon has sent: other versions may tell less.
pub fn to_text(status: &Value) -> String {
    let text = |path: &str| match status.pointer(path) {
        Some(Value::String(text)) => crate::event::text::escaped(text.as_bytes()),
        Some(Value::Null) | None => "?".to_owned(),
        Some(value) => value.to_string(),
    };
    let list = |path: &str| status.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let word = |is: &str| if text(is) == "true" { "yes" } else { "NO" };
    let mut lines = vec![
        format!(
            "taffrail {} on {}, pid {}, for {} s",
            text("/version"),
            text("/node"),
            text("/pid"),
            text("/uptime_s")
        ),
        format!("live {}, ready {}", word("/live"), word("/ready")),
    ];
    for lacking in list("/lacking") {
        lines.push(format!(
            "  {}",
            crate::event::text::escaped(lacking.as_str().unwrap_or_default().as_bytes())
        ));
    }
    let failed = list("/probes/failed");
    lines.push(format!("probes     {} attached, {} failed", text("/probes/attached"), failed.len()));
    for probe in failed {
        let part =
            |name: &str| crate::event::text::escaped(probe[name].as_str().unwrap_or_default().as_bytes());
        lines.push(format!("  {}: {}; not seen: {}", part("probe"), part("reason"), part("not_seen")));
    }
    let reload = if text("/rules/last_reload_ok") == "true" { "" } else { "; the last ones were REFUSED" };
    lines.push(format!(
        "rules      {} in force, {} alerts, {} throttled{reload}",
        text("/rules/count"),
        text("/rules/alerts"),
        text("/rules/throttled")
    ));
    lines.push(format!("events     {} received, {} lost", text("/events/received"), text("/events/lost")));
    lines.push(format!(
        "log        record {}, {} unsigned, {} bytes wait, {} records lost",
        text("/log/seq"),
        text("/log/unsigned_records"),
        text("/log/queue_bytes"),
        text("/log/lost_records")
    ));
    for exporter in list("/exporters") {
        let part =
            |name: &str| crate::event::text::escaped(exporter[name].to_string().trim_matches('"').as_bytes());
        let failing = if exporter["failing"] == true { ", FAILING" } else { "" };
        lines.push(format!("exporter   {}: {} records behind{failing}", part("name"), part("lag")));
    }
    for server in list("/servers") {
        let name = crate::event::text::escaped(server["name"].as_str().unwrap_or_default().as_bytes());
        let error = server["error"].as_str().map(|error| crate::event::text::escaped(error.as_bytes()));
        let how =
            error.map_or("answers, or was not asked yet".to_owned(), |error| format!("FAILING: {error}"));
        lines.push(format!("server     {name}: {how}"));
    }
    lines.push(format!(
        "process    {} bytes of memory, {} s of CPU, {} threads; log level {}",
        text("/process/resident_bytes"),
        text("/process/cpu_s"),
        text("/process/threads"),
        text("/log_level")
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::testing::sources;

    #[test]
    fn daemon_is_ready_once_a_canary_was_seen_and_not_when_none_comes_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let (mut sources, _log) = sources(folder.path());
        assert_eq!(
            lacking(&sources),
            ["no probe is attached", "no rules are loaded", "no canary was seen yet"]
        );
        sources.probes = vec![ProbeState {
            hook: &crate::probe::HOOKS[0],
            program: crate::probe::HOOKS[0].program,
            status: Status::Attached,
            wanted: 0,
            kinds: 0,
            verified_instructions: None,
        }];
        let (rules, _) = crate::rules::RuleSet::load(&crate::rules::embedded()).unwrap();
        sources.vitals.put_in_force(&rules);
        let canary = &sources.vitals.canary;
        canary.seen_ns.set(clock::boot_ns());
        assert_eq!(lacking(&sources), [""; 0]);
        canary.seen_ns.set(clock::boot_ns() - 61_000_000_000);
        assert_eq!(lacking(&sources), ["no canary was seen for 61 s: are the probes attached?"]);
    }

    #[test]
    fn stage_that_does_not_come_round_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (sources, _log) = sources(folder.path());
        assert_eq!(stalled(&sources), [""; 0]);
        sources.vitals.matching.begin();
        assert_eq!(stalled(&sources), [""; 0]);
        sources.vitals.matching.seem_silent_for(Duration::from_secs(31));
        assert_eq!(stalled(&sources), ["match: no progress for 31 s"]);
    }

    #[test]
    fn status_is_told_to_people_whatever_an_exporter_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let (sources, _log) = sources(folder.path());
        let mut status = to_json(&sources);
        status["exporters"][0]["name"] = "a\u{1b}[31m".into();
        let text = to_text(&status);
        assert!(text.contains("live yes, ready NO") && text.contains("no probe is attached"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(to_text(&Value::Null).contains("live NO, ready NO"));
    }
}

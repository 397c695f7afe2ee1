//! A node's life for some time: the daemon with what a user would switch on, under mixed load, looked at every few seconds
//! and judged at the end. `cargo xtask soak` runs it; `docs/soak.md` says what is judged and has the figures of an hour.
//!
//! usage: soak MINUTES
#![allow(clippy::unwrap_used, reason = "what the tests share is used here too")]

mod judge;
mod ledger;
mod load;
mod page;
#[allow(dead_code, reason = "the tests of exporters use more of it")]
#[path = "../../../tests/export/receiver.rs"]
mod receiver;
mod sample;
#[allow(dead_code, reason = "the tests of exporters use more of it")]
#[path = "../../../tests/export/stage.rs"]
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use taffrail_tests::daemon::{Daemon, taffrail};
use taffrail_tests::net::Certificates;

use judge::Verdict;
use ledger::Ledger;
use load::Node;
use receiver::{Program, rsyslog};
use sample::{Metrics, Sample};
use stage::Receiver as _;

/// How often the daemon is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often the log is read.
const READ: Duration = Duration::from_millis(200);
/// The receiver is away for some of this time, at its end.
const OUTAGE_EVERY: Duration = Duration::from_secs(120);
const OUTAGE: Duration = Duration::from_secs(25);
/// The daemon's settings for its log.
const SEGMENT_BYTES: u64 = 8 << 20;
const RETENTION_BYTES: u64 = 64 << 20;
const TOKEN: &str = "a-token-for-who-soaks-0123456789";
/// The figures in the docs are those of this time.
const PAGE_MINUTES: u64 = 60;

/// Somebody wants it to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

fn main() -> ExitCode {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, interrupt as extern "C" fn(i32) as libc::sighandler_t) };
    }
    let minutes = std::env::args().nth(1).and_then(|text| text.parse().ok());
    match minutes.context("usage: soak MINUTES").and_then(soak) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs it; tells whether all is well.
fn soak(minutes: u64) -> Result<bool> {
    if let Some(reason) = taffrail_tests::cannot_trace() {
        bail!("cannot soak here: {reason}");
    }
    ensure!(receiver::unpacked().is_some(), "no rsyslog: run `cargo xtask setup`");
    let certificates = Certificates::new();
    let mut rsyslog = rsyslog(&certificates);
    rsyslog.start();
    let (daemon, rules) = daemon(&certificates, rsyslog.port)?;
    let said = daemon.said();
    let port = said.split_once("the API listens at 127.0.0.1:").and_then(|(_, rest)| rest.lines().next());
    let port: u16 = port.context("the daemon does not listen")?.parse()?;
    let ledger = Mutex::new(Ledger::new(&daemon.log()));
    let ca = certificates.path("ca.pem");
    let scrape = || Metrics::scrape(port, &ca, TOKEN);
    eprintln!("the daemon {} is soaked for {minutes} minutes", daemon.pid());

    let (log, is_over) = (daemon.log(), AtomicBool::new(false));
    let node = Node { ledger: &ledger, is_over: &is_over, log: &log, rules: &rules };
    let samples = std::thread::scope(|threads| {
        let mut parts = vec![("a flood of processes", threads.spawn(|| load::flood(&node)))];
        for (name, part) in load::PARTS {
            let node = &node;
            parts.push((
                name,
                threads
                    .spawn(move || part(node).inspect_err(|_| node.is_over.store(true, Ordering::Relaxed))),
            ));
        }
        let samples = watch(&daemon, &node, &mut rsyslog, &scrape, Duration::from_secs(minutes * 60));
        is_over.store(true, Ordering::Relaxed);
        for (name, part) in parts {
            // What it waits for is in the log.
            while !part.is_finished() {
                ledger.lock().unwrap().read_log()?;
                std::thread::park_timeout(READ);
            }
            part.join().map_err(|_| anyhow::anyhow!("{name}: a panic"))?.context(name)?;
        }
        samples
    })?;
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");

    let mut verdicts = judge::daemon(&samples, RETENTION_BYTES + 4 * SEGMENT_BYTES);
    verdicts.push(at_rest(&scrape)?);
    let said = daemon.said();
    verdicts.push(Verdict::that("it did not panic", !said.contains("panicked"), String::new()));
    let folder = daemon.end(libc::SIGTERM);
    let log = folder.path().join("log");
    let mut ledger = ledger.into_inner()?;
    drain(&mut rsyslog, &mut ledger)?;
    let position: serde_json::Value = serde_json::from_slice(&std::fs::read(log.join("export/siem.json"))?)?;
    verdicts.extend(judge::told(&mut ledger, position["seq"].as_u64().unwrap_or_default()));
    let verified = taffrail(&["audit", "verify"]).arg(&log).output()?;
    verdicts.push(Verdict::that("the log verifies", verified.status.success(), String::new()));
    for wrong in ledger.wrong.iter().take(20) {
        eprintln!("wrong: {wrong}");
    }
    let page = page::page(minutes, &samples, &verdicts, &ledger);
    println!("{}", page.figures);
    let is_fine = verdicts.iter().all(|verdict| verdict.is_fine);
    if is_fine && minutes >= PAGE_MINUTES {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/soak.md"), page.whole())?;
    }
    if !is_fine {
        eprintln!("the daemon said:\n{said}");
    }
    Ok(is_fine)
}

/// The daemon, and where its rule file is.
fn daemon(certificates: &Certificates, siem: u16) -> Result<(Daemon, PathBuf)> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("rules"))?;
    let rules = folder.path().join("rules/local.yaml");
    std::fs::write(certificates.folder.path().join("tokens"), format!("soak {TOKEN}\n"))?;
    let file = |name: &str| certificates.path(name);
    let record =
        "container.id != host and (evt.kind in (exec, exit, connect, dns) or evt.is_open_write = true)";
    let config = format!(
        "log:\n  segment_bytes: {SEGMENT_BYTES}\n  retention_bytes: {RETENTION_BYTES}\n  key_interval_s: 300\n  record: {record}\n\
         rules: {{local: {}}}\n\
         api: {{listen: '127.0.0.1:0', cert_file: {}, key_file: {}, tokens_file: {}}}\n\
         export:\n  siem: {{to: 'syslog+tls://localhost:{siem}', ca_file: {}}}\n",
        rules.display(),
        file("server.pem"),
        file("server.key"),
        file("tokens"),
        file("ca.pem")
    );
    std::fs::write(folder.path().join("config.yaml"), config)?;
    Ok((Daemon::start_in(folder, &[]), rules))
}

/// Looks at the daemon, reads its log and takes the receiver away, for that time or until something goes wrong.
fn watch(
    daemon: &Daemon,
    node: &Node<'_>,
    rsyslog: &mut Program,
    scrape: &dyn Fn() -> Result<Metrics>,
    time: Duration,
) -> Result<Vec<Sample>> {
    let (start, mut samples, mut is_away) = (Instant::now(), Vec::new(), false);
    while start.elapsed() < time {
        if node.is_over.load(Ordering::Relaxed) || INTERRUPTED.load(Ordering::Relaxed) {
            break;
        }
        node.ledger.lock().unwrap().read_log()?;
        let at = start.elapsed();
        if samples.last().is_none_or(|last: &Sample| at >= last.at + LOOK) {
            samples.push(Sample::take(daemon.pid(), &daemon.log(), &scrape()?, at)?);
        }
        let is_time = at.as_nanos() % OUTAGE_EVERY.as_nanos() > (OUTAGE_EVERY - OUTAGE).as_nanos();
        match (is_time, is_away) {
            (true, false) => drain(rsyslog, &mut node.ledger.lock().unwrap())?,
            (false, true) => rsyslog.start(),
            _ => {}
        }
        is_away = is_time;
        std::thread::park_timeout(READ);
    }
    if is_away {
        rsyslog.start();
    }
    Ok(samples)
}

/// Ends the receiver, and takes in what it has taken.
fn drain(rsyslog: &mut Program, ledger: &mut Ledger) -> Result<()> {
    rsyslog.kill();
    // Whatever arrived was in the log before.
    ledger.read_log()?;
    rsyslog.streams().iter().flatten().for_each(|line| ledger.arrive(line));
    let out = rsyslog.folder.path().join("out");
    if out.exists() {
        std::fs::remove_file(out)?;
    }
    Ok(())
}

/// Once nothing happens any more, what the kernel saw is what was received and what was lost, of each kind. And all is
/// sent.
fn at_rest(scrape: &dyn Fn() -> Result<Metrics>) -> Result<Verdict> {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let page = scrape()?;
        let (rest, lag) = (page.on_their_way(), page.sum("taffrail_export_lag_records"));
        let is_fine = rest.is_empty() && lag == 0.0;
        if is_fine || Instant::now() > end {
            let found = format!(
                "{} seen by the kernel, {} received, {} lost{}",
                page.sum("taffrail_events_offered_total"),
                page.sum("taffrail_events_total"),
                page.sum("taffrail_events_lost_total"),
                if is_fine { String::new() } else { format!("; {rest:?}, {lag} records behind") }
            );
            return Ok(Verdict::that("the kernel's count is the daemon's, and all is sent", is_fine, found));
        }
        std::thread::park_timeout(Duration::from_millis(300));
    }
}

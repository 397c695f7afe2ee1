//! Measures what watching costs, and writes `docs/performance.md`. All ratios are of runs that were interleaved on
//! one machine; figures are medians. Run by `cargo xtask bench`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

mod operation;

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use taffrail_tests::daemon::{Daemon, binary, records};

use operation::OPERATIONS;

/// Rounds of each measurement; the modes take turns within a round.
const ROUNDS: usize = 9;

/// How the machine is watched. Nothing that is done matches anything, so that only the watching is measured.
const MODES: [(&str, Option<&[&str]>); 4] = [
    ("no daemon", None),
    // Host processes are not in scope: the probes run and turn away.
    ("default rules, not watched", Some(&["log.record=evt.kind = exit and proc.name = nobody"])),
    ("all kinds, not watched", Some(&["log.record=proc.name = nobody"])),
    ("all kinds, watched", Some(&["scope.host=true", "log.record=proc.name = nobody"])),
];

fn main() {
    operation::prepare();
    // In a VM, for another tier or kernel: rows for the page, and nothing else.
    if let [_, tier] = &std::env::args().collect::<Vec<_>>()[..] {
        print!("{}", operations(3, 20, &[format!("probes.tier={tier}")]));
        return;
    }
    if let Some(reason) = taffrail_tests::cannot_trace() {
        eprintln!("cannot measure here: {reason}");
        std::process::exit(2);
    }
    let mut page = String::from(
        "# What watching costs\n\nWritten by `cargo xtask bench`; medians of interleaved runs on one machine. The hook's \
         own floor on this kind of machine is about 75 ns per system call for `sys_exit` (an empty program).\n",
    );
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let _ = writeln!(page, "\nMachine: Linux {}, {cores} cores.\n", release.trim());
    let _ = write!(
        page,
        "## CPU time of one operation, in ns\n\nThe portable tier, on this machine.\n\n{}",
        operations(ROUNDS, 1, &[])
    );
    flood(&mut page);
    // There instructions are counted: from here on it matters little what else the machine does.
    eprintln!("the machine's own figures are there");
    in_vm(&mut page);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");
    std::fs::write(path, &page).unwrap();
    print!("{page}");
}

/// A table of all operations in all modes; `divisor` makes them fewer.
fn operations(rounds: usize, divisor: u32, settings: &[String]) -> String {
    let mut figures = vec![vec![Vec::new(); MODES.len()]; OPERATIONS.len()];
    for round in 0..rounds {
        for (mode, (_, own)) in MODES.iter().enumerate() {
            let daemon = own.map(|own| {
                let all: Vec<&str> = own.iter().copied().chain(settings.iter().map(String::as_str)).collect();
                Daemon::start(&all)
            });
            for (operation, (_, times, run)) in OPERATIONS.iter().enumerate() {
                figures[operation][mode].push(cpu_ns_each((times / divisor).max(5), *run));
            }
            drop(daemon);
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    let names: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
    let mut table = format!("| operation | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(MODES.len()));
    for (operation, (name, ..)) in OPERATIONS.iter().enumerate() {
        let medians: Vec<f64> = figures[operation].iter_mut().map(|figures| median(figures)).collect();
        let _ = write!(table, "| {name} | {:.0} |", medians[0]);
        for watched in &medians[1..] {
            let _ = write!(table, " {:+.0} |", watched - medians[0]);
        }
        table.push('\n');
    }
    table
}

/// The kernel of the tables that are made in VMs.
const KERNEL: &str = "6.12";

/// The same in VMs that count one nanosecond for each instruction: exact, and comparable between tiers. This program
/// and the daemon have to be static.
fn in_vm(page: &mut String) {
    for tier in ["portable", "strong"] {
        let script =
            format!("mkdir -p /etc; echo x >/etc/passwd; TAFFRAIL_BIN=/vm/taffrail /vm/bench {tier}");
        let output = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/vm/vmrun"))
            .args(["--icount", "0", "--timeout", "1800", "--put"])
            .arg(format!("{}:/vm/taffrail", binary().display()))
            .arg("--put")
            .arg(format!("{}:/vm/bench", std::env::current_exe().unwrap().display()))
            .args([KERNEL, "--", &script])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "the {tier} tier on {KERNEL}: {}", output.status);
        let table = String::from_utf8(output.stdout).unwrap();
        let _ = write!(
            page,
            "\nThe {tier} tier, Linux {KERNEL} in a VM that counts one nanosecond for each instruction.\n\n{table}"
        );
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// CPU time of this process and the children that it has waited for, per operation.
fn cpu_ns_each(times: u32, run: fn(u32)) -> f64 {
    let before = cpu_ns();
    run(times);
    (cpu_ns() - before) / f64::from(times)
}

fn cpu_ns() -> f64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .map(|who| {
            // SAFETY: all bits zero is a valid `rusage`.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: `usage` lives.
            unsafe { libc::getrusage(who, &raw mut usage) };
            let ns = |time: libc::timeval| time.tv_sec as f64 * 1e9 + time.tv_usec as f64 * 1e3;
            ns(usage.ru_utime) + ns(usage.ru_stime)
        })
        .iter()
        .sum()
}

/// One thread opens files as fast as it can: what arrives, and what that costs the daemon.
fn flood(page: &mut String) {
    let times = 1_000_000;
    let daemon = Daemon::start(MODES[3].1.unwrap());
    let before = cpu_seconds(daemon.pid());
    let start = Instant::now();
    operation::open(times);
    let seconds = start.elapsed().as_secs_f64();
    // The rings are empty within a few ticks.
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    let cpu = cpu_seconds(daemon.pid()) - before;
    let rss = rss_mib(daemon.pid());
    let log = daemon.log();
    let lost: u64 = records(&log)
        .iter()
        .filter(|record| record["kind"] == "gap")
        .filter_map(|record| record["count"].as_u64())
        .sum();
    drop(daemon);
    let _ = writeln!(
        page,
        "\n## A flood of opens\n\n{times} opens by one thread in {seconds:.2} s ({:.0} events/s), {lost} of them lost. \
         CPU of the daemon: {:.2} s per million events. RSS of the daemon: {rss:.1} MiB.",
        f64::from(times) / seconds,
        cpu / f64::from(times) * 1e6,
    );
}

/// User and system time of a process, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn rss_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

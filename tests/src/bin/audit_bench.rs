//! Measures what the audit log costs, and writes `docs/performance-audit.md`: records per second of one core with chain, tree
//! and checkpoints, bytes, what packing saves, how often and how long the disk is waited for, and how fast a log is
//! verified. The records are those of a recorded session. Figures are medians. Run by `cargo xtask bench`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use taffrail::audit::read::{Cursor, Step};
use taffrail::audit::segment::{self, Form};
use taffrail::audit::verify::{Wanted, verify};
use taffrail::audit::{Entry, Log, Options, RecordKind, archive};

/// Rounds of each measurement.
const ROUNDS: usize = 5;

/// Records of one round.
const RECORDS: usize = 400_000;

/// Alerts of one round.
const ALERTS: usize = 200;

fn main() {
    let bodies = bodies();
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(&bodies)).collect();
    let median = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut page = format!(
        "# What the audit log costs\n\nWritten by `cargo xtask bench`; medians of {ROUNDS} rounds of {RECORDS} records, those of a \
         recorded session again and again. \"One core\" is by the CPU time of the one thread that does it.\n\nMachine: Linux \
         {}.\n\n| | |\n|---|---|\n",
        release.trim()
    );
    let mut row = |what: &str, figure: String| {
        let _ = writeln!(page, "| {what} | {figure} |");
    };
    row(
        "records written with chain, tree and checkpoints, one core",
        format!("{:.0} per s", median(|round| round.records_per_core)),
    );
    row(
        "the same by the clock, with all waiting for the disk",
        format!("{:.0} per s", median(|round| round.records_per_s)),
    );
    row(
        "bytes of a record",
        format!(
            "{:.0}, {:.0} of them its event's",
            median(|round| round.record_bytes),
            median(|round| round.body_bytes)
        ),
    );
    row(
        "bytes of a record when packed",
        format!(
            "{:.0} (1 : {:.1})",
            median(|round| round.packed_bytes),
            median(|round| round.record_bytes / round.packed_bytes)
        ),
    );
    row(
        "bytes that go to the disk for each byte of a record, before packing",
        format!("{:.3}", median(|round| round.amplification)),
    );
    row(
        "batches made durable (fdatasync) at that speed",
        format!(
            "{:.0} per s, of {:.0} records each",
            median(|round| round.commits_per_s),
            median(|round| round.records_per_commit)
        ),
    );
    row("verified, one core", format!("{:.0} MB/s", median(|round| round.verify)));
    row(
        "verified when packed, one core",
        format!("{:.0} MB/s of plain text", median(|round| round.verify_packed)),
    );
    row("packed, one core", format!("{:.0} MB/s", median(|round| round.pack)));
    row(
        "from an alert to its being durable, alone",
        format!(
            "{:.1} ms, the slowest of a hundred {:.1} ms",
            median(|round| round.alert_ms.0),
            median(|round| round.alert_ms.1)
        ),
    );
    row(
        "the same beside a flood of events",
        format!(
            "{:.1} ms, the slowest of a hundred {:.1} ms",
            median(|round| round.flooded_ms.0),
            median(|round| round.flooded_ms.1)
        ),
    );
    page.push_str(
        "\nWhile events come slower than that there are at most 20 batches a second (`log.commit_interval_ms`), one for each record that is no event, \
         and while nothing happens one a minute (`log.heartbeat_s`).\n",
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance-audit.md");
    std::fs::write(path, &page).unwrap();
    print!("{page}");
}

struct Round {
    records_per_core: f64,
    records_per_s: f64,
    record_bytes: f64,
    body_bytes: f64,
    packed_bytes: f64,
    amplification: f64,
    commits_per_s: f64,
    records_per_commit: f64,
    verify: f64,
    verify_packed: f64,
    pack: f64,
    alert_ms: (f64, f64),
    flooded_ms: (f64, f64),
}

fn round(bodies: &[Vec<u8>]) -> Round {
    // Beside the sources: what is below `/tmp` may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let log = Log::open(options(folder.path())).unwrap();
    let (stats, written, start) = (log.stats(), disk_bytes(), Instant::now());
    let commits = stats.commits.load(Ordering::Acquire);
    let mut body_bytes = 0;
    for n in 0..RECORDS {
        let body = &bodies[n % bodies.len()];
        body_bytes += body.len();
        log.append(Entry { kind: RecordKind::Event, time_ns: n as u64 * 1_000_000, boot_ns: n as u64, body });
    }
    while stats.durable_seq.load(Ordering::Acquire) < RECORDS as u64 {
        std::thread::yield_now();
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), thread_cpu_s("record"));
    let bytes = stats.bytes.load(Ordering::Acquire) as f64;
    let commits = (stats.commits.load(Ordering::Acquire) - commits) as f64;
    let amplification = (disk_bytes() - written) / bytes;
    let alert_ms = alerts(&log, folder.path(), None);
    let flooded_ms = alerts(&log, folder.path(), Some(bodies));
    log.close().unwrap();
    let check = || {
        let before = own_cpu_s();
        let report = verify(folder.path(), &Wanted::default(), &mut |_, _| {}).unwrap();
        assert!(report.tampered.is_empty() && report.incomplete.is_empty(), "{report:?}");
        report.bytes as f64 / 1e6 / (own_cpu_s() - before)
    };
    let plain = check();
    let before = own_cpu_s();
    let (mut from, mut to) = (0, 0);
    for segment in segment::list(folder.path()).unwrap().iter().filter(|segment| segment.form == Form::Plain)
    {
        let packed = archive::pack(segment).unwrap();
        (from, to) = (from + packed.plain_bytes, to + packed.packed_bytes);
    }
    let pack = from as f64 / 1e6 / (own_cpu_s() - before);
    let records = RECORDS as f64;
    Round {
        records_per_core: records / cpu,
        records_per_s: records / wall,
        record_bytes: bytes / records,
        body_bytes: body_bytes as f64 / records,
        packed_bytes: bytes / records * to as f64 / from as f64,
        amplification,
        commits_per_s: commits / wall,
        records_per_commit: records / commits,
        verify: plain,
        verify_packed: check(),
        pack,
        alert_ms,
        flooded_ms,
    }
}

/// How long it takes from an alert until who reads the log has it, durable, in ms: the median, and the slowest but one in a
/// hundred. With a flood, 2000 events go before each.
fn alerts(log: &Log, folder: &Path, flood: Option<&[Vec<u8>]>) -> (f64, f64) {
    let stats = log.stats();
    let mut cursor = Cursor::new(folder, stats.durable_seq.load(Ordering::Acquire) + 1);
    let mut times = Vec::with_capacity(ALERTS);
    for n in 0..ALERTS {
        for body in flood.unwrap_or_default().iter().cycle().take(if flood.is_some() { 2_000 } else { 0 }) {
            log.append(Entry { kind: RecordKind::Event, time_ns: 0, boot_ns: 0, body });
        }
        let marker = format!("\"marker\":{n}}}");
        let start = Instant::now();
        let body = &marker.as_bytes()[..marker.len() - 1];
        log.append(Entry { kind: RecordKind::Alert, time_ns: 0, boot_ns: 0, body });
        loop {
            cursor.set_limit(stats.durable_seq.load(Ordering::Acquire));
            match cursor.next().unwrap() {
                Step::Record { line, .. } if line.ends_with(marker.as_bytes()) => break,
                Step::End => std::thread::yield_now(),
                _ => {}
            }
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    (times[ALERTS / 2], times[ALERTS - ALERTS / 100 - 1])
}

fn options(folder: &Path) -> Options {
    let mut options = Options::new(
        folder.to_owned(),
        "node-17.example".to_owned(),
        "8d0f6b0e-4f0c-4a55-9d53-0d6b3e3f9a11".to_owned(),
    );
    (options.policy.pack, options.policy.retention_bytes) = (false, 0);
    options.policy.heartbeat = Duration::ZERO;
    options
}

/// The members of a recorded session's events.
fn bodies() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/session.ndjson")).unwrap();
    let of = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let members = event
            .as_object()?
            .iter()
            .filter(|(name, _)| ["event", "process", "container"].contains(&name.as_str()));
        let members: Vec<_> = members.map(|(name, value)| format!("\"{name}\":{value}")).collect();
        (members.len() == 3).then(|| members.join(",").into_bytes())
    };
    let bodies: Vec<_> = text.lines().filter_map(of).collect();
    assert!(!bodies.is_empty());
    bodies
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// CPU time of this thread, in s.
fn own_cpu_s() -> f64 {
    schedstat(Path::new("/proc/thread-self"))
}

/// CPU time of the thread of that name, in s.
fn thread_cpu_s(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_it = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    tasks.filter(is_it).map(|task| schedstat(&task)).sum()
}

fn schedstat(task: &Path) -> f64 {
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Bytes that this process has caused to be written to disks.
fn disk_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

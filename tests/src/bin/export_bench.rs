//! Measures what exporters cost, and writes `docs/performance-export.md`: records per second that one core reads, writes
//! in each format, and sends. Run by `cargo xtask bench`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use taffrail::audit::{Entry, Log, Options, RecordKind};
use taffrail::config;
use taffrail::export::Exporters;
use taffrail::export::format::FORMATS;
use taffrail::export::record::Record;

/// Records of the log that is sent.
const RECORDS: u64 = 200_000;

/// How long one format is measured for.
const SPAN: Duration = Duration::from_millis(700);

/// What an exporter has to do in a second, in OCSF.
const GOAL: f64 = 50_000.0;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let lines = lines(folder.path());
    let bytes: usize = lines.iter().map(String::len).sum::<usize>() / lines.len();
    let mut page = format!(
        "# What exporters cost\n\nWritten by `cargo xtask bench`, on one core. Records are events of all kinds and an alert of each, {bytes} bytes each in the log.\n\n\
         | format | records in a second: read and written | bytes each | sent over TCP as syslog |\n|---|---|---|---|\n"
    );
    for format in FORMATS {
        let (rate, size) = encode(&lines, format.name);
        let sent = if format.name == "otlp" {
            "–".to_owned()
        } else {
            thousands(send(folder.path(), format.name))
        };
        writeln!(page, "| `{}` | {} | {size} | {sent} |", format.name, thousands(rate)).unwrap();
        eprintln!("{}: {rate:.0} written, {sent} sent in a second", format.name);
        if format.name == "ocsf" && rate < GOAL {
            eprintln!("OCSF is slower than {GOAL} in a second");
            std::process::exit(1);
        }
    }
    page.push_str("\nThe last column has all that an exporter does: reading the log, the format, frames, the socket, its position.\n");
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance-export.md"), page).unwrap();
}

fn thousands(rate: f64) -> String {
    format!("{:.0},000", rate / 1000.0)
}

fn open(folder: &Path) -> Log {
    let boot_id = "5c3b2a10-0000-4000-8000-000000000001".to_owned();
    let mut options = Options::new(folder.join("log"), "node-1".to_owned(), boot_id);
    options.policy.pack = false;
    Log::open(options).unwrap()
}

/// A log of all examples of events, each as an event and as an alert, again and again; its lines once.
fn lines(folder: &Path) -> Vec<String> {
    let page = include_str!("../../../docs/reference/examples.md");
    let blocks = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let blocks: Vec<String> = blocks.map(|block| block.replace('\n', "")).collect();
    let common = blocks[0].split_once(",\"process\":").unwrap().1.trim_end_matches('}').to_owned();
    let log = open(folder);
    let mut bodies = Vec::new();
    for block in &blocks {
        let event = block.trim_start_matches('{').trim_end().strip_suffix('}').unwrap();
        let event = if event.contains(",\"process\":") {
            event.to_owned()
        } else {
            format!("{event},\"process\":{common}}}")
        };
        let alert = "\"rule\":\"Shell in a container\",\"priority\":\"Warning\",\"output\":\"a shell (user=root)\",\"tags\":[\"T1059\",\"mitre_execution\"],";
        bodies.push((RecordKind::Alert, format!("{alert}{event}")));
        bodies.push((RecordKind::Event, event));
    }
    for (n, (kind, body)) in (1..=RECORDS).zip(bodies.iter().cycle()) {
        log.append(Entry {
            kind: *kind,
            time_ns: 1_795_521_600_000_000_000 + n,
            boot_ns: n,
            body: body.as_bytes(),
        });
    }
    log.close().unwrap();
    let first = std::fs::File::open(folder.join("log/00000000000000000001.ndjson")).unwrap();
    let lines = BufReader::new(first).lines().map(Result::unwrap);
    lines.filter(|line| line.contains("\"event\":")).take(bodies.len()).collect()
}

/// Records in a second, and their mean size.
fn encode(lines: &[String], name: &str) -> (f64, usize) {
    let format = taffrail::export::format::Format::named(name).unwrap();
    let mut out = Vec::new();
    let (mut count, mut bytes) = (0u64, 0);
    let start = Instant::now();
    while start.elapsed() < SPAN {
        for line in lines {
            out.clear();
            assert!(format.encode(&Record::parse(line.as_bytes()).unwrap(), usize::MAX, &mut out));
            count += 1;
            bytes += out.len();
        }
    }
    (count as f64 / start.elapsed().as_secs_f64(), bytes / count as usize)
}

/// Records in a second that an exporter sends to somebody who only counts.
fn send(folder: &Path, format: &str) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counted = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&counted);
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::with_capacity(1 << 20, stream);
        let (mut length, mut message) = (Vec::new(), Vec::new());
        while stream.read_until(b' ', &mut length).is_ok_and(|read| read > 0) {
            message.resize(std::str::from_utf8(&length).unwrap().trim().parse().unwrap(), 0);
            stream.read_exact(&mut message).unwrap();
            length.clear();
            counting.fetch_add(1, Ordering::Relaxed);
        }
    });
    let settings = folder.join("config.yaml");
    std::fs::write(&settings, format!("export: {{{format}: {{to: 'syslog+tcp://127.0.0.1:{port}', format: {format}, kinds: [alert, event]}}}}")).unwrap();
    let exporters = config::load(Some(&settings), &[]).unwrap().exporters;
    let log = open(folder);
    let start = Instant::now();
    let exporters = Exporters::start(&exporters, &folder.join("log"), &log.durable(), |_, _| ()).unwrap();
    while counted.load(Ordering::Relaxed) < RECORDS {
        assert!(start.elapsed() < Duration::from_secs(120), "{format}: it takes too long");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let rate = RECORDS as f64 / start.elapsed().as_secs_f64();
    exporters.drain(Duration::from_secs(10));
    rate
}

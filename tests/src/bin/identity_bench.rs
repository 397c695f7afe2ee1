//! Measures what it costs to know whose an event is, and writes `docs/performance-identity.md`: CPU time of enrichment
//! per event and how it grows with the number of containers, and the memory that processes and containers take. All
//! that is compared takes turns within one run; times are medians. Run by `cargo xtask bench`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taffrail::enrich::metadata::Metadata;
use taffrail::enrich::state::Folders;
use taffrail::enrich::{Enricher, Handled, Source};
use taffrail::event::{Event, decode};
use taffrail::testing;
use taffrail_common::event::Header;

/// Rounds of each measurement; what is compared takes turns within a round.
const ROUNDS: usize = 9;

/// How much CPU time one figure is measured for, in ns.
const SPAN_NS: f64 = 50e6;

/// Numbers of containers.
const COUNTS: [usize; 3] = [1, 100, 1_000];

/// Processes of each container.
const PROCESSES: u32 = 10;

/// Processes that are known by their memory.
const MANY: u32 = 8_000;

const SECOND: u64 = 1_000_000_000;

/// Counts what is allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does it all; only a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let mut page = String::from(
        "# What it costs to know whose an event is\n\nWritten by `cargo xtask bench`; medians of interleaved runs; times are \
         CPU time of the one thread that does it all, without decoding, which is measured apart.\n",
    );
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let _ = writeln!(page, "\nMachine: Linux {}.", release.trim());
    times(&mut page);
    memory(&mut page);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance-identity.md");
    std::fs::write(path, &page).unwrap();
    print!("{page}");
}

/// So many containers with their processes, as they are known when their runtimes' files were read.
struct Fleet {
    enricher: Enricher,
    containers: usize,
}

/// Cgroup id of a container.
fn cgroup(container: usize) -> u64 {
    1_000 + container as u64
}

/// Process id and start of a process of a container.
fn process(container: usize, number: u32) -> (u32, u64) {
    (1_000 + container as u32 * PROCESSES + number, SECOND * 100 + container as u64)
}

fn in_cgroup(mut record: Vec<u8>, id: u64) -> Vec<u8> {
    let at = std::mem::offset_of!(Header, cgroup_id);
    record[at..at + 8].copy_from_slice(&id.to_ne_bytes());
    record
}

impl Fleet {
    /// Nobody's yet.
    fn nobody(containers: usize) -> Self {
        let mut enricher = Enricher::new(Source::Live(None), 1 << 20);
        let none = || Vec::new();
        let folders = Folders { docker: none(), podman: none(), containerd: none(), oci: none() };
        enricher.set_runtimes(folders, Duration::ZERO);
        let mut fleet = Self { enricher, containers };
        // Who makes the containers is there before them.
        fleet.handle(&testing::exec(1, 1, (0, 0), "/sbin/init", &["/sbin/init"]));
        fleet.enricher.take_findings();
        fleet
    }

    fn new(containers: usize) -> Self {
        let mut fleet = Self::nobody(containers);
        for container in 0..containers {
            fleet.make_container(container, &testing::metadata());
            for number in 0..PROCESSES {
                fleet.exec(container, number, &["/usr/bin/server", "--config", "/etc/server.conf"]);
            }
        }
        fleet.enricher.take_findings();
        fleet
    }

    fn make_container(&mut self, container: usize, metadata: &Metadata) {
        let path = format!("/docker/{container:064x}");
        let record = in_cgroup(testing::cgroup(1, 1, (cgroup(container), &path), false), 0);
        self.handle(&record);
        let known = self.enricher.container_of(cgroup(container)).unwrap();
        known.metadata.set(metadata.clone());
        known.metadata.settle();
    }

    fn exec(&mut self, container: usize, number: u32, args: &[&str]) {
        let (tgid, start) = process(container, number);
        self.handle(&in_cgroup(testing::exec(tgid, start, (1, 0), args[0], args), cgroup(container)));
    }

    fn handle(&mut self, record: &[u8]) {
        let event = decode(record).unwrap();
        assert!(self.enricher.is_ready(&event));
        assert_ne!(self.enricher.handle(&event), Handled::Duplicate);
    }

    /// Records of one kind, one of each process in turn.
    fn records(&self, of: Kind) -> Vec<Vec<u8>> {
        let all = (0..PROCESSES).flat_map(|number| (0..self.containers).map(move |at| (at, number)));
        all.map(|(container, number)| in_cgroup(of.record(process(container, number)), cgroup(container)))
            .collect()
    }

    /// CPU time that decoding, and decoding and enrichment, take of one event, in ns.
    fn measure(&mut self, records: &[Vec<u8>]) -> (f64, f64) {
        let decoding = per_event(records, |record| std::hint::black_box(decode(record)).is_ok());
        let enricher = &mut self.enricher;
        let both = per_event(records, |record| {
            let event: Event<'_> = decode(record).unwrap();
            let is_ready = enricher.is_ready(&event);
            let handled = enricher.handle(&event);
            enricher.take_findings();
            is_ready && handled != Handled::Duplicate
        });
        (decoding, both)
    }
}

/// A kind of event.
#[derive(Clone, Copy)]
enum Kind {
    Open,
    Connect,
    Exec,
    Fork,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Open, Kind::Connect, Kind::Exec, Kind::Fork];

    fn name(self) -> &'static str {
        match self {
            Kind::Open => "open",
            Kind::Connect => "connect",
            Kind::Exec => "exec",
            Kind::Fork => "fork",
        }
    }

    fn record(self, (tgid, start): (u32, u64)) -> Vec<u8> {
        match self {
            Kind::Open => testing::open(tgid, start, "/var/lib/server/data", 0, 3),
            Kind::Connect => testing::connect(tgid, start, ([10, 0, 0, 1], 443), 0),
            Kind::Exec => {
                let args = ["/usr/bin/server", "--config", "/etc/server.conf"];
                testing::exec(tgid, start, (1, 0), args[0], &args)
            }
            // The same child each time: the table does not grow.
            Kind::Fork => testing::fork(tgid, start, (tgid + 1_000_000, start + 1)),
        }
    }
}

/// CPU time of one event, in ns.
fn per_event(records: &[Vec<u8>], mut what: impl FnMut(&[u8]) -> bool) -> f64 {
    let (start, mut count) = (cpu_ns(), 0);
    while cpu_ns() - start < SPAN_NS {
        for record in records {
            assert!(what(record));
        }
        count += records.len();
    }
    (cpu_ns() - start) / count as f64
}

/// CPU time of this thread: others on the machine do not count.
fn cpu_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What enrichment takes of an event's time.
fn times(page: &mut String) {
    let mut fleets = COUNTS.map(Fleet::new);
    let mut all = COUNTS.map(|_| Kind::ALL.map(|_| (Vec::new(), Vec::new())));
    for _ in 0..ROUNDS {
        for (fleet, figures) in fleets.iter_mut().zip(&mut all) {
            for (kind, (decoding, enriching)) in Kind::ALL.iter().zip(figures) {
                let records = fleet.records(*kind);
                let (before, both) = fleet.measure(&records);
                decoding.push(before);
                enriching.push(both - before);
            }
        }
    }
    let _ = write!(
        page,
        "\n## Time\n\nNanoseconds per event in enrichment (whose it is, process table, lineage), with {PROCESSES} processes in each \
         container that act in turn: with a thousand, hardly anything is in the processor's caches when its turn comes. \
         In brackets: decoding.\n\n| containers |"
    );
    for kind in Kind::ALL {
        let _ = write!(page, " {} |", kind.name());
    }
    let _ = writeln!(page, "\n|---|{}", "---|".repeat(Kind::ALL.len()));
    for (count, figures) in COUNTS.iter().zip(all) {
        let _ = write!(page, "| {count} |");
        for (decoding, enriching) in figures {
            let _ = write!(page, " {:.0} ({:.0}) |", median(enriching), median(decoding));
        }
        page.push('\n');
    }
    page.push_str(
        "\nAn exec is copied: its paths and arguments stay in the process table. Here it is also looked for a `passwd` file that is not there, each time, which takes most of that; one that is there is looked at once a second. Whose a cgroup is, is looked up once, when it is made.\n",
    );
}

/// Bytes that stay allocated of what is made, for each of so many.
fn bytes_each(count: usize, make: impl FnOnce()) -> f64 {
    let before = LIVE.load(Ordering::Relaxed);
    make();
    (LIVE.load(Ordering::Relaxed) as f64 - before as f64) / count as f64
}

/// What processes and containers take.
fn memory(page: &mut String) {
    let _ = write!(
        page,
        "\n## Memory\n\nBytes of heap for each, with the tables that they are in.\n\n| | bytes |\n|---|---|\n"
    );
    let mut row = |what: &str, bytes: f64| {
        let _ = writeln!(page, "| {what} | {bytes:.0} |");
    };
    let long = "x".repeat(1_300);
    for (what, args) in [
        ("a process with a usual command line", vec!["/usr/bin/server", "--config", "/etc/server.conf"]),
        ("a process with 4 KiB of arguments", vec!["/usr/bin/server", &long, &long, &long]),
    ] {
        let mut fleet = Fleet::nobody(1);
        fleet.make_container(0, &testing::metadata());
        fleet.enricher.take_findings();
        let bytes = bytes_each(MANY as usize, || {
            for number in 0..MANY {
                fleet.exec(0, number, &args);
            }
            fleet.enricher.take_findings();
        });
        row(what, bytes);
    }
    let mut fleet = Fleet::nobody(1);
    fleet.make_container(0, &testing::metadata());
    fleet.exec(0, 0, &["/usr/bin/server"]);
    let (parent, start) = process(0, 0);
    let bytes = bytes_each(MANY as usize, || {
        for number in 1..=MANY {
            let child = (parent + number, start + u64::from(number));
            fleet.handle(&in_cgroup(testing::fork(parent, start, child), cgroup(0)));
        }
        fleet.enricher.take_findings();
    });
    row("a process that forked and runs what its parent does", bytes);
    for (what, metadata) in [
        ("a container with usual metadata", testing::metadata()),
        ("a container with all that is kept", full()),
    ] {
        for count in COUNTS {
            let mut fleet = Fleet::nobody(count);
            let bytes = bytes_each(count, || {
                (0..count).for_each(|container| fleet.make_container(container, &metadata));
                fleet.enricher.take_findings();
            });
            row(&format!("{what}, of {count}"), bytes);
        }
    }
}

/// Metadata with as much as is taken in of what a hostile image can bring: labels beyond the bound.
fn full() -> Metadata {
    let mut metadata = testing::metadata();
    let text = "x".repeat(1_000);
    let labels: Vec<(String, String)> = (0..4).map(|n| (format!("label{n}"), text.clone())).collect();
    metadata.labels = labels.into();
    metadata.user = Some(text.clone());
    metadata.root = Some(text);
    metadata
}

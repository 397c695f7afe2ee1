//! Measures searching the log, and writes `docs/performance-search.md`: a log of a gigabyte of events of 200 containers,
//! packed but for its last segment, and how long searches take in it by the real time. Run by `cargo xtask bench`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use taffrail::audit::archive::pack;
use taffrail::audit::query::Query;
use taffrail::audit::search::{Options, Order, Outcome, search};
use taffrail::audit::segment::Segment;
use taffrail::clock::rfc3339;
use taffrail::rules::Filter;

/// Bytes of the log.
const BYTES: u64 = 1 << 30;

/// Bytes of a segment: the default.
const SEGMENT: usize = 64 << 20;

/// Rounds of each measurement, of which the median counts.
const ROUNDS: usize = 5;

/// Containers, each of which is busy for a while in turn with some others, as batch jobs are, and of which every tenth
/// always is.
const CONTAINERS: u64 = 200;

fn main() {
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let (records, packing, packed_bytes) = write(folder.path());
    let mut page = String::from(
        "# What searching costs\n\nWritten by `cargo xtask bench`: real time, medians; the files are in the page cache.\n",
    );
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let _ = writeln!(page, "\nMachine: Linux {}, {cores} cores.\n", release.trim());
    let _ = writeln!(
        page,
        "The log: {:.2} GB in {records} records of {} bytes, in {CONTAINERS} containers. Packing it, with its index, took {:.1} s of one \
         core per GB and left {:.1} % of the bytes.\n",
        gb(BYTES),
        BYTES / records,
        packing.as_secs_f64() / gb(BYTES),
        100.0 * packed_bytes as f64 / BYTES as f64,
    );
    page.push_str("| search | records found | of the blocks read | s per GB of log | without index |\n|---|---|---|---|---|\n");
    let middle = records / 2;
    let container = id(7);
    let searches = [
        ("one file, `fd.name = …`", format!("fd.name = /var/lib/app/{middle}.db")),
        ("a container that ran for a while", format!("container.id = {}", &container[..12])),
        ("that one's shells", format!("container.id = {} and proc.name = sh", &container[..12])),
        ("a program that nobody ran", "proc.name = xmrig".to_owned()),
        ("text within a name, `fd.name contains …`", format!("fd.name contains {middle}.d")),
        ("what no text is looked for, `proc.pid = …`", format!("proc.pid = {}", 1000 + middle % 30_000)),
    ];
    for (name, condition) in searches {
        let query = Query::all().with_condition(Filter::from_text(&condition, "bench").unwrap()).unwrap();
        row(&mut page, folder.path(), name, &query);
    }
    let ns = |record: u64| Some(START_NS + record * STEP_NS);
    row(
        &mut page,
        folder.path(),
        "a thousandth of the time",
        &Query::all().between(ns(middle), ns(middle + records / 1000)),
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance-search.md");
    std::fs::write(path, &page).unwrap();
    print!("{page}");
}

fn row(page: &mut String, folder: &Path, name: &str, query: &Query) {
    let (with, outcome) = median(folder, query, true);
    let (without, _) = median(folder, query, false);
    let Outcome { found, read, spared, .. } = outcome;
    let part = 100.0 * read as f64 / (read + spared) as f64;
    let per_gb = |time: Duration| time.as_secs_f64() / gb(BYTES);
    let _ =
        writeln!(page, "| {name} | {found} | {part:.1} % | {:.3} | {:.3} |", per_gb(with), per_gb(without));
}

fn median(folder: &Path, query: &Query, with_index: bool) -> (Duration, Outcome) {
    let options = Options { order: Order::OldestFirst, with_index };
    let mut rounds: Vec<(Duration, Outcome)> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let outcome = search(folder, query, options, &mut |_| Ok(true)).unwrap();
            (start.elapsed(), outcome)
        })
        .collect();
    rounds.sort_by_key(|(time, _)| *time);
    rounds.swap_remove(ROUNDS / 2)
}

const START_NS: u64 = 1_795_600_800_000_000_000;

/// Time from one record to the next: 1,000 a second.
const STEP_NS: u64 = 1_000_000;

/// Writes the log; returns how many records there are, how long packing took, and the bytes of all files then.
fn write(folder: &Path) -> (u64, Duration, u64) {
    let (mut seq, mut bytes) = (0, 0);
    let mut segments = Vec::new();
    while bytes < BYTES {
        let segment = Segment::new(folder, seq + 1);
        let mut text = String::with_capacity(SEGMENT + 4096);
        while text.len() < SEGMENT && bytes + (text.len() as u64) < BYTES {
            seq += 1;
            record(seq, &mut text);
        }
        bytes += text.len() as u64;
        std::fs::File::create(&segment.path).unwrap().write_all(text.as_bytes()).unwrap();
        segments.push(segment);
    }
    let start = Instant::now();
    for segment in &segments[..segments.len() - 1] {
        pack(segment).unwrap();
    }
    let packing = start.elapsed();
    let sizes = folder.read_dir().unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    (seq, packing, sizes.sum())
}

fn id(container: u64) -> String {
    format!("{:016x}", container.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(4)
}

fn record(seq: u64, out: &mut String) {
    // A number that looks like chance, and the hash of a chain that cannot be packed.
    let mixed = (seq ^ seq >> 7)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(31)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let prev: String =
        (0..4).map(|n| format!("{:016x}", mixed.wrapping_mul(2 * n + 3).rotate_left(n as u32))).collect();
    let time = rfc3339(START_NS + seq * STEP_NS);
    let time = std::str::from_utf8(time.as_bytes()).unwrap();
    let always = mixed % (CONTAINERS / 10) * 10;
    let in_turn = (seq / 20_000 * 8 + mixed % 8) % CONTAINERS;
    let container = if mixed.is_multiple_of(3) { in_turn } else { always };
    let (name, id) = (
        ["nginx", "postgres", "redis-server", "node", "java", "sh"][(mixed >> 8) as usize % 6],
        id(container),
    );
    let pid = 1000 + seq % 30_000;
    let event = match mixed >> 16 & 3 {
        0 => format!(
            "\"kind\":\"connect\",\"type\":\"connect\",\"result\":0,\"fd\":{},\"family\":2,\"family_name\":\"AF_INET\",\"protocol\":\"tcp\",\
             \"remote_ip\":\"10.{}.{}.7\",\"remote_port\":5432,\"local_ip\":\"10.0.0.2\",\"local_port\":{},\"address_source\":\"socket\"",
            mixed % 90,
            mixed >> 20 & 255,
            mixed >> 28 & 255,
            32_768 + mixed % 20_000
        ),
        _ => format!(
            "\"kind\":\"open\",\"type\":\"openat\",\"result\":{},\"file\":\"/var/lib/app/{seq}.db\",\"file_ino\":{},\"file_dev\":\"0:52\",\
             \"file_flags\":[\"upper_layer\"],\"flags\":33345,\"flags_names\":[\"O_WRONLY\",\"O_CREAT\",\"O_TRUNC\",\"O_LARGEFILE\"],\
             \"mode\":\"100644\",\"links\":1,\"owner\":0",
            mixed % 90,
            mixed >> 33
        ),
    };
    let _ = writeln!(
        out,
        "{{\"seq\":{seq},\"prev\":\"{prev}\",\"kind\":\"event\",\"time\":\"{time}\",\"boot_ns\":{},\"node\":\"node-1\",\
         \"boot_id\":\"5c3b2a10-0000-4000-8000-000000000001\",\"event\":{{{event}}},\"process\":{{\"key\":\"{pid}-{}\",\"pid\":{pid},\"vpid\":{},\
         \"tid\":{pid},\"name\":\"{name}\",\"exe\":\"/usr/bin/{name}\",\"cmdline\":\"{name} --config /etc/{name}.conf\",\"uid\":0,\"gid\":0,\
         \"login_uid\":-1,\"user\":\"root\",\"group\":\"root\",\"cgroup_id\":{},\"mnt_ns\":4026532001,\"pid_ns\":4026532000,\
         \"parent_key\":\"1-1\",\"parent_name\":\"init\",\"parent_exe\":\"/sbin/init\"}},\"container\":{{\"id\":\"{id}\",\"runtime\":\"containerd\",\
         \"name\":\"app-{container}\",\"image\":\"registry.example/shop/app:{}\",\"cgroup_path\":\"/kubepods/{id}\"}}}}",
        seq * STEP_NS,
        pid * 7,
        pid % 500,
        1000 + container,
        container % 7
    );
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

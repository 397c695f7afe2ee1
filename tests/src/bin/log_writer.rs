//! Writes an audit log until somebody kills it. Of each record that is durable its number is told on stdout, after the fact.
//! Arguments: folder of the log, seed.
#![allow(clippy::unwrap_used, reason = "a program of a test that cannot go on has failed")]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use taffrail::audit::{Entry, Log, Options, RecordKind};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, seed] = arguments.as_slice() else { panic!("arguments: FOLDER SEED") };
    let mut options = Options::new(PathBuf::from(folder), "node".to_owned(), seed.clone());
    let policy = &mut options.policy;
    // All that can be going on when the end comes: new keys, new segments, packing.
    (policy.key_interval, policy.segment_bytes) = (Duration::from_millis(3), 64 << 10);
    (policy.commit_interval, policy.min_free_bytes) = (Duration::from_millis(1), 0);
    policy.checkpoint_records = 50;
    let log = Log::open(options).unwrap();
    let mut out = std::io::stdout().lock();
    let mut n = 0_u64;
    loop {
        let body = format!("\"marker\":{n},\"text\":\"{}\"", "x".repeat((n * 37 % 300) as usize));
        let kind = if n.is_multiple_of(7) { RecordKind::Alert } else { RecordKind::Event };
        log.append(Entry { kind, time_ns: n, boot_ns: n, body: body.as_bytes() });
        writeln!(out, "{}", log.stats().durable_seq.load(Ordering::Acquire)).unwrap();
        n += 1;
    }
}

//! A log whose writer is killed again and again, at any moment.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use taffrail::audit::verify::{Report, Wanted, verify};

/// How often it is killed.
const KILLS: u64 = 1_000;

/// How long a writer lives at most once it has begun to write.
const LIFE_US: u64 = 4_000;

/// After so many of them the whole log is looked at; in between its end is, by the next start.
const EACH: u64 = 50;

fn check(folder: &Path) -> Report {
    verify(folder, &Wanted::default(), &mut |_, _| {}).unwrap()
}

#[test]
fn thousand_kills_lose_nothing_that_was_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut luck = 0x9e37_79b9_7f4a_7c15_u64;
    let mut durable = 0;
    for round in 1..=KILLS {
        let mut writer = Command::new(env!("CARGO_BIN_EXE_log_writer"))
            .arg(folder.path())
            .arg(round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(writer.stdout.take().unwrap()).lines();
        luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let is_early = luck >> 60 == 0;
        // One in sixteen does not live to write its first record.
        let mut last = if is_early { None } else { told.next() };
        let end = Instant::now() + Duration::from_micros((luck >> 32) % LIFE_US);
        while Instant::now() < end && last.is_some() {
            last = told.next();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        for line in last.into_iter().chain(told) {
            // The last line may be half a number, which is a smaller one.
            durable = line.unwrap().parse().unwrap_or(0).max(durable);
        }
        if round % EACH == 0 {
            let report = check(folder.path());
            assert!(report.tampered.is_empty(), "after {round} kills: {report:#?}");
            assert!(report.last_seq >= durable, "after {round} kills: {durable} was durable: {report:#?}");
            assert!(report.epochs.iter().all(|epoch| epoch.is_signed), "{report:#?}");
        }
    }
    let report = check(folder.path());
    assert!(report.kinds["recovery"] > KILLS / 2, "{report:#?}");
    assert!(report.incomplete.len() == 1 && report.epochs.len() > 100, "{:?}", report.incomplete);
    let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/verify_log.py");
    match Command::new("python3").arg(oracle).arg(folder.path()).stdout(Stdio::null()).status() {
        Ok(status) => assert_eq!(status.code(), Some(2)),
        Err(error) => taffrail::testing::skipped(
            "thousand_kills_lose_nothing_that_was_durable",
            format_args!("oracle: {error}"),
        ),
    }
}

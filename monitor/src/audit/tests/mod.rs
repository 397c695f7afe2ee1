//! The log against crashes, full disks and tampering. What is written here is real files in a real folder.

mod crash;
mod full;
mod oracle;
mod tamper;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::verify::{Report, Wanted, verify};
use super::{Entry, Log, OpenError, Options, RecordKind};

pub(super) fn options(folder: &Path) -> Options {
    let mut options = Options::new(folder.to_owned(), "n\"1\n".to_owned(), "boot".to_owned());
    let policy = &mut options.policy;
    (policy.segment_bytes, policy.retention_bytes, policy.min_free_bytes) = (1 << 20, 0, 0);
    (policy.commit_interval, policy.heartbeat) = (Duration::from_millis(1), Duration::ZERO);
    options.policy.pack = false;
    options.retry = Duration::from_millis(1);
    options
}

pub(super) fn write(options: Options, bodies: impl IntoIterator<Item = String>) {
    let log = Log::open(options).unwrap();
    for (n, body) in bodies.into_iter().enumerate() {
        let kind = if n % 3 == 0 { RecordKind::Alert } else { RecordKind::Event };
        log.append(Entry { kind, time_ns: n as u64, boot_ns: n as u64, body: body.as_bytes() });
    }
    log.close().unwrap();
}

pub(super) fn bodies(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("\"n\":{n},\"text\":\"{}\"", "x".repeat(n % 50)))
}

/// A log of a few records, and its one segment.
fn small() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    write(options(folder.path()), bodies(4));
    let segment = folder.path().join("00000000000000000001.ndjson");
    (folder, segment)
}

fn check(folder: &Path) -> Report {
    verify_with(folder, &Wanted::default())
}

fn verify_with(folder: &Path, wanted: &Wanted) -> Report {
    verify(folder, wanted, &mut |_, _| {}).unwrap()
}

fn whole(report: &Report) -> bool {
    report.tampered.is_empty() && report.incomplete.is_empty()
}

#[test]
fn log_goes_on_where_it_ended_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        write(options(folder.path()), bodies(7));
    }
    let report = check(folder.path());
    assert!(whole(&report), "{report:?}");
    // A segment record, a key, and a checkpoint at each end.
    assert_eq!((report.records, report.first_seq, report.last_seq, report.segments), (26, 1, 26, 1));
    assert_eq!((report.checkpoints, report.unsigned, report.epochs.len()), (3, 0, 1));
    assert_eq!(report.notes, []);
}

#[test]
fn segments_are_closed_by_size_and_deleted_by_retention_which_the_log_tells() {
    let folder = tempfile::tempdir().unwrap();
    let mut small = options(folder.path());
    (small.policy.segment_bytes, small.policy.retention_bytes) = (2_000, 20_000);
    for _ in 0..60 {
        write(small.clone(), bodies(10));
    }
    let report = check(folder.path());
    assert!(whole(&report), "{report:?}");
    assert!(report.first_seq > 1 && report.segments > 2);
    assert!(report.kinds["retention"] > 0);
    assert!(report.bytes < 40_000, "{}", report.bytes);
}

#[test]
fn record_that_does_not_fit_is_replaced_by_its_size() {
    let folder = tempfile::tempdir().unwrap();
    write(options(folder.path()), [format!("\"text\":\"{}\"", "x".repeat(600_000))]);
    let report = check(folder.path());
    assert!(whole(&report), "{report:?}");
    assert!(report.bytes < 3_000);
}

#[test]
fn second_writer_is_refused_and_told_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Log::open(options(folder.path())).unwrap();
    let Err(OpenError::Locked { holder, .. }) = Log::open(options(folder.path())) else {
        panic!("not locked")
    };
    assert_eq!(holder, std::process::id().to_string());
}

#[test]
fn keys_of_another_log_are_refused_and_left_as_they_are() {
    let (keys, folders) = (tempfile::tempdir().unwrap(), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let options = |of: usize| {
        let mut options = options(folders[of].path());
        options.policy.key_folder = Some(keys.path().to_owned());
        options
    };
    let log = Log::open(options(0)).unwrap();
    // While it is at work, and later.
    assert!(matches!(Log::open(options(1)), Err(OpenError::Locked { path, .. }) if path == keys.path()));
    log.close().unwrap();
    let Err(OpenError::Keys { log, .. }) = Log::open(options(1)) else { panic!("it is refused") };
    assert_eq!(log, folders[0].path().canonicalize().unwrap().to_str().unwrap());
    write(options(0), bodies(2));
    let report = check(folders[0].path());
    assert!(whole(&report), "{report:?}");
}

#[test]
fn folder_that_cannot_be_is_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().to_owned(), file.path().join("below")] {
        assert!(matches!(Log::open(options(&path)), Err(OpenError::Folder { .. })));
    }
}

#[test]
fn alert_does_not_wait_for_the_commit_interval() {
    let folder = tempfile::tempdir().unwrap();
    // Events would wait for an hour.
    let mut patient = options(folder.path());
    patient.policy.commit_interval = Duration::from_secs(3600);
    let log = Log::open(patient).unwrap();
    let before = check(folder.path()).records;
    let append = |kind| log.append(Entry { kind, time_ns: 0, boot_ns: 0, body: b"" });
    append(RecordKind::Event);
    append(RecordKind::Alert);
    while log.stats().durable_seq.load(Ordering::Acquire) < before + 2 {
        std::thread::yield_now();
    }
    append(RecordKind::Event);
    assert_eq!(check(folder.path()).records, before + 2);
    log.close().unwrap();
    // The event, and the checkpoint that closes the log.
    assert_eq!(check(folder.path()).records, before + 4);
}

#[test]
fn hostile_numbers_do_not_stop_the_verifier() {
    let (folder, segment) = small();
    let text = std::fs::read_to_string(&segment).unwrap();
    let mut bad = text.replacen("\"seq\":3,", "\"seq\":18446744073709551615,", 1);
    let alert = text.lines().find(|line| line.contains("\"alert\"")).unwrap();
    let line = alert.replacen("\"alert\"", "\"retention\"", 1);
    bad.push_str(&line.replacen("\"n\":0", "\"deleted_to_seq\":18446744073709551615", 1));
    bad.push('\n');
    let gap = alert.replacen("\"alert\"", "\"gap\"", 1);
    for _ in 0..2 {
        bad.push_str(&gap.replacen("\"n\":0", "\"count\":18446744073709551615", 1));
        bad.push('\n');
    }
    bad.push_str(&"x".repeat(3 << 20));
    bad.push('\n');
    std::fs::write(&segment, bad).unwrap();
    let report = check(folder.path());
    assert!(report.tampered.iter().any(|problem| problem.message.contains("a line of more than")));
    assert_eq!(report.lost_events, u64::MAX);
}

#[test]
fn folder_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(Log::open(options(folder.path())), Err(OpenError::Open { mode: 0o770, .. })));
}

#[test]
fn folders_and_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("log");
    let mut anchored = options(&folder);
    anchored.policy.anchor = Some(parent.path().join("anchor"));
    write(anchored, bodies(3));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let below =
        |folder: &Path| folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(mode(&folder), 0o700);
    for path in [below(parent.path()), below(&folder), below(&folder.join("keys"))].concat() {
        assert_eq!(mode(&path), if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

#[test]
fn segment_that_is_old_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let mut short = options(folder.path());
    short.policy.segment_age = Duration::from_nanos(1);
    let log = Log::open(short).unwrap();
    let append = |n| log.append(Entry { kind: RecordKind::Alert, time_ns: n, boot_ns: n, body: b"" });
    for n in 0..3 {
        let before = log.stats().commits.load(Ordering::Acquire);
        append(n);
        while log.stats().commits.load(Ordering::Acquire) == before {
            std::thread::yield_now();
        }
    }
    log.close().unwrap();
    let report = check(folder.path());
    assert!(whole(&report), "{report:?}");
    assert!(report.segments >= 3, "{report:?}");
}

#[test]
fn log_in_which_nothing_happens_says_that_it_is_alive() {
    let folder = tempfile::tempdir().unwrap();
    let mut quick = options(folder.path());
    (quick.policy.heartbeat, quick.policy.checkpoint_interval) =
        (Duration::from_millis(1), Duration::from_millis(1));
    let log = Log::open(quick).unwrap();
    while log.stats().durable_seq.load(Ordering::Acquire) < 10 {
        std::thread::yield_now();
    }
    log.close().unwrap();
    let text = std::fs::read_to_string(folder.path().join("00000000000000000001.ndjson")).unwrap();
    assert!(text.contains("\"why\":\"heartbeat\""));
    assert!(whole(&check(folder.path())));
}

#[test]
fn many_records_at_once_are_signed_in_between() {
    let folder = tempfile::tempdir().unwrap();
    let mut often = options(folder.path());
    (often.policy.checkpoint_records, often.policy.commit_interval) = (10, Duration::from_secs(1));
    write(often, bodies(200));
    let report = check(folder.path());
    assert!(whole(&report), "{report:?}");
    assert!(report.checkpoints > 18, "{report:?}");
}

#[test]
fn wall_clock_that_jumps_back_does_not_hurt_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(options(folder.path())).unwrap();
    for time_ns in [5_000_000_000_000_000_000, 0, 7, u64::MAX] {
        log.append(Entry { kind: RecordKind::Event, time_ns, boot_ns: 1, body: b"" });
    }
    log.close().unwrap();
    assert!(whole(&check(folder.path())));
}

#[test]
fn closed_segments_are_packed_and_still_verified_proven_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let mut judge = oracle::Judge::new("closed_segments_are_packed_and_still_verified_proven_and_deleted");
    let mut packing = options(folder.path());
    (packing.policy.pack, packing.policy.segment_bytes) = (true, 4_000);
    let segments = |packed: bool| {
        let segments = super::segment::list(folder.path()).unwrap();
        segments.iter().filter(|segment| (segment.form == super::segment::Form::Packed) == packed).count()
    };
    for _ in 0..8 {
        write(packing.clone(), bodies(10));
    }
    // Each start packs what the end before has left.
    let log = Log::open(packing.clone()).unwrap();
    while segments(false) > 1 {
        std::thread::yield_now();
    }
    log.close().unwrap();
    let report = check(folder.path());
    assert!(whole(&report) && report.segments > 4, "{report:?}");
    assert_eq!(judge.plain(folder.path(), "packed"), 0);
    assert!(super::prove::prove(folder.path(), 5, None).is_ok());
    let mut bad = std::fs::read(folder.path().join("00000000000000000001.ndjson.zst")).unwrap();
    let good = bad.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(folder.path().join("00000000000000000001.ndjson.zst"), bad).unwrap();
    assert!(!check(folder.path()).tampered.is_empty());
    std::fs::write(folder.path().join("00000000000000000001.ndjson.zst"), good).unwrap();
    packing.policy.retention_bytes = 5_000;
    for _ in 0..8 {
        write(packing.clone(), bodies(10));
    }
    let report = check(folder.path());
    assert!(whole(&report) && report.first_seq > 1, "{report:?}");
    assert_eq!(judge.plain(folder.path(), "packed and deleted"), 0);
}

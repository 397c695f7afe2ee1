//! The log against crashes, full disks and tampering. What is written here is real files in a real folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::verify::{Report, verify};
use super::{Entry, Log, OpenError, Options, RecordKind};

pub(super) fn options(folder: &Path) -> Options {
    Options {
        folder: folder.to_owned(),
        segment_bytes: 1 << 20,
        retention_bytes: 0,
        commit_interval: Duration::from_millis(1),
        node: "n\"1\n".to_owned(),
        boot_id: "boot".to_owned(),
    }
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

/// A log of ten records, and its one segment.
fn small() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    write(options(folder.path()), bodies(10));
    let segment = folder.path().join("00000000000000000001.ndjson");
    (folder, segment)
}

fn check(folder: &Path) -> Report {
    verify(folder, None).unwrap()
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
    assert_eq!((report.records, report.first_seq, report.last_seq, report.segments), (21, 1, 21, 1));
    assert_eq!(report.notes, []);
}

#[test]
fn every_changed_bit_is_found_or_changes_the_head() {
    let (folder, segment) = small();
    let good = std::fs::read(&segment).unwrap();
    let head = check(folder.path()).head;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            std::fs::write(&segment, &bad).unwrap();
            // The last record has no successor to hold it: whoever kept the head finds the change.
            let report = verify(folder.path(), Some(&head)).unwrap();
            assert!(!report.tampered.is_empty(), "byte {at}, bit {bit} of {}", good.len());
        }
    }
}

#[test]
fn records_that_are_deleted_doubled_or_swapped_are_found() {
    let (folder, segment) = small();
    let text = std::fs::read_to_string(&segment).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let head = check(folder.path()).head;
    let refused = |lines: &[&str], what: &str| {
        std::fs::write(&segment, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let report = verify(folder.path(), Some(&head)).unwrap();
        assert!(!report.tampered.is_empty(), "{what}: {report:?}");
    };
    for n in 0..lines.len() {
        refused(&[&lines[..n], &lines[n + 1..]].concat(), "deleted");
        refused(&[&lines[..n], &lines[n..=n], &lines[n..]].concat(), "doubled");
        if n > 0 {
            let mut swapped = lines.clone();
            swapped.swap(n - 1, n);
            refused(&swapped, "swapped");
        }
    }
    std::fs::write(&segment, &text).unwrap();
    assert!(whole(&verify(folder.path(), Some(&head)).unwrap()));
}

#[test]
fn log_cut_at_any_byte_goes_on_says_so_and_verifies() {
    let (folder, segment) = small();
    let good = std::fs::read(&segment).unwrap();
    for cut in (0..=good.len()).step_by(7) {
        for entry in folder.path().read_dir().unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        std::fs::write(&segment, &good[..cut]).unwrap();
        let lines = good[..cut].iter().filter(|&&byte| byte == b'\n').count() as u64;
        let half = cut > 0 && good[cut - 1] != b'\n';
        write(options(folder.path()), bodies(2));
        let report = check(folder.path());
        assert!(whole(&report), "cut at {cut}: {report:?}");
        assert_eq!(report.kinds.get("recovery").copied().unwrap_or(0), u64::from(half), "cut at {cut}");
        assert_eq!(report.records, lines + 2 + u64::from(half), "cut at {cut}");
    }
}

#[test]
fn whole_lines_that_are_no_records_stay_as_evidence() {
    let (folder, segment) = small();
    let mut text = std::fs::read_to_string(&segment).unwrap();
    text.push_str("{\"garbage\":1}\n");
    std::fs::write(&segment, &text).unwrap();
    write(options(folder.path()), bodies(2));
    assert_eq!(std::fs::read_to_string(&segment).unwrap(), text);
    let report = check(folder.path());
    assert!(!report.tampered.is_empty());
    assert_eq!(report.kinds.get("recovery"), Some(&1));
}

#[test]
fn segments_are_closed_by_size_and_deleted_by_retention_which_the_log_tells() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options { segment_bytes: 2_000, retention_bytes: 20_000, ..options(folder.path()) };
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
    assert!(report.bytes < 1_000);
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
    let log =
        Log::open(Options { commit_interval: Duration::from_secs(3600), ..options(folder.path()) }).unwrap();
    let append = |kind| log.append(Entry { kind, time_ns: 0, boot_ns: 0, body: b"" });
    append(RecordKind::Event);
    append(RecordKind::Alert);
    while log.stats().durable_seq.load(Ordering::Acquire) < 2 {
        std::thread::yield_now();
    }
    append(RecordKind::Event);
    assert_eq!(check(folder.path()).records, 2);
    log.close().unwrap();
    assert_eq!(check(folder.path()).records, 3);
}

#[test]
fn hostile_numbers_do_not_stop_the_verifier() {
    let (folder, segment) = small();
    let text = std::fs::read_to_string(&segment).unwrap();
    let mut bad = text.replacen("\"seq\":3,", "\"seq\":18446744073709551615,", 1);
    let line = text.lines().next().unwrap().replacen("\"alert\"", "\"retention\"", 1);
    bad.push_str(&line.replacen("\"n\":0", "\"deleted_to_seq\":18446744073709551615", 1));
    bad.push('\n');
    let gap = text.lines().next().unwrap().replacen("\"alert\"", "\"gap\"", 1);
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

/// A file system of 256 KiB, taken off when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, std::io::Error> {
        let folder = tempfile::tempdir()?;
        let target = std::ffi::CString::new(folder.path().to_str().unwrap_or_default())?;
        // SAFETY: all are C strings that live.
        let result = unsafe {
            libc::mount(c"none".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=256k".as_ptr().cast())
        };
        if result == 0 { Ok(Self(folder)) } else { Err(std::io::Error::last_os_error()) }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let target = std::ffi::CString::new(self.0.path().to_str().unwrap_or_default()).unwrap_or_default();
        // SAFETY: a C string that lives.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn full_disk_keeps_alerts_counts_events_and_says_so_once_there_is_room() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(error) => {
            crate::testing::skipped(
                "full_disk_keeps_alerts_counts_events_and_says_so_once_there_is_room",
                format_args!("mount: {error}"),
            );
            return;
        }
    };
    let ballast = disk.0.path().join("ballast");
    let log = Log::open(options(disk.0.path())).unwrap();
    let append = |kind, body: &str| log.append(Entry { kind, time_ns: 0, boot_ns: 0, body: body.as_bytes() });
    append(RecordKind::Alert, "\"n\":1");
    while log.stats().durable_seq.load(Ordering::Acquire) < 1 {
        std::thread::yield_now();
    }
    // Fill it to the last byte.
    let _ = std::fs::write(&ballast, vec![0; 1 << 20]);
    for n in 0..100 {
        append(RecordKind::Event, &format!("\"n\":{n},\"text\":\"{}\"", "x".repeat(4000)));
    }
    append(RecordKind::Alert, "\"n\":2");
    while log.stats().failed.load(Ordering::Acquire) < 100 {
        std::thread::yield_now();
    }
    std::fs::remove_file(&ballast).unwrap();
    while log.stats().durable_seq.load(Ordering::Acquire) < 3 {
        std::thread::yield_now();
    }
    log.close().unwrap();
    let report = check(disk.0.path());
    assert!(whole(&report), "{report:?}");
    assert_eq!((report.kinds["alert"], report.kinds["gap"], report.lost_events), (2, 1, 100));
}

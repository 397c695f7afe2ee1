//! Full disks.

use super::*;
use crate::audit::FullDisk;

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
    let folder = disk.0.path().join("log");
    let log = Log::open(options(&folder)).unwrap();
    let append = |kind, body: &str| log.append(Entry { kind, time_ns: 0, boot_ns: 0, body: body.as_bytes() });
    let before = log.stats().durable_seq.load(Ordering::Acquire);
    append(RecordKind::Alert, "\"n\":1");
    while log.stats().durable_seq.load(Ordering::Acquire) <= before {
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
    while log.stats().durable_seq.load(Ordering::Acquire) < before + 3 {
        std::thread::yield_now();
    }
    log.close().unwrap();
    let report = check(&folder);
    assert!(whole(&report), "{report:?}");
    assert_eq!((report.kinds["alert"], report.kinds["gap"], report.lost_events), (2, 1, 100));
}

/// A log on a small disk, of which so many bytes must stay free.
fn on(disk: &SmallDisk, full_disk: FullDisk, min_free_bytes: u64) -> Options {
    let mut options = options(&disk.0.path().join("log"));
    let policy = &mut options.policy;
    (policy.full_disk, policy.min_free_bytes, policy.segment_bytes) = (full_disk, min_free_bytes, 16 << 10);
    options
}

fn disk(test: &str) -> Option<SmallDisk> {
    let mounted = SmallDisk::mount();
    if let Err(error) = &mounted {
        crate::testing::skipped(test, format_args!("mount: {error}"));
    }
    mounted.ok()
}

/// Appends events, each with the batch of its own, until the log has so many bytes or has lost some.
fn flood(log: &Log, bytes: u64) {
    let stats = log.stats();
    let body = format!("\"text\":\"{}\"", "x".repeat(1000));
    while stats.bytes.load(Ordering::Acquire) < bytes && stats.failed.load(Ordering::Acquire) == 0 {
        let before = stats.commits.load(Ordering::Acquire);
        log.append(Entry { kind: RecordKind::Event, time_ns: 0, boot_ns: 0, body: body.as_bytes() });
        while stats.commits.load(Ordering::Acquire) == before && stats.failed.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn on_a_full_disk_events_stop_and_alerts_go_on() {
    let Some(disk) = disk("on_a_full_disk_events_stop_and_alerts_go_on") else { return };
    let log = Log::open(on(&disk, FullDisk::StopEvents, 128 << 10)).unwrap();
    flood(&log, u64::MAX);
    let before = log.stats().durable_seq.load(Ordering::Acquire);
    log.append(Entry { kind: RecordKind::Alert, time_ns: 0, boot_ns: 0, body: b"" });
    while log.stats().durable_seq.load(Ordering::Acquire) == before {
        std::thread::yield_now();
    }
    log.close().unwrap();
    let report = check(&disk.0.path().join("log"));
    assert!(whole(&report), "{report:?}");
    assert_eq!((report.kinds["alert"], report.kinds["gap"], report.lost_events), (1, 1, 1));
    assert!(report.kinds["event"] > 10);
}

#[test]
fn on_a_full_disk_the_oldest_segments_go_and_the_log_tells() {
    let Some(disk) = disk("on_a_full_disk_the_oldest_segments_go_and_the_log_tells") else { return };
    let log = Log::open(on(&disk, FullDisk::DropOldest, 64 << 10)).unwrap();
    // Four times what there is room for.
    flood(&log, 1 << 20);
    assert_eq!(log.stats().failed.load(Ordering::Acquire), 0);
    log.close().unwrap();
    let report = check(&disk.0.path().join("log"));
    assert!(whole(&report), "{report:?}");
    assert!(report.first_seq > 500, "{report:?}");
    assert!(report.kinds["retention"] > 0);
}

#[test]
fn disk_that_others_have_filled_to_the_last_byte_loses_old_segments_and_no_events() {
    let test = "disk_that_others_have_filled_to_the_last_byte_loses_old_segments_and_no_events";
    let Some(disk) = disk(test) else { return };
    let log = Log::open(on(&disk, FullDisk::DropOldest, 4 << 10)).unwrap();
    flood(&log, 128 << 10);
    // It stops where there is no room any more.
    let _ = std::fs::write(disk.0.path().join("ballast"), vec![0; 1 << 20]);
    flood(&log, 160 << 10);
    assert_eq!(log.stats().failed.load(Ordering::Acquire), 0);
    log.close().unwrap();
    let report = check(&disk.0.path().join("log"));
    assert!(whole(&report), "{report:?}");
    assert!(report.first_seq > 1 && report.kinds["retention"] > 0, "{report:?}");
}

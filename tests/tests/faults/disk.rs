//! A disk that has no room left for the log, and has it again later.

use std::path::{Path, PathBuf};

use serde_json::Value;
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, records, taffrail, wait_for};
use taffrail_tests::{cannot_trace, raw, skip};

/// Size of the disk.
const DISK_BYTES: u64 = 24 << 20;
/// Files that the container writes before the disk is full, while it is, and afterwards.
const FILES: u64 = 2_000;

/// A disk of its own for the log.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        std::fs::create_dir(at).unwrap();
        raw::mount("disk", at.to_str().unwrap(), "tmpfs", 0, &format!("mode=700,size={DISK_BYTES}")).unwrap();
        Self(at.to_owned())
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all room but so many bytes.
    fn fill(&self, but: u64) {
        let path = raw::name(self.0.to_str().unwrap());
        // SAFETY: all zeros are a valid value.
        let mut free: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the name ends with NUL, and the structure is ours to write to.
        assert_eq!(unsafe { libc::statvfs(path.as_ptr(), &raw mut free) }, 0);
        let room = free.f_bavail * free.f_frsize;
        std::fs::write(self.ballast(), vec![0; room.saturating_sub(but) as usize]).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let path = raw::name(self.0.to_str().unwrap());
        // SAFETY: the name ends with NUL.
        let unmounted = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        assert!(unmounted == 0 || std::thread::panicking(), "{}", std::io::Error::last_os_error());
    }
}

/// Records that could not be written, as the running daemon says.
fn lost_records(daemon: &Daemon) -> u64 {
    let mut status = taffrail(&["status", "--json", "--config"]);
    status.arg(daemon.config()).args(["-o", &format!("log.dir={}", daemon.log().display())]);
    let status: Value = serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
    status["log"]["lost_records"].as_u64().unwrap()
}

/// Fills the disk while a container writes files. `left` is how much room is left, `min_free` the daemon's setting.
fn fill_up(left: u64, min_free: &str, why: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), "").unwrap();
    let disk = Disk::mount(&folder.path().join("log"));
    let record = "log.record=container.id != host and evt.kind = open and fd.name startswith /tmp/m-";
    let min_free = format!("log.min_free_bytes={min_free}");
    let daemon = Daemon::start_in(folder, &[record, &min_free, "rules.embedded=false"]);
    let container = Container::start("disk").unwrap();
    let write = |part: &str| {
        container
            .sh(&format!(
                "i=0; while [ $i -lt {FILES} ]; do : >/tmp/m-{part}; i=$((i+1)); done; : >/tmp/m-{part}-end"
            ))
            .unwrap();
    };
    write("before");
    daemon.wait_for(|record| record["event"]["file"] == "/tmp/m-before-end");
    disk.fill(left);
    write("full");
    wait_for(|| (lost_records(&daemon) > 0).then_some(())).expect("what is not recorded is counted at once");
    disk.make_room();
    write("after");
    daemon.wait_for(|record| record["event"]["file"] == "/tmp/m-after-end");
    let (code, report) = crate::verify(&daemon.log());
    assert_eq!(code, Some(0), "{report}");
    let log = daemon.log();
    let _folder = daemon.end(libc::SIGTERM);
    let records = records(&log);
    let (code, report) = crate::verify(&log);
    assert_eq!(code, Some(0), "{report}");
    drop(disk);
    let events = records.iter().filter(|record| record["kind"] == "event");
    let seen = events.filter(|record| record["container"]["id"] == container.id()).count() as u64;
    let gaps = records.iter().filter(|record| record["kind"] == "gap" && record["where"] == "log");
    let gaps: Vec<_> = gaps.collect();
    let lost: u64 = gaps.iter().filter_map(|gap| gap["records"]["event"].as_u64()).sum();
    assert!(gaps.iter().any(|gap| gap["why"] == why), "{gaps:?}");
    assert_eq!(seen + lost, 3 * (FILES + 1), "{seen} seen, {lost} lost: {gaps:?}");
    assert!(lost > 0 && seen >= 2 * FILES, "{seen} seen, {lost} lost");
}

#[test]
fn disk_that_is_full_to_the_last_byte_costs_what_is_counted_and_no_more() {
    if let Some(reason) = cannot_trace() {
        skip!("disk_that_is_full_to_the_last_byte_costs_what_is_counted_and_no_more", "{reason}");
    }
    fill_up(64 << 10, "0", "error");
}

#[test]
fn disk_with_less_room_than_is_to_be_kept_free_takes_no_events_until_there_is_more() {
    if let Some(reason) = cannot_trace() {
        skip!("disk_with_less_room_than_is_to_be_kept_free_takes_no_events_until_there_is_more", "{reason}");
    }
    fill_up(2 << 20, "4MiB", "full_disk");
}

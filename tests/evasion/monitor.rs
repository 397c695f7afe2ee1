//! Attacks on the monitor itself: flood it, or use the time when it does not run.

use taffrail_tests::raw::open;
use taffrail_tests::sandbox::{Options, Sandbox};
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::scaled;
use crate::stage::{Object, Stage};

#[test]
fn container_that_floods_cannot_hide_what_another_one_does() {
    let trick = "monitor: one container floods with 1,000,000 opens, another opens once";
    // The flood is not recorded: it is the kernel's ring and the daemon that it is to fill, not the disk.
    let settings = ["log.record=container.id != host and not fd.name = /etc/hosts"];
    let Some(stage) = Stage::with(trick, &settings, Options::default()) else { return };
    let flood = Sandbox::new().unwrap();
    let count = scaled(1_000_000);
    let flooding = flood.spawn(move || {
        let path = c"/etc/hosts";
        for _ in 0..count {
            let file = syscall!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY, 0)?;
            syscall!(libc::SYS_close, file)?;
        }
        Ok(())
    });
    let mut flooding = flooding.unwrap();
    // In the middle of it, several times.
    let mut tried = Vec::new();
    while tried.len() < 50 && !flooding.is_over().unwrap() {
        tried.push(stage.play(|| Object::of(&open("/etc/shadow", libc::O_RDONLY)?)).unwrap());
    }
    flooding.wait().unwrap();
    let rounds = tried.len();
    let ending = stage.end();
    assert!(rounds > 2, "the flood was over at once");
    let seen = tried
        .iter()
        .filter(|open| ending.opened(open.pid, &open.value, "/etc/shadow").0 == Verdict::Seen)
        .count();
    let lost = ending.lost("open") as usize;
    ending.judge(match (seen, lost) {
        (seen, _) if seen == rounds => (Verdict::Seen, "each open of the other container".to_owned()),
        (seen, lost) if seen + lost >= rounds => {
            (Verdict::LossReported, "seen and lost are all that there were".to_owned())
        }
        (seen, lost) => (Verdict::Missed, format!("{seen} of {rounds} seen, {lost} lost")),
    });
}

/// Plays so many opens while the daemon stands still.
#[track_caller]
fn stopped(trick: &'static str, offered: u64) {
    let Some(stage) = Stage::set(trick) else { return };
    stage.daemon.signal(libc::SIGSTOP);
    let tried = stage.play(|| {
        let mut last = None;
        for _ in 0..offered {
            last = Some(Object::of(&open("/etc/shadow", libc::O_RDONLY)?)?);
        }
        last.ok_or_else(|| std::io::Error::other("nothing was opened"))
    });
    stage.daemon.signal(libc::SIGCONT);
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let is_one = |record: &&serde_json::Value| {
        record["event"]["file_ino"] == tried.value.ino && record["event"]["file"] == "/etc/shadow"
    };
    let seen = ending.by(tried.pid, "open").filter(is_one).count() as u64;
    let lost = ending.lost("open");
    ending.judge(match (seen, lost) {
        (seen, 0) if seen == offered => (Verdict::Seen, "each open".to_owned()),
        (seen, 1..) if seen + lost == offered => {
            (Verdict::LossReported, "seen and lost are all that there were".to_owned())
        }
        (seen, lost) => (Verdict::Missed, format!("{seen} seen and {lost} lost of {offered}")),
    });
}

#[test]
fn what_happens_while_the_daemon_is_stopped_is_seen_afterwards() {
    stopped("monitor: daemon stopped (SIGSTOP) while 5,000 files are opened", 5_000);
}

#[test]
fn what_does_not_fit_while_the_daemon_is_stopped_is_counted() {
    stopped("monitor: daemon stopped (SIGSTOP) while more is opened than the ring holds", 60_000);
}

//! Processes that are too short, too many, or want to have another origin or identity.

use std::collections::HashSet;
use std::io;

use serde_json::Value;
use taffrail_tests::raw::open;
use taffrail_tests::sandbox::{fork, unsupported, wait};
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::scaled;
use crate::stage::{Ending, Object, Stage, seen};

fn key_of(ending: &Ending, pid: u32) -> Option<&str> {
    ending.records.iter().find(|record| record["process"]["pid"] == pid)?["process"]["key"].as_str()
}

#[test]
fn ten_thousand_processes_of_less_than_a_millisecond_are_counted_to_the_last() {
    let trick = "process: 10,000 that live less than a millisecond";
    let Some(stage) = Stage::set(trick) else { return };
    let offered = scaled(10_000) as u64;
    let tried = stage.play(|| {
        for _ in 0..offered {
            // SAFETY: no arguments; the child only ends.
            match unsafe { libc::fork() } {
                -1 => return Err(io::Error::last_os_error()),
                // SAFETY: ends this process.
                0 => unsafe { libc::_exit(7) },
                child => wait(child)?,
            };
        }
        Ok(())
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let forks: HashSet<&str> =
        ending.by(tried.pid, "fork").filter_map(|record| record["event"]["child_key"].as_str()).collect();
    let parent = key_of(&ending, tried.pid).unwrap_or_default();
    let exits: HashSet<&str> = ending
        .events("exit")
        .filter(|record| record["process"]["parent_key"] == parent && record["event"]["code"] == 7)
        .filter_map(|record| record["process"]["key"].as_str())
        .collect();
    let lost = [ending.lost("fork"), ending.lost("exit")];
    let told = [forks.len() as u64 + lost[0], exits.len() as u64 + lost[1]];
    let verdict = match (told == [offered; 2], lost == [0; 2]) {
        (true, true) => (Verdict::Seen, "each fork and each exit, with keys of their own".to_owned()),
        (true, false) => (Verdict::LossReported, "seen and lost are all that there were".to_owned()),
        (false, _) => {
            let message = format!("{} forks and {} exits seen, {lost:?} lost", forks.len(), exits.len());
            (Verdict::Missed, message)
        }
    };
    ending.judge(verdict);
}

/// Forks a process whose ids the caller chooses: in the sandbox and on the host. It opens a file and ends. Gives the
/// last bits of the clock tick that it was started in.
fn fork_as(vpid: i32, pid: i32, file: &str) -> io::Result<i32> {
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let ids = [vpid, pid];
    let arguments = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        set_tid: ids.as_ptr() as u64,
        set_tid_size: 2,
        ..CloneArgs::default()
    };
    match syscall!(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>()) {
        Ok(0) => {
            let tick = open(file, libc::O_RDONLY).and_then(|_| start_tick()).map_or(255, |tick| tick % 128);
            // SAFETY: ends this process.
            unsafe { libc::_exit(tick as i32) }
        }
        Ok(child) => Ok(libc::WEXITSTATUS(wait(child as i32)?)),
        Err(error) => Err(error),
    }
}

/// The clock tick that this process was started in: field 22 of its `stat`, of which the third follows the name.
fn start_tick() -> io::Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let field = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(22 - 3));
    field.and_then(|field| field.parse().ok()).ok_or_else(|| io::Error::other("no start in /proc/self/stat"))
}

/// Two processes with the same ids on the host and in the sandbox, in the same tick or not: gives the ids.
fn twice(same_tick: bool) -> io::Result<(i32, i32)> {
    let mut vpid = 9000;
    // Ids that are free on the host: from the top, so that nobody gets them by the way.
    for pid in (20_000..32_000).rev() {
        vpid += 1;
        let first = match fork_as(vpid, pid, "/etc/passwd") {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => continue,
            result => result.map_err(|error| unsupported(format!("no choice of process ids: {error}")))?,
        };
        if !same_tick {
            // Two ticks, so that rounding cannot put both into one.
            let next = now_tick() + 2;
            while now_tick() < next {
                std::thread::yield_now();
            }
        }
        let second = fork_as(vpid, pid, "/etc/hosts")
            .map_err(|error| unsupported(format!("the id could not be had again: {error}")))?;
        if (first == second) == same_tick {
            return Ok((vpid, pid));
        }
    }
    Err(unsupported("no two processes with the same id in one clock tick"))
}

/// The clock tick of now.
fn now_tick() -> u64 {
    taffrail::clock::boot_ns() / 10_000_000
}

#[track_caller]
fn same_id(trick: &'static str, same_tick: bool) {
    let Some(stage) = Stage::set(trick) else { return };
    let Some(tried) = stage.play(|| twice(same_tick)) else { return };
    let (vpid, pid) = tried.value;
    let ending = stage.end();
    let open_of = |file: &str| {
        let found = ending.by_vpid(vpid, "open").find(|record| record["event"]["file"] == file);
        found.map(|record| &record["process"])
    };
    let (Some(one), Some(two)) = (open_of("/etc/passwd"), open_of("/etc/hosts")) else {
        return ending.judge((Verdict::Missed, "an open is missing".to_owned()));
    };
    assert_eq!((&one["pid"], &two["pid"]), (&pid.into(), &pid.into()));
    let exits = ending.by_vpid(vpid, "exit").count();
    let verdict = match (one["key"] != two["key"], exits) {
        (true, 2) => (Verdict::Seen, "two processes with keys of their own".to_owned()),
        (false, _) => (Verdict::Missed, format!("both have the key of one process, with {exits} exits")),
        (true, _) => (Verdict::Missed, format!("two processes, but {exits} exits")),
    };
    ending.judge(verdict);
}

#[test]
fn second_process_with_the_same_id_is_another_one() {
    same_id("process: same id again (clone3 set_tid)", false);
}

#[test]
fn second_process_with_the_same_id_in_the_same_tick_is_another_one() {
    same_id("process: same id again, within the same clock tick (clone3 set_tid)", true);
}

#[test]
fn orphan_keeps_its_origin() {
    let trick = "process: double fork under a subreaper";
    let Some(stage) = Stage::set(trick) else { return };
    let tried = stage.play(|| {
        syscall!(libc::SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1)?;
        let middle = fork(|| {
            // SAFETY: no arguments.
            let started_by = unsafe { libc::getpid() };
            let orphan = fork(|| {
                // SAFETY: no arguments.
                while unsafe { libc::getppid() } == started_by {
                    std::thread::yield_now();
                }
                i32::from(open("/etc/shadow", libc::O_RDONLY).is_err())
            });
            i32::from(orphan.is_err())
        })?;
        wait(middle)?;
        let mut status = 0;
        // SAFETY: the status is ours to write to.
        let orphan = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        assert_eq!(status, 0);
        Ok((middle, orphan))
    });
    let Some(tried) = tried else { return };
    let (middle, orphan) = tried.value;
    let ending = stage.end();
    let origin = ending.by_vpid(middle, "exit").next().map(|record| &record["process"]["key"]);
    let open = ending.by_vpid(orphan, "open").find(|record| record["event"]["file"] == "/etc/shadow");
    let parent = open.map(|record| &record["process"]["parent_key"]);
    ending.judge(seen(origin.is_some() && parent == origin, "the process that started it is its parent"));
}

#[test]
fn credentials_of_one_thread_are_that_threads() {
    let trick = "process: setresuid by system call in one thread only";
    let Some(stage) = Stage::set(trick) else { return };
    let tried = stage.play(|| {
        let plain = open("/etc/passwd", libc::O_RDONLY)?;
        let thread = std::thread::spawn(|| {
            syscall!(libc::SYS_setresuid, 1234, 1234, 1234)?;
            let status = std::fs::read_to_string("/proc/thread-self/status")?;
            assert!(status.contains("Uid:\t1234\t1234"), "{status}");
            Object::of(&open("/etc/hosts", libc::O_RDONLY)?)
        });
        let opened = thread.join().expect("no panic in there")?;
        // SAFETY: no arguments.
        assert_eq!(unsafe { libc::getuid() }, 0, "only the thread has changed");
        drop(plain);
        Ok(opened)
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let uid_of = |file: &str| -> Option<&Value> {
        ending
            .by(tried.pid, "open")
            .find(|record| record["event"]["file"] == file)
            .map(|record| &record["process"]["uid"])
    };
    ending.twin("the user of the main thread", uid_of("/etc/passwd").is_some_and(|uid| *uid == 0));
    ending.judge(seen(
        uid_of("/etc/hosts").is_some_and(|uid| *uid == 1234),
        "the open, with the thread's own user",
    ));
}

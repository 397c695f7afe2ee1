//! The daemon's second wall: what it holds once it is at work, and what the kernel answers to a thread of it that
//! somebody has taken over. That all else works as before, all other tests show: it is confined in them, too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;
use taffrail_tests::daemon::{Daemon, wait_for};
#[cfg(target_arch = "x86_64")]
use taffrail_tests::taken::Taken;
use taffrail_tests::{cannot_trace, skip};

/// Numbers of rights: `DAC_READ_SEARCH` and `SYS_NICE`, which all have.
const ALL: u64 = 1 << 2 | 1 << 23;
const DAC_OVERRIDE: u64 = 1 << 1;
const SYS_PTRACE: u64 = 1 << 19;
const BPF: u64 = 1 << 39;

/// A thread of the daemon.
struct Thread {
    id: i32,
    name: String,
    status: BTreeMap<String, String>,
}

impl Thread {
    /// Whether it looks into other processes.
    fn looks(&self) -> bool {
        ["match", "resolve", "hash"].contains(&self.name.as_str())
    }

    fn rights(&self, which: &str) -> u64 {
        u64::from_str_radix(&self.status[which], 16).unwrap()
    }
}

/// The daemon's threads that there are at least.
const NAMES: &[&str] =
    &["taffrail", "record", "pack", "ask", "resolve", "match", "receive", "ahead", "export x"];

/// All its threads. One has its name only once it runs.
fn threads(daemon: &Daemon) -> Vec<Thread> {
    let all = || {
        let threads = threads_now(daemon);
        NAMES.iter().all(|name| threads.iter().any(|thread| thread.name == *name)).then_some(threads)
    };
    wait_for(all).expect("all threads")
}

/// Those that end meanwhile are none.
fn threads_now(daemon: &Daemon) -> Vec<Thread> {
    let folder = PathBuf::from(format!("/proc/{}/task", daemon.pid()));
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let text = std::fs::read_to_string(path.join("status")).ok()?;
        let pairs = text.lines().filter_map(|line| line.split_once(":\t"));
        let status: BTreeMap<String, String> =
            pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
        let id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        Some(Thread { id, name: status["Name"].clone(), status })
    };
    folder.read_dir().unwrap().filter_map(read).collect()
}

/// A daemon with all sorts of threads. What is beside its log is not its own, but for `out`.
fn daemon(settings: &[&str]) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    for name in ["out", "other"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let config = format!("export: {{x: {{to: 'file://{}/out/x.json'}}}}", folder.path().display());
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    Daemon::start_in(folder, settings)
}

#[test]
fn each_thread_has_only_the_rights_that_it_uses() {
    if let Some(reason) = cannot_trace() {
        skip!("each_thread_has_only_the_rights_that_it_uses", "{reason}");
    }
    let daemon = daemon(&[]);
    for thread in threads(&daemon) {
        let mut allowed = ALL | if thread.looks() { SYS_PTRACE } else { DAC_OVERRIDE };
        // Before Linux 5.19 reading maps takes a right.
        if ["match", "receive", "ahead", "taffrail"].contains(&thread.name.as_str()) {
            allowed |= BPF;
        }
        for which in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let more = thread.rights(which) & !allowed;
            assert_eq!(more, 0, "{}: {which} {more:x}", thread.name);
        }
        assert_eq!(
            (&*thread.status["NoNewPrivs"], &*thread.status["Seccomp"]),
            ("1", "2"),
            "{}",
            thread.name
        );
    }
    let start = daemon.wait_for(|record| record["kind"] == "start");
    assert_eq!(start["confined"]["by"][0], "seccomp", "{start}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn thread_that_is_taken_over_starts_no_program_and_writes_to_own_folders_only() {
    const TEST: &str = "thread_that_is_taken_over_starts_no_program_and_writes_to_own_folders_only";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let error = |number: i32| -i64::from(number);
    let daemon = daemon(&[]);
    let start = daemon.wait_for(|record| record["kind"] == "start");
    if start["confined"]["not"] != json!([]) {
        skip!(TEST, "{}", start["confined"]["not"]);
    }
    let beside = |name: &str| daemon.log().parent().unwrap().join(name);
    let write = (libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC) as u64;
    let here = libc::AT_FDCWD as u64;
    for thread in threads(&daemon) {
        let taken = Taken::new(thread.id).unwrap();
        let call = |number, arguments| taken.call(number, arguments).unwrap();
        for (number, arguments) in [
            (libc::SYS_execve, [0; 6]),
            (libc::SYS_execveat, [0; 6]),
            (libc::SYS_ptrace, [0; 6]),
            (libc::SYS_mount, [0; 6]),
            (libc::SYS_finit_module, [0; 6]),
            (libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
            (libc::SYS_open_by_handle_at, [0, 0, libc::O_RDWR as u64, 0, 0, 0]),
            (libc::SYS_open_by_handle_at, [0, 0, libc::O_RDONLY as u64, 0, 0, 0]),
            (libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]),
            (libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(call(number, arguments), error(libc::EPERM), "{}: {number}", thread.name);
        }
        // To look at a file is what it needs; there is no handle at that address.
        let look = [0, 0, libc::O_PATH as u64, 0, 0, 0];
        assert_eq!(call(libc::SYS_open_by_handle_at, look), error(libc::EFAULT), "{}", thread.name);
        assert_eq!(call(libc::SYS_clone3, [0; 6]), error(libc::ENOSYS), "{}", thread.name);
        // By the number that programs with short pointers have for it.
        assert_eq!(call(0x4000_0000 | libc::SYS_getpid, [0; 6]), error(libc::ENOSYS), "{}", thread.name);
        let make = |name: &str| {
            let path = taken.put(beside(name).to_str().unwrap()).unwrap();
            call(libc::SYS_openat, [here, path, write, 0o600, 0, 0])
        };
        if thread.looks() {
            assert_eq!(make("other/made"), error(libc::EPERM), "{}", thread.name);
            assert_eq!(make("log/made"), error(libc::EPERM), "{}", thread.name);
            let socket = [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0, 0, 0];
            assert_eq!(call(libc::SYS_socket, socket), error(libc::EPERM), "{}", thread.name);
            // `fchmodat2` and `setxattrat`, which this C library has no names for.
            for number in [452, 463] {
                assert_eq!(call(number, [0; 6]), error(libc::EPERM), "{}: {number}", thread.name);
            }
        } else {
            assert_eq!(make("other/made"), error(libc::EACCES), "{}", thread.name);
            for name in ["log/made", "out/made"] {
                let descriptor = make(name);
                assert!(descriptor >= 0, "{}: {name}: {descriptor}", thread.name);
                call(libc::SYS_close, [descriptor as u64, 0, 0, 0, 0, 0]);
            }
        }
        assert!(!beside("other/made").exists(), "{}", thread.name);
    }
    // It has been none the worse for it.
    let (status, records) = daemon.stop();
    assert!(status.success() && records.iter().any(|record| record["kind"] == "stop"));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn daemon_that_is_told_not_to_confine_itself_can_do_all_that_it_may_and_says_so() {
    const TEST: &str = "daemon_that_is_told_not_to_confine_itself_can_do_all_that_it_may_and_says_so";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let daemon = daemon(&["daemon.confine=false"]);
    assert!(
        daemon.said().contains("not confined as it could be: `daemon.confine` is off"),
        "{}",
        daemon.said()
    );
    let start = daemon.wait_for(|record| record["kind"] == "start");
    assert_eq!(start["confined"]["by"], json!([]), "{start}");
    let made = daemon.log().parent().unwrap().join("other/made");
    let thread = threads(&daemon).into_iter().find(|thread| thread.name == "receive").unwrap();
    let taken = Taken::new(thread.id).unwrap();
    // No program has that name.
    assert_eq!(taken.call(libc::SYS_execve, [0; 6]).unwrap(), -i64::from(libc::EFAULT));
    let path = taken.put(made.to_str().unwrap()).unwrap();
    let write = (libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC) as u64;
    assert!(taken.call(libc::SYS_openat, [libc::AT_FDCWD as u64, path, write, 0o600, 0, 0]).unwrap() >= 0);
    assert!(made.exists());
}

//! The daemon's second wall: what it holds once it is at work, and what the kernel answers to a thread of it that
//! somebody has taken over. That all else works as before, all other tests show: it is confined in them, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    // It asks no runtime.
    let nobody = ["docker", "podman", "cri", "containerd"].map(|of| format!("enrich.sockets.{of}=[]"));
    let daemon = daemon(&nobody.each_ref().map(String::as_str));
    let start = daemon.wait_for(|record| record["kind"] == "start");
    if start["confined"]["not"] != json!([]) {
        skip!(TEST, "{}", start["confined"]["not"]);
    }
    let beside = |name: &str| daemon.log().parent().unwrap().join(name).to_str().unwrap().to_owned();
    std::fs::write(beside("other/there"), "").unwrap();
    let write = (libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC) as u64;
    let (here, none) = (libc::AT_FDCWD as u64, u64::MAX);
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
            (libc::SYS_fchmod, [none, 0o777, 0, 0, 0, 0]),
            // `fchmodat2`, `setxattrat` and `file_setattr`, which this C library has no names for.
            (452, [0; 6]),
            (463, [0; 6]),
            (469, [0; 6]),
            // `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR` and `BTRFS_IOC_SUBVOL_CREATE`.
            (libc::SYS_ioctl, [none, 0x4008_6602, 0, 0, 0, 0]),
            (libc::SYS_ioctl, [none, 0x401c_5820, 0, 0, 0, 0]),
            (libc::SYS_ioctl, [none, 0x5000_940e, 0, 0, 0, 0]),
        ] {
            assert_eq!(call(number, arguments), error(libc::EPERM), "{}: {number}", thread.name);
        }
        // To look at a file is what it needs; there is no handle at that address.
        let look = [0, 0, libc::O_PATH as u64, 0, 0, 0];
        assert_eq!(call(libc::SYS_open_by_handle_at, look), error(libc::EFAULT), "{}", thread.name);
        for number in [libc::SYS_clone3, libc::SYS_openat2] {
            assert_eq!(call(number, [0; 6]), error(libc::ENOSYS), "{}: {number}", thread.name);
        }
        // By the number that programs with short pointers have for it.
        assert_eq!(call(0x4000_0000 | libc::SYS_getpid, [0; 6]), error(libc::ENOSYS), "{}", thread.name);
        let open = |path: &str, flags: u64| {
            let path = taken.put(path).unwrap();
            call(libc::SYS_openat, [here, path, flags, 0o600, 0, 0])
        };
        let close = |descriptor: i64| call(libc::SYS_close, [descriptor as u64, 0, 0, 0, 0, 0]);
        let there = open(&beside("other/there"), (libc::O_PATH | libc::O_CLOEXEC) as u64);
        assert!(there >= 0, "{}: {there}", thread.name);
        let refused = error(if thread.looks() { libc::EPERM } else { libc::EACCES });
        let by_descriptor = format!("/proc/self/fd/{there}");
        for (path, flags) in [
            (&beside("other/made"), write),
            // Links of `/proc` lead to other mounts of what is there.
            (&format!("/proc/1/root{}", beside("other/made")), write),
            (&by_descriptor, libc::O_WRONLY as u64),
            (&by_descriptor, libc::O_RDWR as u64),
            (&"/proc/1/mem".to_owned(), libc::O_RDWR as u64),
        ] {
            assert_eq!(open(path, flags), refused, "{}: {path} {flags:o}", thread.name);
        }
        close(there);
        let socket = |family: i32, kind: i32| {
            call(libc::SYS_socket, [family as u64, (kind | libc::SOCK_CLOEXEC) as u64, 0, 0, 0, 0])
        };
        for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
            assert_eq!(socket(libc::AF_UNIX, kind), error(libc::EPERM), "{}: {kind}", thread.name);
        }
        if thread.looks() {
            assert_eq!(open(&beside("log/made"), write), error(libc::EPERM), "{}", thread.name);
            assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM), error(libc::EPERM), "{}", thread.name);
            for (number, arguments) in [
                (libc::SYS_bind, [none, 0, 0, 0, 0, 0]),
                (libc::SYS_connect, [none, 0, 0, 0, 0, 0]),
                (libc::SYS_sendmsg, [none, 0, 0, 0, 0, 0]),
                (libc::SYS_sendto, [none, 0, 0, 0, 1, 0]),
            ] {
                assert_eq!(call(number, arguments), error(libc::EPERM), "{}: {number}", thread.name);
            }
            let to_nobody = call(libc::SYS_sendto, [none, 0, 0, 0, 0, 0]);
            assert_eq!(to_nobody, error(libc::EBADF), "{}", thread.name);
        } else {
            for descriptor in [
                open(&beside("log/made"), write),
                open(&beside("out/made"), write),
                socket(libc::AF_UNIX, libc::SOCK_DGRAM),
                socket(libc::AF_INET, libc::SOCK_STREAM),
            ] {
                assert!(descriptor >= 0, "{}: {descriptor}", thread.name);
                close(descriptor);
            }
        }
        assert!(!Path::new(&beside("other/made")).exists(), "{}", thread.name);
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

//! Effects of other system calls than opens and connects: changes of names and rights, memory that becomes code, reach
//! into other processes, mounts, writes that are no write(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use serde_json::Value;
use taffrail_tests::raw::{self, name, open};
use taffrail_tests::sandbox::{fork, unsupported, wait};
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::stage::{Ending, Stage, doubts, seen};

/// Plays a trick beside its twin; both have an event of that kind of which `is_it` is true.
#[track_caller]
fn effect(
    trick: &'static str,
    kind: &str,
    twin: impl FnOnce() -> io::Result<()>,
    part: impl FnOnce() -> io::Result<()>,
    is_it: impl Fn(&Value) -> bool,
    note: &str,
) {
    let Some(stage) = Stage::set(trick) else { return };
    let plain = stage.play(twin).unwrap();
    let Some(tried) = stage.play(part) else { return };
    let ending = stage.end();
    ending.twin("the event", ending.by(plain.pid, kind).any(|record| is_it(&record["event"])));
    let found = ending.by(tried.pid, kind).find(|record| is_it(&record["event"]));
    ending.judge(match found.map(|record| &record["event"]) {
        Some(event) => {
            let mut doubts = [doubts(event, "file"), doubts(event, "target")].concat();
            doubts.sort_unstable();
            doubts.dedup();
            match doubts.as_slice() {
                [] => (Verdict::Seen, note.to_owned()),
                [..] => (Verdict::Flagged, format!("{note}, {}", doubts.join(", "))),
            }
        }
        None => lost_or_missed(&ending, kind),
    });
}

fn lost_or_missed(ending: &Ending, kind: &str) -> (Verdict, String) {
    match ending.lost(kind) {
        0 => (Verdict::Missed, "not seen".to_owned()),
        _ => (Verdict::LossReported, "lost, and the gap record says so".to_owned()),
    }
}

/// Whether that event is of these names: as they were given, or where the kernel found them.
fn ends_with(event: &Value, member: &str, name: &str) -> bool {
    event[member].as_str().is_some_and(|path| path.ends_with(name))
}

fn is_success(event: &Value) -> bool {
    event["result"].as_i64().is_some_and(|result| result >= 0)
}

#[cfg(target_arch = "x86_64")]
const VICTIM: &CStr = c"/tmp/victim";

#[test]
fn file_that_is_removed_by_a_folders_descriptor_is_named() {
    effect(
        "change: unlinkat relative to a folder's descriptor",
        "change",
        || {
            std::fs::write("/tmp/victim", "")?;
            std::fs::remove_file("/tmp/victim")
        },
        || {
            std::fs::write("/tmp/victim", "")?;
            let folder = open("/tmp", libc::O_PATH)?;
            syscall!(libc::SYS_unlinkat, folder.as_raw_fd(), c"victim".as_ptr(), 0).map(drop)
        },
        |event| {
            let whole = event["file"] == "/tmp/victim";
            let based = event["file"] == "victim" && event["base"] == "/tmp";
            event["type"].as_str().is_some_and(|call| call.starts_with("unlink")) && (whole || based)
        },
        "the removal, with the folder",
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn file_that_is_removed_by_the_32_bit_entry_is_named() {
    use taffrail_tests::raw::compat::{call, low, unavailable};
    effect(
        "change: 32-bit entry, unlink",
        "change",
        || {
            std::fs::write("/tmp/victim", "")?;
            std::fs::remove_file("/tmp/victim")
        },
        || {
            unavailable().map_or(Ok(()), |reason| Err(unsupported(reason)))?;
            const UNLINK: u32 = 10;
            std::fs::write("/tmp/victim", "")?;
            call(UNLINK, &[low(VICTIM.to_bytes_with_nul())?]).map(drop)
        },
        |event| {
            event["file"] == "/tmp/victim"
                && event["type"].as_str().is_some_and(|call| call.starts_with("unlink"))
        },
        "the removal",
    );
}

#[test]
fn file_that_gets_its_name_only_when_it_is_written_is_seen() {
    effect(
        "change: unnamed file (O_TMPFILE) that is linked into place",
        "change",
        || {
            std::fs::write("/tmp/other", "")?;
            std::fs::hard_link("/tmp/other", "/tmp/planted")
        },
        || {
            std::fs::create_dir("/tmp/own")?;
            raw::mount("own", "/tmp/own", "tmpfs", 0, "")?;
            let file = open("/tmp/own", libc::O_TMPFILE | libc::O_WRONLY)
                .map_err(|error| unsupported(format!("no unnamed files: {error}")))?;
            let from = name(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let (here, flags) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
            syscall!(libc::SYS_linkat, here, from.as_ptr(), here, c"/tmp/own/planted".as_ptr(), flags)
                .map(drop)
        },
        |event| {
            event["type"].as_str().is_some_and(|call| call.starts_with("link"))
                && ends_with(event, "target", "planted")
        },
        "the link",
    );
}

#[test]
fn rights_of_a_file_that_are_changed_by_its_descriptor_are_the_files() {
    effect(
        "change: fchmod of a file that was opened under another name",
        "change",
        || {
            std::fs::write("/tmp/victim", "")?;
            let file = open("/tmp/victim", libc::O_RDONLY)?;
            syscall!(libc::SYS_fchmod, file.as_raw_fd(), 0o4755).map(drop)
        },
        || {
            std::os::unix::fs::symlink("/tmp/victim", "/tmp/innocent")?;
            let file = open("/tmp/innocent", libc::O_RDONLY)?;
            syscall!(libc::SYS_fchmod, file.as_raw_fd(), 0o4755).map(drop)
        },
        |event| event["type"] == "fchmod" && event["file"] == "/tmp/victim" && event["file_ino"].is_u64(),
        "the file that is open",
    );
}

#[test]
fn memory_that_is_made_executable_after_it_was_written_is_seen() {
    effect(
        "memory: written first, made executable later",
        "memory",
        || {
            let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            map(access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).map(drop)
        },
        || {
            let at = map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
            syscall!(libc::SYS_mprotect, at, 4096, libc::PROT_READ | libc::PROT_EXEC).map(drop)
        },
        |event| {
            event["args"]["protection"]
                .as_i64()
                .is_some_and(|access| access & i64::from(libc::PROT_EXEC) != 0)
        },
        "the memory that can run",
    );
}

#[test]
fn code_that_is_written_through_one_mapping_and_run_through_another_is_seen() {
    effect(
        "memory: memfd mapped twice, writable here and executable there",
        "memory",
        || {
            let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            map(access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).map(drop)
        },
        || {
            let file = raw::descriptor(syscall!(libc::SYS_memfd_create, c"jit".as_ptr(), 0))?;
            syscall!(libc::SYS_ftruncate, file.as_raw_fd(), 4096)?;
            map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd())?;
            map(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED, file.as_raw_fd()).map(drop)
        },
        |event| {
            event["args"]["protection"]
                .as_i64()
                .is_some_and(|access| access & i64::from(libc::PROT_EXEC) != 0)
        },
        "the executable mapping of the memfd",
    );
}

fn map(access: i32, flags: i32, fd: i32) -> io::Result<i64> {
    syscall!(libc::SYS_mmap, 0, 4096, access, flags, fd, 0)
}

/// A process that waits to be killed.
fn victim() -> io::Result<i32> {
    fork(|| {
        loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        }
    })
}

fn end(pid: i32) -> io::Result<()> {
    // SAFETY: a child that was not waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    wait(pid).map(drop)
}

fn peek(pid: i32, from: &[u8; 8]) -> io::Result<()> {
    let mut bytes = [0u8; 8];
    let to = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 8 };
    let there = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: 8 };
    syscall!(libc::SYS_process_vm_readv, pid, &raw const to, 1, &raw const there, 1, 0)?;
    assert_eq!(&bytes, from);
    Ok(())
}

#[test]
fn memory_that_is_read_through_proc_is_an_open_of_the_other_process() {
    let trick = "access: memory of another process through /proc/PID/mem";
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| {
        let pid = victim()?;
        let read = peek(pid, b"secrets!");
        end(pid)?;
        read
    });
    let twin = twin.unwrap();
    let tried = stage.play(|| {
        let (pid, secret) = (victim()?, b"secrets!");
        let mem = std::fs::File::open(format!("/proc/{pid}/mem"))?;
        let mut bytes = [0; 8];
        let read = std::os::unix::fs::FileExt::read_at(&mem, &mut bytes, secret.as_ptr() as u64);
        end(pid)?;
        assert_eq!((read?, &bytes), (8, secret));
        Ok(pid)
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    ending.twin(
        "the read",
        ending.by(twin.pid, "access").any(|record| record["event"]["type"] == "process_vm_readv"),
    );
    let path = format!("/proc/{}/mem", tried.value);
    let found = ending.by(tried.pid, "open").any(|record| record["event"]["file"] == path);
    ending.judge(seen(found, "the open of `/proc/PID/mem`"));
}

#[test]
fn process_that_is_traced_by_its_own_wish_is_seen() {
    effect(
        "access: traced by its own wish (PTRACE_TRACEME)",
        "access",
        || {
            let pid = victim()?;
            let seized = syscall!(libc::SYS_ptrace, libc::PTRACE_SEIZE, pid, 0, 0);
            end(pid)?;
            seized.map(drop)
        },
        || syscall!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0).map(drop),
        |event| event["type"] == "ptrace",
        "the request",
    );
}

#[test]
fn descriptor_that_is_taken_from_another_process_is_seen() {
    effect(
        "access: descriptor taken with pidfd_getfd",
        "access",
        || {
            let pid = victim()?;
            let read = peek(pid, b"secrets!");
            end(pid)?;
            read
        },
        || {
            let secret = open("/etc/shadow", libc::O_RDONLY)?;
            let pid = victim()?;
            let number = secret.as_raw_fd();
            drop(secret);
            let pidfd = raw::descriptor(syscall!(libc::SYS_pidfd_open, pid, 0));
            let taken = pidfd.and_then(|pidfd| {
                raw::descriptor(syscall!(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0))
            });
            end(pid)?;
            let taken = taken.map_err(|error| unsupported(format!("no pidfd_getfd: {error}")))?;
            let path = std::fs::read_link(format!("/proc/self/fd/{}", taken.as_raw_fd()))?;
            assert_eq!(path.to_str(), Some("/etc/shadow"));
            Ok(())
        },
        |event| {
            is_success(event) && matches!(event["type"].as_str(), Some("process_vm_readv" | "pidfd_getfd"))
        },
        "the taking",
    );
}

#[test]
fn mount_by_the_new_calls_is_a_mount() {
    effect(
        "mount: fsopen, fsmount and move_mount instead of mount",
        "mount",
        || {
            std::fs::create_dir("/tmp/here")?;
            raw::mount("x", "/tmp/here", "tmpfs", 0, "")
        },
        || {
            const FSCONFIG_CMD_CREATE: u32 = 6;
            const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
            let context = raw::descriptor(syscall!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0))?;
            syscall!(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, 0, 0, 0)?;
            let top = raw::descriptor(syscall!(libc::SYS_fsmount, context.as_raw_fd(), 0, 0))?;
            let (fd, here) = (top.as_raw_fd(), libc::AT_FDCWD);
            let (from, to) = (c"".as_ptr(), c"/tmp/here".as_ptr());
            syscall!(libc::SYS_move_mount, fd, from, here, to, MOVE_MOUNT_F_EMPTY_PATH).map(drop)
        },
        |event| event["file"] == "/tmp/here" || event["target"] == "/tmp/here",
        "where it was mounted",
    );
}

#[test]
fn write_through_a_shared_mapping_is_seen() {
    effect(
        "write: through a shared mapping",
        "memory",
        || {
            let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            std::fs::write("/tmp/victim", [0; 4096])?;
            let file = open("/tmp/victim", libc::O_RDWR)?;
            map(access, libc::MAP_SHARED, file.as_raw_fd()).map(drop)
        },
        || {
            let file = open("/tmp/victim", libc::O_RDWR)?;
            let at = map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd())?;
            // SAFETY: the mapping is as large, and writable.
            unsafe { (at as *mut u8).write_volatile(b'!') };
            assert!(std::fs::read("/tmp/victim")?.starts_with(b"!"));
            Ok(())
        },
        |event| event["file"] == "/tmp/victim",
        "the mapping of the file",
    );
}

#[test]
fn write_by_copying_in_the_kernel_is_a_write() {
    effect(
        "write: copy_file_range, without any write",
        "write",
        || std::fs::write("/tmp/victim", "data"),
        || {
            let from = open("/tmp/victim", libc::O_RDONLY)?;
            std::fs::remove_file("/tmp/victim")?;
            let to = open("/tmp/victim", libc::O_CREAT | libc::O_WRONLY)?;
            let copied = syscall!(libc::SYS_copy_file_range, from.as_raw_fd(), 0, to.as_raw_fd(), 0, 4, 0)
                .map_err(|error| unsupported(format!("no copy_file_range here: {error}")))?;
            assert_eq!(copied, 4);
            Ok(())
        },
        |event| event["file"] == "/tmp/victim" && is_success(event),
        "the file that was written",
    );
}

#[test]
fn file_that_another_process_opened_is_named_when_it_is_written() {
    let trick = "write: descriptor passed over a Unix socket (SCM_RIGHTS)";
    let Some(stage) = Stage::set(trick) else { return };
    let tried = stage.play(|| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        // The helper opens, and this process never does.
        let helper = fork(|| {
            let file = open("/tmp/victim", libc::O_CREAT | libc::O_WRONLY);
            let sent = file.and_then(|file| send_descriptor(theirs.as_raw_fd(), file.as_raw_fd()));
            i32::from(sent.is_err())
        })?;
        let received = receive_descriptor(ours.as_raw_fd())?;
        assert_eq!(wait(helper)?, 0);
        io::Write::write_all(&mut std::fs::File::from(received), b"data")?;
        assert_eq!(std::fs::read("/tmp/victim")?, b"data");
        Ok(())
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let found = ending.by(tried.pid, "write").any(|record| record["event"]["file"] == "/tmp/victim");
    ending.judge(if found {
        seen(true, "the write, with the file's path")
    } else {
        lost_or_missed(&ending, "write")
    });
}

/// A control message with one descriptor: its header, and the descriptor in the place behind that.
const CONTROL: usize = 24;

fn send_descriptor(socket: i32, fd: i32) -> io::Result<()> {
    let mut control = [0u64; CONTROL / 8];
    control[0] = 20;
    control[1] = u64::from(libc::SOL_SOCKET as u32) | u64::from(libc::SCM_RIGHTS as u32) << 32;
    control[2] = u64::from(fd as u32);
    with_message(&mut control, |message| syscall!(libc::SYS_sendmsg, socket, message, 0)).map(drop)
}

fn receive_descriptor(socket: i32) -> io::Result<OwnedFd> {
    let mut control = [0u64; CONTROL / 8];
    with_message(&mut control, |message| syscall!(libc::SYS_recvmsg, socket, message, 0))?;
    assert_eq!(control[0], 20, "no descriptor came");
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(control[2] as u32 as i32) })
}

fn with_message(
    control: &mut [u64; CONTROL / 8],
    make: impl FnOnce(*mut libc::msghdr) -> io::Result<i64>,
) -> io::Result<i64> {
    let mut byte = *b"x";
    let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros are a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    make(&raw mut message)
}

#[test]
fn thread_that_changes_its_user_by_system_call_is_the_one_in_the_record() {
    let trick = "cred: setresuid by system call in one thread only";
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| syscall!(libc::SYS_setresuid, 1000, 1000, 0).map(drop)).unwrap();
    let tried = stage.play(|| {
        let thread = std::thread::spawn(|| {
            // SAFETY: no arguments.
            let tid = unsafe { libc::gettid() };
            syscall!(libc::SYS_setresuid, 1234, 1234, 0).map(|_| tid)
        });
        thread.join().expect("no panic in there")
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let change = |pid: u32, uid: u32| {
        ending
            .by(pid, "cred")
            .find(move |record| record["event"]["euid"] == uid && record["event"]["ruid"] == uid)
    };
    ending.twin("the change", change(twin.pid, 1000).is_some());
    let found = change(tried.pid, 1234).map(|record| &record["process"]);
    let other = found.is_some_and(|process| process["tid"] != process["pid"]);
    ending.judge(seen(other, "the change, and which thread it was"));
}

#[test]
fn user_namespace_that_clone_makes_is_seen() {
    let trick = "namespace: made by clone instead of unshare";
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| syscall!(libc::SYS_unshare, libc::CLONE_NEWUSER).map_err(unsupported).map(drop));
    let Some(twin) = twin else { return };
    let tried = stage.play(|| {
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::SIGCHLD;
        match syscall!(libc::SYS_clone, flags, 0, 0, 0, 0)? {
            // SAFETY: ends this process.
            0 => unsafe { libc::_exit(0) },
            child => wait(child as i32),
        }
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    ending.twin(
        "the unshare",
        ending.by(twin.pid, "namespace").any(|record| record["event"]["type"] == "unshare"),
    );
    let wanted = i64::from(libc::CLONE_NEWUSER | libc::CLONE_NEWNET);
    let found = ending
        .by(tried.pid, "fork")
        .any(|record| record["event"]["clone_flags"].as_i64().is_some_and(|flags| flags & wanted == wanted));
    ending.judge(seen(found, "the fork, with its flags"));
}

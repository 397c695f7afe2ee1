//! io_uring: operations that need no system call of their own, and results that need no descriptor.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd as _;

use io_uring::{IoUring, opcode, squeue, types};
use taffrail_tests::raw::{self, open};
use taffrail_tests::sandbox::unsupported;
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::stage::{Ending, Object, Stage, seen};
use crate::swap::ipv4;

const SECRET: &CStr = c"/etc/shadow";
const PLAIN: &str = "/etc/shadow";

fn ring() -> io::Result<IoUring> {
    IoUring::new(8).map_err(|error| unsupported(format!("no io_uring: {error}")))
}

/// Hands in one operation and waits for its result; what the kernel does not know is a reason to skip.
fn submit(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<i32> {
    // SAFETY: callers keep what the entry points to until the result is there.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().ok_or_else(|| io::Error::other("no completion"))?.result();
    match -result {
        libc::EINVAL | libc::EOPNOTSUPP => Err(unsupported("this kernel's io_uring does not do that")),
        1.. => Err(io::Error::from_raw_os_error(-result)),
        _ => Ok(result),
    }
}

fn openat(path: &CStr) -> opcode::OpenAt {
    opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(libc::O_RDONLY)
}

/// How an open by io_uring was seen: as an open, or by its operation's own event with the names it was given.
fn ring_open(ending: &Ending, pid: u32, object: &Object) -> (Verdict, String) {
    let opened = ending.opened(pid, object, PLAIN);
    if opened.0 != Verdict::Missed {
        return opened;
    }
    ring_event(ending, pid, "openat", PLAIN)
}

/// How an operation was seen by its own event.
fn ring_event(ending: &Ending, pid: u32, operation: &str, name: &str) -> (Verdict, String) {
    let named = ending.by(pid, "io_uring").any(|record| {
        let text = record["event"].to_string();
        text.contains(operation) && text.contains(name)
    });
    match named {
        true => (Verdict::Flagged, "the operation with the name that it was given".to_owned()),
        false => (Verdict::Missed, "not seen".to_owned()),
    }
}

/// Plays an open of the secret by io_uring, beside a plain one.
#[track_caller]
fn by_ring(trick: &'static str, part: impl FnOnce() -> io::Result<()>) {
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| Object::of(&open(PLAIN, libc::O_RDONLY)?)).unwrap();
    let Some(tried) = stage.play(part) else { return };
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, PLAIN).0 == Verdict::Seen);
    ending.judge(ring_open(&ending, tried.pid, &twin.value));
}

fn owned_object(fd: i32) -> io::Result<Object> {
    Object::of(&raw::descriptor(Ok(fd.into()))?)
}

#[test]
fn open_by_a_ring_is_an_open() {
    by_ring("io_uring: openat", || {
        let fd = submit(&mut ring()?, &openat(SECRET).build())?;
        assert_eq!(owned_object(fd)?.path(), PLAIN);
        Ok(())
    });
}

#[test]
fn open_by_a_kernel_thread_for_a_ring_is_the_processs() {
    by_ring("io_uring: openat by the kernel's polling thread (SQPOLL)", || {
        let ring = IoUring::builder().setup_sqpoll(2000).build(8);
        let mut ring = ring.map_err(|error| unsupported(format!("no polling thread: {error}")))?;
        let fd = submit(&mut ring, &openat(SECRET).build())?;
        assert_eq!(owned_object(fd)?.path(), PLAIN);
        Ok(())
    });
}

#[test]
fn open_that_leaves_no_descriptor_is_an_open() {
    by_ring("io_uring: openat into a registered slot (no descriptor)", || {
        let mut ring = ring()?;
        ring.submitter()
            .register_files(&[-1; 4])
            .map_err(|error| unsupported(format!("no registered files: {error}")))?;
        let slot = types::DestinationSlot::try_from_slot_target(1).expect("a small number");
        let before = std::fs::read_dir("/proc/self/fd")?.count();
        submit(&mut ring, &openat(SECRET).file_index(Some(slot)).build())?;
        assert_eq!(std::fs::read_dir("/proc/self/fd")?.count(), before, "it has a descriptor");
        let mut text = [0u8; 16];
        let read = opcode::Read::new(types::Fixed(1), text.as_mut_ptr(), text.len() as u32);
        submit(&mut ring, &read.build())?;
        assert!(text.starts_with(b"root:"));
        Ok(())
    });
}

#[test]
fn peer_of_a_connect_by_a_ring_is_seen() {
    let Some(stage) = Stage::with_network("io_uring: connect") else { return };
    let tried = stage.play(|| {
        let _listener = std::net::TcpListener::bind("127.0.0.5:4001")?;
        let socket = raw::descriptor(syscall!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0))?;
        let address = ipv4([127, 0, 0, 5], 4001);
        let connect = opcode::Connect::new(types::Fd(socket.as_raw_fd()), address.as_ptr().cast(), 16);
        submit(&mut ring()?, &connect.build()).map(drop)
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let found = ["connect", "io_uring", "flow"].into_iter().find(|kind| {
        ending.by(tried.pid, kind).any(|record| {
            record["event"]["remote_ip"] == "127.0.0.5" && record["event"]["remote_port"] == 4001
        })
    });
    ending.judge(seen(found.is_some(), format!("the peer, by `{}`", found.unwrap_or_default())));
}

#[test]
fn rename_by_a_ring_is_a_change() {
    let Some(stage) = Stage::set("io_uring: renameat") else { return };
    let tried = stage.play(|| {
        std::fs::write("/tmp/before", "")?;
        let here = types::Fd(libc::AT_FDCWD);
        let rename = opcode::RenameAt::new(here, c"/tmp/before".as_ptr(), here, c"/tmp/after".as_ptr());
        submit(&mut ring()?, &rename.build())?;
        assert!(std::fs::exists("/tmp/after")? && !std::fs::exists("/tmp/before")?);
        Ok(())
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    ending.judge(changed(&ending, tried.pid, "rename", "/tmp/before"));
}

#[test]
fn unlink_by_a_ring_is_a_change() {
    let Some(stage) = Stage::set("io_uring: unlinkat") else { return };
    let tried = stage.play(|| {
        std::fs::write("/tmp/evidence", "")?;
        let unlink = opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), c"/tmp/evidence".as_ptr());
        submit(&mut ring()?, &unlink.build())?;
        assert!(!std::fs::exists("/tmp/evidence")?);
        Ok(())
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    ending.judge(changed(&ending, tried.pid, "unlink", "/tmp/evidence"));
}

/// How a change of names was seen: by its object, by the name that was given, or by its operation.
fn changed(ending: &Ending, pid: u32, operation: &str, name: &str) -> (Verdict, String) {
    let found = ending.by(pid, "change").find(|record| record["event"]["file"] == name);
    match found {
        Some(record) if crate::stage::doubts(&record["event"], "file").is_empty() => {
            (Verdict::Seen, "the change and its object".to_owned())
        }
        Some(_) => (Verdict::Flagged, "the change and the name that it was given, `unverified`".to_owned()),
        None => ring_event(ending, pid, operation, name),
    }
}

//! `write`: the first write to each open file that is a regular one.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use serde_json::json;
use taffrail_tests::sandbox::{Options, in_child};
use taffrail_tests::{raw, syscall};

use crate::{finish, outcome, set, watch};

fn write(file: &OwnedFd, text: &str) -> io::Result<i64> {
    syscall!(libc::SYS_write, file.as_raw_fd(), text.as_ptr(), text.len())
}

fn create(path: &str) -> io::Result<OwnedFd> {
    raw::open(path, libc::O_WRONLY | libc::O_CREAT)
}

#[test]
fn first_write_to_each_open_file_is_told_once() {
    let Some(seen) = watch("first_write_to_each_open_file_is_told_once", || {
        let file = create("/tmp/file")?;
        write(&file, "one")?;
        write(&file, "three")?;
        // The same open file by another number, and in another process.
        write(&file.try_clone()?, "5")?;
        in_child(|| write(&file, "child").map_or(1, |_| 0))?;
        drop(file);
        // Opened again and again: most likely at the same place in the kernel's memory.
        for n in 0..5 {
            write(&create("/tmp/file")?, &"x".repeat(10 + n))?;
        }
        let reader = raw::open("/tmp/file", libc::O_RDONLY)?;
        Ok(outcome(write(&reader, "failed")))
    }) else {
        return;
    };
    assert_eq!(seen.value, -i64::from(libc::EBADF));
    let events = seen.all("write", &json!({"file": "/tmp/file"}));
    let sizes: Vec<_> = events.iter().map(|record| record["event"]["result"].as_i64().unwrap()).collect();
    assert_eq!(sizes, [3, 10, 11, 12, 13, 14]);
    assert!(
        events
            .iter()
            .all(|record| record["event"]["mode"] == "100600" && record["process"]["pid"] == seen.pid)
    );
    let others =
        seen.all("write", &json!({})).into_iter().filter(|record| record["process"]["pid"] == seen.pid);
    assert_eq!(others.count(), 6);
}

#[test]
fn every_call_that_writes_is_told_and_pipes_and_devices_are_not() {
    let Some(seen) = watch("every_call_that_writes_is_told_and_pipes_and_devices_are_not", || {
        let from = raw::open("/etc/passwd", libc::O_RDONLY)?;
        let part = libc::iovec { iov_base: b"vector".as_ptr().cast_mut().cast(), iov_len: 6 };
        let fd = |file: &OwnedFd| file.as_raw_fd();
        syscall!(libc::SYS_pwrite64, fd(&create("/tmp/pwrite64")?), b"four".as_ptr(), 4, 0)?;
        syscall!(libc::SYS_writev, fd(&create("/tmp/writev")?), &raw const part, 1)?;
        syscall!(libc::SYS_sendfile, fd(&create("/tmp/sendfile")?), fd(&from), 0, 9)?;
        syscall!(libc::SYS_fallocate, fd(&create("/tmp/fallocate")?), libc::FALLOC_FL_KEEP_SIZE, 0, 4096)?;
        let memory = raw::descriptor(syscall!(libc::SYS_memfd_create, c"m".as_ptr(), 0))?;
        write(&memory, "memory")?;
        write(&raw::open("/dev/null", libc::O_WRONLY)?, "device")?;
        let (_read, pipe) = io::pipe()?;
        syscall!(libc::SYS_write, pipe.as_raw_fd(), b"pipe".as_ptr(), 4)?;
        // A copy between files may not be possible between these file systems.
        let copied = create("/tmp/copy_file_range")?;
        let copied = outcome(syscall!(libc::SYS_copy_file_range, fd(&from), 0, fd(&copied), 0, 5, 0));
        Ok(copied)
    }) else {
        return;
    };
    for (call, result) in [("pwrite64", 4), ("writev", 6), ("sendfile", 9), ("fallocate", 0)] {
        let event = seen.one("write", json!({"type": call, "file": format!("/tmp/{call}")}));
        assert_eq!(event["event"]["result"], result);
    }
    let plain = seen.all("write", &json!({"type": "write"})).into_iter();
    let files: Vec<_> = plain.filter(|record| record["process"]["pid"] == seen.pid).collect();
    assert_eq!((files.len(), &files[0]["event"]["file"]), (1, &json!("/memfd:m")));
    let copies = seen.all("write", &json!({"type": "copy_file_range"})).len();
    assert_eq!(copies, usize::from(seen.value > 0), "copy_file_range gave {}", seen.value);
}

#[test]
fn write_to_a_file_of_the_kernel_is_told() {
    let Some(seen) = watch("write_to_a_file_of_the_kernel_is_told", || {
        let path = "/proc/sys/kernel/core_pattern";
        let same = std::fs::read(path)?;
        let file = raw::open(path, libc::O_WRONLY)?;
        Ok(outcome(syscall!(libc::SYS_write, file.as_raw_fd(), same.as_ptr(), same.len())))
    }) else {
        return;
    };
    let events = seen.all("write", &json!({"file": "/proc/sys/kernel/core_pattern"}));
    assert_eq!(events.len(), usize::from(seen.value > 0), "write gave {}", seen.value);
    assert!(events.iter().all(|record| record["event"]["result"] == seen.value));
}

#[test]
fn writes_are_told_whether_or_not_opens_are_watched() {
    let test = "writes_are_told_whether_or_not_opens_are_watched";
    let settings = ["log.record=evt.kind = write and container.id != host", "rules.embedded=false"];
    let Some((daemon, sandbox)) = set(test, &settings, Options::default()) else { return };
    let Some(seen) = finish(test, daemon, &sandbox, || {
        for n in 0..5 {
            write(&create("/tmp/file")?, &"x".repeat(10 + n))?;
        }
        Ok(())
    }) else {
        return;
    };
    assert_eq!(seen.all("write", &json!({"file": "/tmp/file"})).len(), 5);
}

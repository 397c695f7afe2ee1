//! `access`: who reaches into whom.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use serde_json::json;
use taffrail_tests::sandbox::unsupported;
use taffrail_tests::{raw, syscall};

use crate::{Seen, end, idle_child, outcome, watch};

#[test]
fn traced_process_is_told_with_what_was_done_to_it() {
    let Some(seen) = watch("traced_process_is_told_with_what_was_done_to_it", || {
        let child = idle_child()?;
        let mut word = 0u64;
        let at = &raw mut word;
        syscall!(libc::SYS_ptrace, libc::PTRACE_ATTACH, child, 0, 0)?;
        syscall!(libc::SYS_wait4, child, 0, libc::__WALL, 0)?;
        // The child has the same memory at the same place.
        syscall!(libc::SYS_ptrace, libc::PTRACE_PEEKDATA, child, at, at)?;
        syscall!(libc::SYS_ptrace, libc::PTRACE_POKEDATA, child, at, 7)?;
        syscall!(libc::SYS_ptrace, libc::PTRACE_DETACH, child, 0, 0)?;
        end(child);
        let missing = outcome(syscall!(libc::SYS_ptrace, libc::PTRACE_ATTACH, 9999, 0, 0));
        Ok((child, at as i64, missing))
    }) else {
        return;
    };
    let (child, at, missing) = seen.value;
    let request =
        |name: &str, result: i64| json!({"type": "ptrace", "result": result, "args": {"request_name": name}});
    let attached = seen.one("access", request("PTRACE_ATTACH", 0));
    assert_eq!(attached["process"]["pid"], seen.pid);
    assert_target(&seen, attached, child);
    let poked = seen.one("access", request("PTRACE_POKEDATA", 0));
    assert_target(&seen, poked, child);
    assert_eq!(
        poked["event"]["args"],
        json!({
            "request": libc::PTRACE_POKEDATA, "request_name": "PTRACE_POKEDATA", "pid": child, "address": at, "data": 7,
        })
    );
    assert_eq!(missing, -i64::from(libc::ESRCH));
    let failed = seen.one("access", request("PTRACE_ATTACH", missing));
    assert_eq!(failed["target"], json!({"vpid": 9999}));
    // Looking, and going on.
    seen.none("access", json!({"args": {"request_name": "PTRACE_PEEKDATA"}}));
    seen.none("access", json!({"args": {"request_name": "PTRACE_DETACH"}}));
}

#[test]
fn memory_that_is_read_and_written_from_outside_is_told() {
    let Some(seen) = watch("memory_that_is_read_and_written_from_outside_is_told", || {
        let child = idle_child()?;
        let mut bytes = [0u8; 8];
        let remote = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 8 }];
        let mut copy = [1u8; 8];
        let local = [IoSliceMut::new(&mut copy)];
        let read =
            outcome(syscall!(libc::SYS_process_vm_readv, child, local.as_ptr(), 1, remote.as_ptr(), 1, 0));
        let local = [IoSlice::new(&[2; 8])];
        let write =
            outcome(syscall!(libc::SYS_process_vm_writev, child, local.as_ptr(), 1, remote.as_ptr(), 1, 0));
        end(child);
        Ok((child, read, write))
    }) else {
        return;
    };
    let (child, read, write) = seen.value;
    for (call, result) in [("process_vm_readv", read), ("process_vm_writev", write)] {
        let event = seen.one("access", json!({"type": call, "result": result}));
        assert_target(&seen, event, child);
    }
    assert_eq!((read, write), (8, 8));
}

#[test]
fn taken_descriptor_is_told_with_its_file() {
    let Some(seen) = watch("taken_descriptor_is_told_with_its_file", || {
        let file = raw::open("/etc/shadow", libc::O_RDONLY)?;
        let child = idle_child()?;
        let pidfd = raw::descriptor(syscall!(libc::SYS_pidfd_open, child, 0)).map_err(unsupported)?;
        let taken = syscall!(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), file.as_raw_fd(), 0);
        end(child);
        let missing = outcome(syscall!(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), 99, 0));
        Ok((outcome(taken), missing))
    }) else {
        return;
    };
    let (taken, missing) = seen.value;
    let event = seen.one("access", json!({"type": "pidfd_getfd", "result": taken}));
    assert_eq!(event["event"]["file"], "/etc/shadow");
    let failed =
        seen.one("access", json!({"type": "pidfd_getfd", "result": missing, "args": {"target_fd": 99}}));
    assert!(missing < 0 && failed["event"].get("file").is_none());
}

/// A message of one byte with a descriptor over a socket pair; `credentials`: the receiver asks for those too, which
/// come first.
fn pass(file: i32, credentials: bool) -> io::Result<i64> {
    let mut pair = [0i32; 2];
    syscall!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr())?;
    // SAFETY: new descriptors that nobody else owns.
    let [sender, receiver] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if credentials {
        let on = 1i32;
        let (level, name) = (libc::SOL_SOCKET, libc::SO_PASSCRED);
        syscall!(libc::SYS_setsockopt, receiver.as_raw_fd(), level, name, &raw const on, 4)?;
    }
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // `struct cmsghdr`: length, level and type, then the descriptor.
    let mut control = [20u64, 1 << 32 | 1, file as u64, 0, 0, 0, 0, 0];
    // SAFETY: all bits zero is an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = 24;
    syscall!(libc::SYS_sendmsg, sender.as_raw_fd(), &raw const message, 0)?;
    message.msg_controllen = 64;
    syscall!(libc::SYS_recvmsg, receiver.as_raw_fd(), &raw mut message, 0)
}

#[test]
fn descriptor_that_comes_with_a_message_is_told_with_its_file() {
    let Some(seen) = watch("descriptor_that_comes_with_a_message_is_told_with_its_file", || {
        let shadow = raw::open("/etc/shadow", libc::O_RDONLY)?;
        let hosts = raw::open("/etc/hosts", libc::O_RDONLY)?;
        pass(shadow.as_raw_fd(), false)?;
        pass(hosts.as_raw_fd(), true)
    }) else {
        return;
    };
    for file in ["/etc/shadow", "/etc/hosts"] {
        seen.one("access", json!({"type": "recvmsg", "result": 1, "file": file}));
    }
}

/// Asserts whom it was done to.
#[track_caller]
fn assert_target<T>(seen: &Seen<T>, record: &serde_json::Value, vpid: i32) {
    let target = &record["target"];
    assert_eq!(
        (&target["vpid"], &target["container_id"]),
        (&json!(vpid), &json!(seen.container)),
        "{record}"
    );
    let fork = seen.one("fork", json!({"child_vpid": vpid}));
    assert_eq!((&target["key"], &target["pid"]), (&fork["event"]["child_key"], &fork["event"]["child_pid"]));
}

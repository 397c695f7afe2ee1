//! `namespace`: which namespaces a process makes or enters; of a new process its fork tells.

use std::os::fd::AsRawFd as _;

use serde_json::json;
use taffrail_tests::{raw, syscall};

use crate::{outcome, watch};

#[test]
fn new_and_entered_namespaces_are_named() {
    let Some(seen) = watch("new_and_entered_namespaces_are_named", || {
        let before = raw::open("/proc/self/ns/uts", libc::O_RDONLY)?;
        syscall!(libc::SYS_unshare, libc::CLONE_NEWUTS | libc::CLONE_NEWIPC)?;
        syscall!(libc::SYS_setns, before.as_raw_fd(), libc::CLONE_NEWUTS)?;
        let bad_flag = outcome(syscall!(libc::SYS_unshare, 1));
        let bad_file = outcome(syscall!(libc::SYS_setns, 99, 0));
        Ok((before.as_raw_fd(), bad_flag, bad_file))
    }) else {
        return;
    };
    let (fd, bad_flag, bad_file) = seen.value;
    assert_eq!((bad_flag, bad_file), (-i64::from(libc::EINVAL), -i64::from(libc::EBADF)));
    let made = seen.one("namespace", json!({"type": "unshare", "result": 0}));
    assert_eq!(made["event"]["args"]["flags_names"], json!(["CLONE_NEWUTS", "CLONE_NEWIPC"]));
    let entered = seen.one("namespace", json!({"type": "setns", "result": 0, "args": {"fd": fd}}));
    assert_eq!(entered["event"]["args"]["flags_names"], json!(["CLONE_NEWUTS"]));
    assert!(entered["event"]["file_ino"].as_u64().unwrap() > 0);
    seen.one("namespace", json!({"type": "unshare", "result": bad_flag, "args": {"flags_names": ["0x1"]}}));
    seen.one("namespace", json!({"type": "setns", "result": bad_file, "args": {"fd": 99, "flags": 0}}));
}

#[test]
fn namespaces_of_a_new_process_are_in_its_fork() {
    let Some(seen) = watch("namespaces_of_a_new_process_are_in_its_fork", || {
        let flags = libc::CLONE_NEWPID | libc::CLONE_NEWUSER | libc::SIGCHLD;
        let child = syscall!(libc::SYS_clone, flags, 0, 0, 0, 0)?;
        if child == 0 {
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        crate::end(child as i32);
        Ok(child)
    }) else {
        return;
    };
    let fork = seen.one("fork", json!({"clone_flags_names": ["CLONE_NEWUSER", "CLONE_NEWPID"]}));
    assert_eq!(fork["process"]["pid"], seen.pid);
    assert_eq!(fork["event"]["child_vpid"], 1);
}

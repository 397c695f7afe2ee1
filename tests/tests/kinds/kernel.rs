//! `kernel`: interfaces that act on the whole machine.

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn interfaces_of_the_machine_are_told_with_what_came_of_it() {
    let Some(seen) = watch("interfaces_of_the_machine_are_told_with_what_came_of_it", || {
        // `struct perf_event_attr`: a software event that counts nothing.
        let mut attributes = [0u32; 32];
        attributes[..4].copy_from_slice(&[1, 128, 9, 0]);
        let own = syscall!(libc::SYS_getpid)?;
        // The name is what its length says, not what ends with NUL.
        let name = b"renamed-and-more";
        Ok((
            own,
            vec![
                outcome(syscall!(libc::SYS_perf_event_open, attributes.as_ptr(), own, -1i32, -1i32, 8)),
                outcome(syscall!(libc::SYS_userfaultfd, libc::O_CLOEXEC | 1)),
                outcome(syscall!(libc::SYS_swapon, c"/missing".as_ptr(), 0x1_0000)),
                outcome(syscall!(libc::SYS_acct, c"missing".as_ptr())),
                outcome(syscall!(libc::SYS_sethostname, name.as_ptr(), 7)),
                outcome(syscall!(libc::SYS_syslog, 10, 0, 0)),
                outcome(syscall!(libc::SYS_clock_settime, 99, 0)),
                outcome(syscall!(libc::SYS_reboot, 1, 2, 0x4558_4543, 0)),
                outcome(syscall!(libc::SYS_fanotify_init, 0x4000_0000, 0)),
            ],
        ))
    }) else {
        return;
    };
    let (own, results) = &seen.value;
    let wanted = [
        json!({"type": "perf_event_open", "args": {"pid": own, "cpu": -1, "flags_names": ["PERF_FLAG_FD_CLOEXEC"]}}),
        json!({"type": "userfaultfd", "args": {"flags_names": ["UFFD_USER_MODE_ONLY", "O_CLOEXEC"]}}),
        json!({"type": "swapon", "file": "/missing", "args": {"flags_names": ["SWAP_FLAG_DISCARD"]}}),
        json!({"type": "acct", "file": "missing", "base": "/"}),
        json!({"type": "sethostname", "text": "renamed", "args": {"length": 7}}),
        json!({"type": "syslog", "args": {"command_name": "SYSLOG_ACTION_SIZE_BUFFER"}}),
        json!({"type": "clock_settime", "args": {"clock": 99}}),
        json!({"type": "reboot", "args": {"magic": 1, "command_name": "LINUX_REBOOT_CMD_KEXEC"}}),
        json!({"type": "fanotify_init", "args": {"flags_names": ["FAN_CLASS_NOTIF", "0x40000000"]}}),
    ];
    for (wanted, result) in wanted.into_iter().zip(results) {
        assert_eq!(seen.one("kernel", wanted)["event"]["result"], *result);
    }
    let perf = seen.one("kernel", json!({"type": "perf_event_open"}));
    assert_eq!(perf["target"]["pid"], seen.pid);
}

//! `cred`: which ids and capabilities a task has after the call, and which it had before.

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

/// `struct __user_cap_header_struct` of version 3 for the caller.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

#[test]
fn change_of_ids_tells_what_they_were_and_are() {
    let test = "change_of_ids_tells_what_they_were_and_are";
    let Some(seen) = watch(test, || {
        syscall!(libc::SYS_setresgid, 1001, 1002, 1003)?;
        syscall!(libc::SYS_setresuid, 0, 1000, 0)?;
        syscall!(libc::SYS_setresuid, -1i32, 0, -1i32)?;
        syscall!(libc::SYS_setuid, 1000)?;
        Ok(outcome(syscall!(libc::SYS_setuid, 0)))
    }) else {
        return;
    };
    assert_eq!(seen.value, -i64::from(libc::EPERM));
    let groups = seen.one("cred", json!({"type": "setresgid", "result": 0}));
    // The probe that sees the change itself knows what was before; without it the process's last event does.
    let source = if seen.is_attached("creds_changed") { "kernel" } else { "last_event" };
    let ids = json!({
        "rgid": 1001, "egid": 1002, "sgid": 1003, "fsgid": 1002, "ruid": 0, "euid": 0,
        "old_rgid": 0, "old_egid": 0, "old_sgid": 0, "old_source": source,
        "gained_caps": [], "lost_caps": [],
    });
    assert!(crate::has(&groups["event"], &ids), "{groups}");
    assert_eq!(groups["process"]["pid"], seen.pid);
    // Effective rights go with the effective user; the permitted ones stay, so that they can come back.
    let away = json!({"type": "setresuid", "ruid": 0, "euid": 1000, "suid": 0, "fsuid": 1000, "old_euid": 0});
    let away = seen.one("cred", away);
    assert_eq!(away["event"]["cap_effective"], "0000000000000000");
    assert_eq!(away["event"]["lost_caps"], json!([]));
    let back = seen.one("cred", json!({"type": "setresuid", "euid": 0, "old_euid": 1000, "old_ruid": 0}));
    assert_eq!(back["event"]["cap_effective"], back["event"]["cap_permitted"]);
    let last =
        seen.one("cred", json!({"type": "setuid", "result": 0, "ruid": 1000, "euid": 1000, "suid": 1000}));
    assert!(last["event"]["lost_caps"].as_array().unwrap().contains(&json!("CAP_SYS_ADMIN")));
    assert_eq!(last["event"]["cap_permitted"], "0000000000000000");
    let failed = seen.one("cred", json!({"type": "setuid", "result": -libc::EPERM}));
    assert!(crate::has(&failed["event"], &json!({"ruid": 1000, "old_ruid": 1000, "gained_caps": []})));
}

#[test]
fn dropped_capability_is_named() {
    let Some(seen) = watch("dropped_capability_is_named", || {
        let mut sets = [0u32; 6];
        syscall!(libc::SYS_capget, CAPABILITY_HEADER.as_ptr(), sets.as_mut_ptr())?;
        // Effective, permitted, inheritable of the lower 32; CAP_NET_RAW is 13.
        sets[0] &= !(1 << 13);
        sets[1] &= !(1 << 13);
        syscall!(libc::SYS_capset, CAPABILITY_HEADER.as_ptr(), sets.as_ptr())
    }) else {
        return;
    };
    let event = &seen.one("cred", json!({"type": "capset", "result": 0}))["event"];
    assert_eq!(event["lost_caps"], json!(["CAP_NET_RAW"]));
    assert_eq!(event["gained_caps"], json!([]));
    let set = |name: &str| u64::from_str_radix(event[name].as_str().unwrap(), 16).unwrap();
    assert_eq!(set("old_cap_permitted") & !set("cap_permitted"), 1 << 13);
}

#[test]
fn one_threads_ids_are_not_the_processs() {
    let Some(seen) = watch("one_threads_ids_are_not_the_processs", || {
        let thread = std::thread::spawn(|| {
            let tid = outcome(syscall!(libc::SYS_gettid));
            syscall!(libc::SYS_setresuid, 1000, 1000, 1000).map(|_| tid)
        });
        let tid = thread.join().unwrap()?;
        syscall!(libc::SYS_setfsgid, 7)?;
        Ok(tid)
    }) else {
        return;
    };
    let thread = seen.one("cred", json!({"type": "setresuid", "ruid": 1000, "old_ruid": 0}));
    assert_ne!(thread["process"]["tid"], thread["process"]["pid"]);
    assert_eq!((&thread["process"]["uid"], &thread["process"]["pid"]), (&json!(1000), &json!(seen.pid)));
    let main =
        seen.one("cred", json!({"type": "setfsgid", "ruid": 0, "old_ruid": 0, "fsgid": 7, "old_fsgid": 0}));
    assert_eq!(main["process"]["tid"], main["process"]["pid"]);
}

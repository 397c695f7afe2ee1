//! `key`: use of the kernel's key rings.

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn use_of_keys_is_told() {
    let Some(seen) = watch("use_of_keys_is_told", || {
        let (ty, name) = (c"user".as_ptr(), c"taffrail-test".as_ptr());
        // Into the process's own ring, which ends with it.
        let added = outcome(syscall!(libc::SYS_add_key, ty, name, b"x".as_ptr(), 1, -2i32));
        let found = outcome(syscall!(libc::SYS_request_key, ty, name, 0, 0));
        let failed = outcome(syscall!(libc::SYS_keyctl, 11, -77i32, 0, 0, 0));
        Ok((added, found, failed))
    }) else {
        return;
    };
    let (added, found, failed) = seen.value;
    seen.one("key", json!({"type": "add_key", "text": "user", "result": added}));
    seen.one("key", json!({"type": "request_key", "text": "user", "result": found}));
    seen.one("key", json!({"type": "keyctl", "result": failed, "args": {"operation_name": "KEYCTL_READ", "argument": -77}}));
    assert!(failed < 0);
}

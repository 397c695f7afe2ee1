//! `memfd`: files that are in memory only, and have no name that anybody else could see.

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn file_in_memory_is_told_with_its_name() {
    let Some(seen) = watch("file_in_memory_is_told_with_its_name", || {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let made = syscall!(libc::SYS_memfd_create, c"hidden".as_ptr(), flags)?;
        let no_name = outcome(syscall!(libc::SYS_memfd_create, 1, 0));
        let secret = outcome(syscall!(libc::SYS_memfd_secret, 0));
        Ok((made, no_name, secret))
    }) else {
        return;
    };
    let (made, no_name, secret) = seen.value;
    let event = seen.one("memfd", json!({"type": "memfd_create", "text": "hidden", "result": made}));
    assert_eq!(event["event"]["args"]["flags_names"], json!(["MFD_CLOEXEC", "MFD_ALLOW_SEALING"]));
    let failed = seen.one("memfd", json!({"type": "memfd_create", "result": no_name}));
    assert!(no_name == -i64::from(libc::EFAULT) && failed["event"].get("text").is_none());
    seen.one("memfd", json!({"type": "memfd_secret", "result": secret}));
}

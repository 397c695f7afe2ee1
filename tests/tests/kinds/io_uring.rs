//! `io_uring`: rings that are made and set up. What is done through them is looked at by the evasion tests.

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn ring_and_its_registrations_are_told() {
    let Some(seen) = watch("ring_and_its_registrations_are_told", || {
        let mut parameters = [0u32; 30];
        let ring = outcome(syscall!(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()));
        let registered = outcome(syscall!(libc::SYS_io_uring_register, ring, 9, 0, 0));
        let failed = outcome(syscall!(libc::SYS_io_uring_register, ring, 200, 0, 0));
        Ok((ring, registered, failed))
    }) else {
        return;
    };
    let (ring, registered, failed) = seen.value;
    seen.one("io_uring", json!({"type": "io_uring_setup", "result": ring, "args": {"entries": 4}}));
    seen.one(
        "io_uring",
        json!({"type": "io_uring_register", "result": registered, "args": {
            "fd": ring, "operation_name": "IORING_REGISTER_PERSONALITY",
        }}),
    );
    seen.one("io_uring", json!({"type": "io_uring_register", "result": failed, "args": {"operation": 200}}));
    assert!(failed < 0);
}

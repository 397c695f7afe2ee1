//! `module`: attempts to put code into the kernel.

use std::os::fd::AsRawFd as _;

use serde_json::json;
use taffrail_tests::{raw, syscall};

use crate::{outcome, watch};

/// `libc` has it for musl on x86-64 only.
const SYS_KEXEC_FILE_LOAD: libc::c_long = if cfg!(target_arch = "aarch64") { 294 } else { 320 };

#[test]
fn refused_modules_are_told_with_their_file_and_name() {
    let Some(seen) = watch("refused_modules_are_told_with_their_file_and_name", || {
        let file = raw::open("/bin/program", libc::O_RDONLY)?;
        let fd = file.as_raw_fd();
        // In memory that is there: a kernel without modules does not look at the texts, and a probe cannot fetch them.
        let [debug, x, name] = [c"debug=1", c"x=2", c"no_such_module"].map(ToOwned::to_owned);
        let by_file = outcome(syscall!(libc::SYS_finit_module, fd, debug.as_ptr(), 2));
        let by_bytes = outcome(syscall!(libc::SYS_init_module, b"bogus".as_ptr(), 5, x.as_ptr()));
        let removed = outcome(syscall!(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK));
        let kernel = outcome(syscall!(libc::SYS_kexec_load, 0, 99, 0, 1));
        let kernel_file = outcome(syscall!(SYS_KEXEC_FILE_LOAD, fd, -1i32, 0, 0, 1 << 10));
        Ok((fd, by_file, by_bytes, removed, kernel, kernel_file))
    }) else {
        return;
    };
    let (fd, by_file, by_bytes, removed, kernel, kernel_file) = seen.value;
    for wanted in [
        json!({"type": "finit_module", "result": by_file, "file": "/bin/program", "text": "debug=1",
            "args": {"fd": fd, "flags_names": ["MODULE_INIT_IGNORE_VERMAGIC"]}}),
        json!({"type": "init_module", "result": by_bytes, "text": "x=2", "args": {"length": 5}}),
        json!({"type": "delete_module", "result": removed, "text": "no_such_module", "args": {"flags_names": ["O_NONBLOCK"]}}),
        json!({"type": "kexec_load", "result": kernel, "args": {"count": 99, "flags_names": ["KEXEC_ON_CRASH"]}}),
        json!({"type": "kexec_file_load", "result": kernel_file, "file": "/bin/program", "args": {"flags_names": ["0x400"]}}),
    ] {
        assert!(seen.one("module", wanted)["event"]["result"].as_i64() < Some(0));
    }
}

//! `memory`: memory that becomes executable in an unusual way, and files that are mapped to be written.

use std::os::fd::AsRawFd as _;

use serde_json::json;
use taffrail_tests::{raw, syscall};

use crate::{outcome, watch};

const READ: i32 = libc::PROT_READ;
const WRITE: i32 = libc::PROT_WRITE;
const EXEC: i32 = libc::PROT_EXEC;

#[test]
fn executable_memory_and_shared_writable_files_are_told_and_the_usual_is_not() {
    let Some(seen) =
        watch("executable_memory_and_shared_writable_files_are_told_and_the_usual_is_not", || {
            let program = raw::open("/bin/program", libc::O_RDONLY)?;
            let (private, anonymous) = (libc::MAP_PRIVATE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let file = raw::open("/tmp/file", libc::O_RDWR | libc::O_CREAT)?;
            syscall!(libc::SYS_ftruncate, file.as_raw_fd(), 4096)?;
            let (program, fd) = (program.as_raw_fd(), file.as_raw_fd());
            let map = |length: usize, access: i32, flags: i32, fd: i32| {
                syscall!(libc::SYS_mmap, 0, length, access, flags, fd, 0)
            };
            // As any loader and any allocator do.
            map(0x1000, READ | EXEC, private, program)?;
            let plain = map(0x2000, READ | WRITE, anonymous, -1)?;
            map(0x1000, READ, libc::MAP_SHARED, fd)?;
            // And what follows is not usual.
            map(0x3000, READ | WRITE | EXEC, anonymous, -1)?;
            map(0x4000, READ | WRITE | EXEC, private, program)?;
            map(0x5000, READ | WRITE, libc::MAP_SHARED, fd)?;
            let memory = syscall!(libc::SYS_memfd_create, c"code".as_ptr(), 0)? as i32;
            map(0x6000, READ | EXEC, private, memory)?;
            syscall!(libc::SYS_mprotect, plain, 0x2000, READ | EXEC)?;
            syscall!(libc::SYS_mprotect, plain, 0x2000, READ | WRITE)?;
            let failed = outcome(syscall!(libc::SYS_mprotect, plain + 1, 0x1000, READ | EXEC));
            Ok((plain, failed))
        })
    else {
        return;
    };
    let (plain, failed) = seen.value;
    let all = json!(["PROT_READ", "PROT_WRITE", "PROT_EXEC"]);
    let event = seen.one(
        "memory",
        json!({"type": "mmap", "args": {"length": 0x3000, "protection_names": all, "fd": -1}}),
    );
    assert_eq!(event["event"]["args"]["flags_names"], json!(["MAP_PRIVATE", "MAP_ANONYMOUS"]));
    assert_eq!(event["event"].get("file"), None);
    seen.one("memory", json!({"file": "/bin/program", "args": {"length": 0x4000, "protection_names": all}}));
    let shared = json!({"file": "/tmp/file", "args": {"length": 0x5000, "flags_names": ["MAP_SHARED"]}});
    seen.one("memory", shared);
    seen.one("memory", json!({"file": "/memfd:code", "args": {"length": 0x6000}}));
    seen.one(
        "memory",
        json!({"type": "mprotect", "result": 0, "args": {
            "address": plain, "length": 0x2000, "protection_names": ["PROT_READ", "PROT_EXEC"],
        }}),
    );
    seen.one("memory", json!({"type": "mprotect", "result": failed, "args": {"address": plain + 1}}));
    assert_eq!(failed, -i64::from(libc::EINVAL));
    seen.none("memory", json!({"file": "/bin/program", "args": {"length": 0x1000}}));
    seen.none("memory", json!({"args": {"length": 0x2000, "protection_names": ["PROT_READ", "PROT_WRITE"]}}));
    seen.none("memory", json!({"file": "/tmp/file", "args": {"length": 0x1000}}));
}

//! `change`: files and folders that are made, renamed, removed, and whose attributes are changed.

use std::os::fd::AsRawFd as _;

use serde_json::json;
use taffrail_tests::{raw, syscall};

use crate::{outcome, watch};

#[test]
fn every_sort_of_change_is_told_with_its_names() {
    let Some(seen) = watch("every_sort_of_change_is_told_with_its_names", || {
        let name = |text: &'static std::ffi::CStr| text.as_ptr();
        let here = libc::AT_FDCWD;
        std::env::set_current_dir("/tmp")?;
        syscall!(libc::SYS_mkdirat, here, name(c"dir"), 0o750)?;
        let dir = raw::open("/tmp/dir", libc::O_RDONLY | libc::O_DIRECTORY)?;
        let dir = dir.as_raw_fd();
        let file = raw::open("/tmp/dir/file", libc::O_RDWR | libc::O_CREAT)?;
        let file = file.as_raw_fd();
        syscall!(libc::SYS_symlinkat, name(c"/etc/shadow"), dir, name(c"link"))?;
        syscall!(libc::SYS_linkat, dir, name(c"file"), here, name(c"/tmp/hard"), 0)?;
        syscall!(libc::SYS_renameat2, dir, name(c"file"), dir, name(c"moved"), libc::RENAME_NOREPLACE)?;
        syscall!(libc::SYS_fchmodat, dir, name(c"moved"), 0o4755)?;
        syscall!(libc::SYS_fchmod, file, 0o600)?;
        syscall!(libc::SYS_fchownat, dir, name(c"moved"), 7, -1i32, libc::AT_SYMLINK_NOFOLLOW)?;
        syscall!(libc::SYS_truncate, name(c"/tmp/hard"), 1u64 << 33)?;
        syscall!(libc::SYS_ftruncate, file, 5)?;
        syscall!(libc::SYS_mknodat, dir, name(c"pipe"), libc::S_IFIFO | 0o600, 0)?;
        syscall!(libc::SYS_setxattr, name(c"/tmp/hard"), name(c"trusted.x"), name(c"1"), 1, 0)?;
        syscall!(libc::SYS_removexattr, name(c"/tmp/hard"), name(c"trusted.x"))?;
        // The descriptor's own file, and one by name.
        syscall!(libc::SYS_utimensat, file, 0, 0, 0)?;
        syscall!(libc::SYS_utimensat, dir, name(c"moved"), 0, 0)?;
        syscall!(libc::SYS_unlinkat, dir, name(c"moved"), 0)?;
        let failed = outcome(syscall!(libc::SYS_unlinkat, here, name(c"dir"), libc::AT_REMOVEDIR));
        let missing = outcome(syscall!(libc::SYS_unlinkat, 99, name(c"x"), 0));
        Ok((dir, file, failed, missing))
    }) else {
        return;
    };
    let (dir, file, failed, missing) = seen.value;
    let unverified = json!(["unverified"]);
    for wanted in [
        json!({"type": "mkdirat", "file": "dir", "base": "/tmp", "args": {"mode": "750", "dfd": libc::AT_FDCWD}}),
        json!({"type": "symlinkat", "text": "/etc/shadow", "file": "link", "base": "/tmp/dir", "args": {"dfd": dir}}),
        json!({"type": "linkat", "file": "file", "base": "/tmp/dir", "target": "/tmp/hard", "target_flags": unverified}),
        json!({"type": "renameat2", "file": "file", "base": "/tmp/dir", "target": "moved", "target_base": "/tmp/dir",
            "args": {"flags_names": ["RENAME_NOREPLACE"]}}),
        json!({"type": "fchmodat", "file": "moved", "file_flags": unverified, "args": {"mode": "4755"}}),
        json!({"type": "fchmod", "file": "/tmp/dir/moved", "mode": "100600", "args": {"fd": file, "mode": "600"}}),
        json!({"type": "fchownat", "file": "moved", "base": "/tmp/dir",
            "args": {"owner": 7, "group": -1, "flags_names": ["AT_SYMLINK_NOFOLLOW"]}}),
        json!({"type": "truncate", "file": "/tmp/hard", "args": {"length": 1i64 << 33}}),
        json!({"type": "ftruncate", "file": "/tmp/dir/moved", "args": {"length": 5}}),
        json!({"type": "mknodat", "file": "pipe", "base": "/tmp/dir", "args": {"mode": "10600"}}),
        json!({"type": "setxattr", "file": "/tmp/hard", "text": "trusted.x"}),
        json!({"type": "removexattr", "file": "/tmp/hard", "text": "trusted.x"}),
        json!({"type": "utimensat", "file": "/tmp/dir/moved", "mode": "100600"}),
        json!({"type": "utimensat", "file": "moved", "base": "/tmp/dir"}),
        json!({"type": "unlinkat", "file": "moved", "base": "/tmp/dir"}),
    ] {
        assert_eq!(seen.one("change", wanted)["event"]["result"], 0);
    }
    assert_eq!((failed, missing), (-i64::from(libc::ENOTEMPTY), -i64::from(libc::EBADF)));
    seen.one("change", json!({"result": failed, "file": "dir", "args": {"flags_names": ["AT_REMOVEDIR"]}}));
    let missing = seen.one("change", json!({"result": missing, "file": "x", "args": {"dfd": 99}}));
    assert_eq!(missing["event"].get("base"), None);
    // Opening and making a file is `open`'s to tell.
    assert_eq!(seen.all("change", &json!({})).len(), 17);
}

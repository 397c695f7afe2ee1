//! `change`: files and folders that are made, renamed, removed, and whose attributes are changed.

use std::os::fd::AsRawFd as _;

use serde_json::json;
use taffrail_tests::{raw, syscall};

use crate::{Named, is_unverified, outcome, watch};

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
    let (tmp, in_dir) = (Some("/tmp"), Some("/tmp/dir"));
    let (of_dir, of_file, of_moved) = (
        Named { given: "dir", base: tmp, path: "/tmp/dir" },
        Named { given: "file", base: in_dir, path: "/tmp/dir/file" },
        Named { given: "moved", base: in_dir, path: "/tmp/dir/moved" },
    );
    let (of_link, of_pipe, of_hard) = (
        Named { given: "link", base: in_dir, path: "/tmp/dir/link" },
        Named { given: "pipe", base: in_dir, path: "/tmp/dir/pipe" },
        Named { given: "/tmp/hard", base: None, path: "/tmp/hard" },
    );
    for (probe, wanted, file, target) in [
        (
            "object_name",
            json!({"type": "mkdirat", "args": {"mode": "750", "dfd": libc::AT_FDCWD}}),
            &of_dir,
            None,
        ),
        (
            "object_name",
            json!({"type": "symlinkat", "text": "/etc/shadow", "args": {"dfd": dir}}),
            &of_link,
            None,
        ),
        ("object_link", json!({"type": "linkat"}), &of_file, Some(&of_hard)),
        (
            "object_rename",
            json!({"type": "renameat2", "args": {"flags_names": ["RENAME_NOREPLACE"]}}),
            &of_file,
            Some(&of_moved),
        ),
        ("object_path", json!({"type": "fchmodat", "args": {"mode": "4755"}}), &of_moved, None),
        (
            "object_path",
            json!({"type": "fchownat", "args": {"owner": 7, "group": -1,
            "flags_names": ["AT_SYMLINK_NOFOLLOW"]}}),
            &of_moved,
            None,
        ),
        ("object_path", json!({"type": "truncate", "args": {"length": 1i64 << 33}}), &of_hard, None),
        ("object_name", json!({"type": "mknodat", "args": {"mode": "10600"}}), &of_pipe, None),
        ("none", json!({"type": "setxattr", "text": "trusted.x"}), &of_hard, None),
        ("none", json!({"type": "removexattr", "text": "trusted.x"}), &of_hard, None),
        ("none", json!({"type": "utimensat", "args": {"dfd": dir}}), &of_moved, None),
        ("object_name", json!({"type": "unlinkat", "result": 0}), &of_moved, None),
        (
            "object_name",
            json!({"type": "unlinkat", "result": failed, "args": {"flags_names": ["AT_REMOVEDIR"]}}),
            &of_dir,
            None,
        ),
    ] {
        let record = seen.one("change", wanted);
        seen.assert_named(record, probe, "file", file);
        target.into_iter().for_each(|target| seen.assert_named(record, probe, "target", target));
    }
    // Those that are told by a descriptor.
    for wanted in [
        json!({"type": "fchmod", "mode": "100600", "args": {"fd": file, "mode": "600"}}),
        json!({"type": "ftruncate", "args": {"length": 5}}),
        json!({"type": "utimensat", "mode": "100600", "args": {"dfd": file}}),
    ] {
        let event = &seen.one("change", wanted)["event"];
        assert_eq!((event["file"].as_str(), is_unverified(event, "file")), (Some("/tmp/dir/moved"), false));
    }
    assert_eq!((failed, missing), (-i64::from(libc::ENOTEMPTY), -i64::from(libc::EBADF)));
    let missing = seen.one("change", json!({"result": missing, "file": "x", "args": {"dfd": 99}}));
    assert_eq!(missing["event"].get("base"), None);
    // Opening and making a file is `open`'s to tell.
    assert_eq!(seen.all("change", &json!({})).len(), 17);
}

//! `mount`: changes of the tree of mounts, by the old calls and the new ones.

use std::os::fd::AsRawFd as _;

use serde_json::json;
use taffrail_tests::sandbox::{in_child, unsupported};
use taffrail_tests::{raw, syscall};

use crate::{Named, outcome, watch};

#[test]
fn mounts_by_the_old_calls_are_told_with_source_and_target() {
    let Some(seen) = watch("mounts_by_the_old_calls_are_told_with_source_and_target", || {
        std::fs::create_dir("/tmp/a")?;
        std::fs::create_dir("/tmp/b")?;
        raw::mount("none", "/tmp/a", "tmpfs", libc::MS_NOSUID | libc::MS_NOEXEC, "size=64k")?;
        raw::mount("/tmp/a", "/tmp/b", "", libc::MS_BIND | libc::MS_REC, "")?;
        syscall!(libc::SYS_umount2, c"/tmp/b".as_ptr(), libc::MNT_DETACH)?;
        let failed = [c"/dev/x", c"/tmp/a", c"no_such_type"].map(std::ffi::CStr::as_ptr);
        let failed = outcome(syscall!(libc::SYS_mount, failed[0], failed[1], failed[2], 0, 0));
        let pivot = outcome(syscall!(libc::SYS_pivot_root, c"/tmp/a".as_ptr(), c"/tmp".as_ptr()));
        in_child(|| syscall!(libc::SYS_chroot, c"/tmp/a".as_ptr()).map_or(1, |_| 0))?;
        Ok((failed, pivot))
    }) else {
        return;
    };
    let (failed, pivot) = seen.value;
    let absolute = |path| Named { given: path, base: None, path };
    let event = seen.one("mount", json!({"type": "mount", "text": "tmpfs", "result": 0}));
    seen.assert_named(event, "object_mount", "target", &absolute("/tmp/a"));
    // The source is a text that the file system understands.
    assert_eq!(
        (&event["event"]["file"], &event["event"]["file_flags"]),
        (&json!("none"), &json!(["unverified"]))
    );
    assert_eq!(event["event"]["args"], json!({"flags": 10, "flags_names": ["MS_NOSUID", "MS_NOEXEC"]}));
    let bind = seen.one("mount", json!({"type": "mount", "file": "/tmp/a", "target": "/tmp/b", "result": 0}));
    seen.assert_named(bind, "object_mount", "target", &absolute("/tmp/b"));
    assert_eq!(bind["event"]["args"]["flags_names"], json!(["MS_BIND", "MS_REC"]));
    assert_eq!(bind["event"].get("text"), None);
    let unmount = seen.one("mount", json!({"type": "umount2", "args": {"flags_names": ["MNT_DETACH"]}}));
    seen.assert_named(unmount, "object_umount", "file", &absolute("/tmp/b"));
    seen.one("mount", json!({"file": "/dev/x", "text": "no_such_type", "result": failed}));
    assert_eq!(failed, -i64::from(libc::ENODEV));
    seen.one("mount", json!({"type": "pivot_root", "file": "/tmp/a", "target": "/tmp", "result": pivot}));
    assert!(pivot < 0);
    let chroot = seen.one("mount", json!({"type": "chroot", "file": "/tmp/a", "result": 0}));
    assert_ne!(chroot["process"]["pid"], seen.pid);
}

#[test]
fn mounts_by_the_new_calls_are_told_step_by_step() {
    let Some(seen) = watch("mounts_by_the_new_calls_are_told_step_by_step", || {
        std::fs::create_dir("/tmp/new")?;
        let context =
            raw::descriptor(syscall!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 1)).map_err(unsupported)?;
        let fd = context.as_raw_fd();
        syscall!(libc::SYS_fsconfig, fd, 1, c"source".as_ptr(), c"/dev/evil".as_ptr(), 0)?;
        syscall!(libc::SYS_fsconfig, fd, 6, 0, 0, 0)?;
        let mount = raw::descriptor(syscall!(libc::SYS_fsmount, fd, 1, 2))?;
        let (from, flags) = (mount.as_raw_fd(), 4);
        syscall!(libc::SYS_move_mount, from, c"".as_ptr(), libc::AT_FDCWD, c"/tmp/new".as_ptr(), flags)?;
        let tree = syscall!(libc::SYS_open_tree, libc::AT_FDCWD, c"/tmp/new".as_ptr(), 1)?;
        // `struct mount_attr`: read-only. Before 5.12 there is no such call.
        let attributes = [1u64, 0, 0, 0];
        let set = syscall!(
            libc::SYS_mount_setattr,
            tree,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            32
        );
        Ok((fd, from, tree, outcome(set)))
    }) else {
        return;
    };
    let (fd, from, tree, set) = seen.value;
    seen.one(
        "mount",
        json!({"type": "fsopen", "text": "tmpfs", "result": fd, "args": {"flags_names": ["FSOPEN_CLOEXEC"]}}),
    );
    let source = json!({"type": "fsconfig", "text": "source", "target": "/dev/evil", "args": {"command_name": "FSCONFIG_SET_STRING"}});
    seen.one("mount", source);
    let create = seen
        .one("mount", json!({"type": "fsconfig", "args": {"command_name": "FSCONFIG_CMD_CREATE", "fd": fd}}));
    assert_eq!((create["event"].get("text"), create["event"].get("target")), (None, None));
    let made =
        json!({"type": "fsmount", "result": from, "args": {"attributes_names": ["MOUNT_ATTR_NOSUID"]}});
    seen.one("mount", made);
    let moved = json!({"type": "move_mount", "args": {"flags_names": ["MOVE_MOUNT_F_EMPTY_PATH"]}});
    let moved = seen.one("mount", moved);
    // An empty name stands for the descriptor, which at the call's end is where it was moved to.
    let detached = Named { given: "", base: Some("/tmp/new"), path: "/" };
    seen.assert_named(moved, "object_move", "file", &detached);
    let new = Named { given: "/tmp/new", base: None, path: "/tmp/new" };
    seen.assert_named(moved, "object_move", "target", &new);
    seen.one(
        "mount",
        json!({"type": "open_tree", "result": tree, "args": {"flags_names": ["OPEN_TREE_CLONE"]}}),
    );
    seen.one(
        "mount",
        json!({"type": "mount_setattr", "result": set, "args": {"flags_names": ["AT_EMPTY_PATH"]}}),
    );
}

//! Other names for a watched file: links, `/proc`'s magic links, bind mounts, detached mounts, another root.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;

use taffrail_tests::raw::{self, mount, name, open};
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::stage::{Object, Stage};

const SECRET: &str = "/etc/shadow";

/// Opens the secret plainly.
fn plainly() -> std::io::Result<Object> {
    Object::of(&open(SECRET, libc::O_RDONLY)?)
}

/// Plays a trick that opens the secret by another name, and judges it by the path that the kernel has for it.
#[track_caller]
fn other_name(trick: &'static str, part: impl FnOnce() -> std::io::Result<Object>) {
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(plainly).unwrap();
    let Some(tried) = stage.play(part) else { return };
    assert_eq!((tried.value.ino, &tried.value.dev), (twin.value.ino, &twin.value.dev), "another file");
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, SECRET).0 == Verdict::Seen);
    ending.judge(ending.opened(tried.pid, &tried.value, &tried.value.path()));
}

#[test]
fn symbolic_link_is_followed() {
    other_name("open: symbolic link", || {
        symlink("/etc/shadow", "/tmp/innocent")?;
        Object::of(&open("/tmp/innocent", libc::O_RDONLY)?)
    });
}

#[test]
fn hard_link_has_the_inode_of_the_file() {
    let trick = "open: hard link";
    let Some(stage) = Stage::set(trick) else { return };
    let tried = stage.play(|| {
        // On an overlay the file is copied up before it is linked: from then on it is the same object.
        std::fs::hard_link(SECRET, "/tmp/innocent")?;
        Ok((plainly()?, Object::of(&open("/tmp/innocent", libc::O_RDONLY)?)?))
    });
    let Some(tried) = tried else { return };
    let (secret, link) = &tried.value;
    assert_eq!((secret.ino, &secret.dev), (link.ino, &link.dev));
    let ending = stage.end();
    ending.twin("the open", ending.opened(tried.pid, secret, SECRET).0 == Verdict::Seen);
    let (verdict, note) = ending.opened(tried.pid, link, "/tmp/innocent");
    let links = ending.by(tried.pid, "open").find(|record| record["event"]["file"] == "/tmp/innocent");
    assert_eq!(links.unwrap()["event"]["links"], 2);
    ending.judge((verdict, format!("{note}; `links` is 2")));
}

#[test]
fn own_root_in_proc_is_followed() {
    other_name("open: /proc/self/root", || Object::of(&open("/proc/self/root/etc/shadow", libc::O_RDONLY)?));
}

#[test]
fn working_directory_in_proc_is_followed() {
    other_name("open: /proc/self/cwd", || {
        std::env::set_current_dir("/etc")?;
        Object::of(&open("/proc/self/cwd/shadow", libc::O_RDONLY)?)
    });
}

#[test]
fn root_of_another_process_is_followed() {
    other_name("open: /proc/PID/root", || Object::of(&open("/proc/1/root/etc/shadow", libc::O_RDONLY)?));
}

#[test]
fn bind_mount_shows_the_same_object_under_its_alias() {
    other_name("open: bind mount of the folder", || {
        std::fs::create_dir("/tmp/alias")?;
        mount("/etc", "/tmp/alias", "", libc::MS_BIND, "")?;
        Object::of(&open("/tmp/alias/shadow", libc::O_RDONLY)?)
    });
}

#[test]
fn detached_copy_of_a_mount_is_told() {
    other_name("open: detached mount (open_tree)", || {
        const OPEN_TREE_CLONE: u32 = 1;
        let etc = name("/etc");
        let tree =
            raw::descriptor(syscall!(libc::SYS_open_tree, libc::AT_FDCWD, etc.as_ptr(), OPEN_TREE_CLONE))?;
        let shadow = name("shadow");
        let file = syscall!(libc::SYS_openat, tree.as_raw_fd(), shadow.as_ptr(), libc::O_RDONLY, 0);
        Object::of(&raw::descriptor(file)?)
    });
}

#[test]
fn file_on_a_mount_that_was_never_attached_is_told() {
    let trick = "open: file system that is never attached (fsmount)";
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| Object::of(&open("/tmp/plain", libc::O_CREAT | libc::O_RDWR)?)).unwrap();
    let tried = stage.play(|| {
        const FSCONFIG_CMD_CREATE: u32 = 6;
        let tmpfs = name("tmpfs");
        let context = raw::descriptor(syscall!(libc::SYS_fsopen, tmpfs.as_ptr(), 0))?;
        syscall!(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, 0, 0, 0)?;
        let top = raw::descriptor(syscall!(libc::SYS_fsmount, context.as_raw_fd(), 0, 0))?;
        let (file, flags) = (name("hidden"), libc::O_CREAT | libc::O_RDWR);
        let file = syscall!(libc::SYS_openat, top.as_raw_fd(), file.as_ptr(), flags, 0o600);
        Object::of(&raw::descriptor(file)?)
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, "/tmp/plain").0 == Verdict::Seen);
    ending.judge(ending.opened(tried.pid, &tried.value, &tried.value.path()));
}

#[test]
fn chroot_does_not_make_another_file_of_it() {
    let trick = "open: chroot to the file's folder";
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(plainly).unwrap();
    let tried = stage.play(|| {
        std::os::unix::fs::chroot("/etc")?;
        // There is no /proc in there: the twin tells the object.
        open("/shadow", libc::O_RDONLY).map(drop)
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, SECRET).0 == Verdict::Seen);
    ending.judge(ending.opened(tried.pid, &twin.value, SECRET));
}

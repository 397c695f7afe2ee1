//! Other doors to the same room: every system call that opens a file.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use taffrail_tests::raw::{self, name, open};
use taffrail_tests::sandbox::unsupported;
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::stage::{Object, Stage};

const SECRET: &str = "/etc/shadow";

/// Plays a trick that opens the secret through another call.
#[track_caller]
fn door(trick: &'static str, kind: &str, part: impl FnOnce() -> io::Result<OwnedFd>) {
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| Object::of(&open(SECRET, libc::O_RDONLY)?)).unwrap();
    let Some(tried) = stage.play(|| Object::of(&part()?)) else { return };
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, SECRET).0 == Verdict::Seen);
    let (verdict, note) = ending.opened(tried.pid, &tried.value, &tried.value.path());
    let call = ending
        .by(tried.pid, "open")
        .any(|record| record["event"]["type"] == kind && record["event"]["file_ino"] == tried.value.ino);
    assert!(call || verdict == Verdict::Missed, "the open is not told to be {kind}");
    ending.judge((verdict, note));
}

#[test]
fn openat2_is_an_open() {
    door("open: openat2", "openat2", || {
        let (path, how) = (name(SECRET), [libc::O_RDONLY as u64, 0, 0]);
        raw::descriptor(syscall!(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), how.as_ptr(), 24))
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn creat_is_an_open() {
    door("open: creat", "creat", || {
        let path = name("/tmp/created");
        raw::descriptor(syscall!(libc::SYS_creat, path.as_ptr(), 0o600))
    });
}

#[test]
fn file_that_is_opened_by_handle_has_its_path() {
    door("open: open_by_handle_at", "open_by_handle_at", || {
        // A handle needs a file system that gives them, which overlayfs mostly is not: tmpfs is.
        std::fs::create_dir("/tmp/own")?;
        raw::mount("own", "/tmp/own", "tmpfs", 0, "")?;
        std::fs::write("/tmp/own/file", "")?;
        #[repr(C)]
        struct Handle {
            bytes: u32,
            kind: i32,
            data: [u8; 128],
        }
        let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
        let (path, mut mount) = (name("/tmp/own/file"), 0i32);
        syscall!(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0
        )
        .map_err(|error| unsupported(format!("no file handles: {error}")))?;
        let mount = open("/tmp/own", libc::O_RDONLY)?;
        let flags = libc::O_RDONLY;
        let file = syscall!(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut handle, flags);
        raw::descriptor(file)
    });
}

#[test]
fn descriptor_that_only_names_a_file_is_reopened_with_rights() {
    door("open: O_PATH, then again through /proc/self/fd", "openat", || {
        let named = open(SECRET, libc::O_PATH)?;
        open(format!("/proc/self/fd/{}", named.as_raw_fd()), libc::O_RDWR)
    });
}

#[cfg(target_arch = "x86_64")]
mod compat {
    use std::os::fd::{FromRawFd as _, OwnedFd};

    use taffrail_tests::raw::compat::{call, low, unavailable};
    use taffrail_tests::sandbox::unsupported;

    use super::{SECRET, door};

    fn terminated(text: &str) -> Vec<u8> {
        [text.as_bytes(), b"\0"].concat()
    }

    fn owned(fd: i64) -> OwnedFd {
        // SAFETY: a new descriptor that nobody else owns.
        unsafe { OwnedFd::from_raw_fd(fd as i32) }
    }

    #[test]
    fn open_by_the_32_bit_entry_is_an_open() {
        door("open: 32-bit entry, open", "open", || {
            unavailable().map_or(Ok(()), |reason| Err(unsupported(reason)))?;
            const OPEN: u32 = 5;
            Ok(owned(call(OPEN, &[low(&terminated(SECRET))?, libc::O_RDONLY as u32, 0])?))
        });
    }

    #[test]
    fn openat_by_the_32_bit_entry_is_an_open() {
        door("open: 32-bit entry, openat", "openat", || {
            unavailable().map_or(Ok(()), |reason| Err(unsupported(reason)))?;
            const OPENAT: u32 = 295;
            let path = low(&terminated(SECRET))?;
            Ok(owned(call(OPENAT, &[libc::AT_FDCWD as u32, path, libc::O_RDONLY as u32, 0])?))
        });
    }
}

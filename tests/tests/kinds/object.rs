//! What the log says about the object behind a path: where its bytes lie, and whose it is.

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use taffrail_tests::sandbox::{in_child, unsupported};
use taffrail_tests::{raw, syscall};

use crate::watch;

fn flags(record: &Value) -> Vec<&str> {
    record["event"]["file_flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn files_of_the_image_are_told_from_those_that_were_changed_since() {
    let Some(seen) = watch("files_of_the_image_are_told_from_those_that_were_changed_since", || {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        if !mounts.lines().any(|line| line.split(' ').nth(1) == Some("/") && line.contains(" overlay ")) {
            return Err(unsupported("the sandbox has no overlay"));
        }
        raw::open("/etc/passwd", libc::O_RDONLY)?;
        raw::open("/etc/hosts", libc::O_WRONLY | libc::O_APPEND)?;
        raw::open("/tmp/made", libc::O_WRONLY | libc::O_CREAT)?;
        std::fs::copy("/bin/program", "/tmp/program")?;
        let run = |path: &std::ffi::CStr| {
            in_child(|| {
                let arguments = [path.as_ptr(), std::ptr::null()];
                let _ =
                    syscall!(libc::SYS_execve, path.as_ptr(), arguments.as_ptr(), &raw const arguments[1]);
                1
            })
        };
        Ok((run(c"/bin/program")?.1, run(c"/tmp/program")?.1))
    }) else {
        return;
    };
    assert_eq!(seen.value, (0, 0));
    assert_eq!(flags(seen.one("open", json!({"file": "/etc/passwd"}))), ["image_layer"]);
    assert_eq!(flags(seen.one("open", json!({"file": "/etc/hosts"}))), ["upper_layer"]);
    assert_eq!(flags(seen.one("open", json!({"file": "/tmp/made"}))), ["upper_layer"]);
    assert_eq!(
        seen.one("exec", json!({"exe": "/bin/program"}))["event"]["exe_flags"],
        json!(["image_layer"])
    );
    assert_eq!(
        seen.one("exec", json!({"exe": "/tmp/program"}))["event"]["exe_flags"],
        json!(["upper_layer"])
    );
}

#[test]
fn part_of_another_file_system_that_is_mounted_in_is_marked() {
    let Some(seen) = watch("part_of_another_file_system_that_is_mounted_in_is_marked", || {
        // A file system of the container's own, as runtimes make them for /dev/shm, and a part of it, as a volume is.
        std::fs::create_dir("/tmp/own")?;
        raw::mount("own", "/tmp/own", "tmpfs", 0, "size=64k")?;
        std::fs::create_dir("/tmp/own/part")?;
        std::fs::create_dir("/tmp/volume")?;
        raw::mount("/tmp/own/part", "/tmp/volume", "", libc::MS_BIND, "")?;
        raw::open("/tmp/own/file", libc::O_RDWR | libc::O_CREAT)?;
        raw::open("/tmp/volume/file", libc::O_RDWR | libc::O_CREAT)?;
        // As runtimes hide and protect files of the kernel.
        raw::mount("/dev/null", "/proc/timer_list", "", libc::MS_BIND, "").map_err(unsupported)?;
        raw::mount("/proc/sys", "/proc/sys", "", libc::MS_BIND, "")?;
        raw::open("/proc/timer_list", libc::O_RDONLY)?;
        raw::open("/proc/sys/kernel/ostype", libc::O_RDONLY)?;
        Ok(())
    }) else {
        return;
    };
    assert_eq!(flags(seen.one("open", json!({"file": "/tmp/own/file"}))), ["tmpfs"]);
    assert_eq!(flags(seen.one("open", json!({"file": "/tmp/volume/file"}))), ["tmpfs", "host_mount"]);
    assert_eq!(flags(seen.one("open", json!({"file": "/proc/timer_list"}))), ["tmpfs"]);
    assert!(flags(seen.one("open", json!({"file": "/proc/sys/kernel/ostype"}))).is_empty());
}

#[test]
fn changed_root_does_not_shorten_what_files_are_called() {
    let Some(seen) = watch("changed_root_does_not_shorten_what_files_are_called", || {
        std::fs::create_dir("/tmp/mounted")?;
        raw::mount("own", "/tmp/mounted", "tmpfs", 0, "size=64k")?;
        std::fs::write("/tmp/mounted/file", "")?;
        in_child(|| {
            let opened = syscall!(libc::SYS_chroot, c"/etc".as_ptr())
                .and_then(|_| std::env::set_current_dir("/").map(|()| 0))
                .and_then(|_| raw::open("/shadow", libc::O_RDONLY));
            // Not found, and the folder that it is relative to is the changed root.
            i32::from(opened.is_err() || raw::open("missing", libc::O_RDONLY).is_ok())
        })?;
        // The root of a mount is no better.
        let status = in_child(|| {
            let opened = syscall!(libc::SYS_chroot, c"/tmp/mounted".as_ptr())
                .and_then(|_| raw::open("/file", libc::O_RDONLY));
            i32::from(opened.is_err())
        })?;
        Ok(status.1)
    }) else {
        return;
    };
    assert_eq!(seen.value, 0);
    let shadow = seen.one("open", json!({"file": "/etc/shadow"}));
    assert!(flags(shadow).contains(&"chroot"), "{shadow}");
    let missing = seen.one("open", json!({"file": "missing", "result": -libc::ENOENT, "base": "/etc"}));
    assert!(missing["event"]["base_flags"].as_array().unwrap().contains(&json!("chroot")));
    let file =
        seen.one("open", json!({"file": "/tmp/mounted/file", "flags_names": ["O_RDONLY", "O_LARGEFILE"]}));
    assert!(flags(file).contains(&"chroot") && !flags(file).contains(&"outside_root"), "{file}");
}

#[test]
fn set_id_bits_and_files_in_memory_are_seen() {
    let Some(seen) = watch("set_id_bits_and_files_in_memory_are_seen", || {
        std::fs::write("/tmp/rooted", "x")?;
        std::fs::set_permissions("/tmp/rooted", std::fs::Permissions::from_mode(0o4755))?;
        raw::open("/tmp/rooted", libc::O_RDONLY)?;
        let memory = raw::descriptor(syscall!(libc::SYS_memfd_create, c"m".as_ptr(), 0))?;
        syscall!(libc::SYS_write, memory.as_raw_fd(), b"x".as_ptr(), 1)
    }) else {
        return;
    };
    seen.one("open", json!({"file": "/tmp/rooted", "mode": "104755"}));
    let memory = seen.one("write", json!({"file": "/memfd:m"}));
    let flags = flags(memory);
    assert!(
        flags.contains(&"tmpfs") && flags.contains(&"detached") && !flags.contains(&"host_mount"),
        "{flags:?}"
    );
}

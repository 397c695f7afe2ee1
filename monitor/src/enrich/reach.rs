//! Files that a container can have made into anything. They are found without a question to a file system that may
//! never answer, links are resolved within the container's root, and only regular files are opened.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};

/// File systems that answer by themselves: behind others there may be a program or another machine.
const KINDS: &[&str] = &[
    "overlay", "ext4", "ext3", "ext2", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "rootfs", "squashfs",
    "erofs", "aufs", "bcachefs",
];

/// What the kernel knows of a file without a question to its file system.
pub fn stat(file: &impl AsFd) -> io::Result<Statx> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(rustix::fs::statx(file, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?)
}

/// The device of a file in the kernel's own form (major << 20 | minor).
pub fn device(stat: &Statx) -> u32 {
    stat.stx_dev_major << 20 | stat.stx_dev_minor
}

/// A mount that a file is on.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// Device of its file system, as [`device`] has it; of a part of btrfs that is not what files say.
    pub dev: u32,
    /// Whether its file system can be trusted to answer; of an overlay, if those below it can.
    pub is_trusted: bool,
    /// Whether it is an overlay.
    pub is_overlay: bool,
}

/// The mount that a file is on, if we, the host or that process can see it.
pub fn mount(stat: &Statx, pid: u32) -> Option<Mount> {
    let id = stat.stx_mnt_id.to_string();
    ["self", "1", &pid.to_string()].iter().find_map(|of| {
        let mounts = mounts_of(of);
        parse(mounts.lines().find(|line| line.split(' ').next() == Some(&id))?)
    })
}

/// All mounts that a process can see; their paths are any bytes.
fn mounts_of(process: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the host has mounted that device: an overlay that is only in a container may lie over what never answers.
pub fn is_hosts(dev: u32) -> bool {
    let is_it = |mount: Mount| mount.dev == dev && mount.is_trusted;
    ["self", "1"].iter().any(|of| mounts_of(of).lines().filter_map(parse).any(is_it))
}

/// The device of files in memory that are on no mount.
pub fn memory() -> Option<u32> {
    static DEVICE: OnceLock<Option<u32>> = OnceLock::new();
    let own = || {
        let file = rustix::fs::memfd_create(c"taffrail", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
        Some(device(&stat(&file).ok()?))
    };
    *DEVICE.get_or_init(own)
}

/// A line of `mountinfo` (proc(5)).
fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
    let dev = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?;
    let kind = file_system.split(' ').next()?;
    Some(Mount { dev, is_trusted: KINDS.contains(&kind), is_overlay: kind == "overlay" })
}

/// Opens a root folder, if its file system can be trusted to answer.
pub fn open_root(path: &Path, pid: u32) -> Option<OwnedFd> {
    let folder = File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path).ok()?;
    mount(&stat(&folder).ok()?, pid)?.is_trusted.then(|| folder.into())
}

/// Finds what is below a root, on the root's own mount, as whoever has that root would find it.
pub fn find_in(root: &OwnedFd, path: &CStr) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?.into())
}

/// Opens a file of the host's.
pub fn open_plainly(path: &Path) -> Option<File> {
    let found = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path);
    found.and_then(|found| read_regular(&found)).ok()
}

/// Opens what was found, if that is a regular file: to open a device can do something by itself.
pub fn read_regular(found: &File) -> io::Result<File> {
    if FileType::from_raw_mode(stat(found)?.stx_mode.into()) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options().read(true).custom_flags(flags).open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_on_a_mount_of_the_host_and_a_pipe_is_on_none() {
        let stat_of = |file: &File| stat(file).unwrap();
        let own = stat_of(&File::open("/proc/self/exe").unwrap());
        let found = mount(&own, std::process::id()).unwrap();
        assert!(found.is_trusted && is_hosts(found.dev));
        let (pipe, _writer) = std::io::pipe().unwrap();
        assert_eq!(mount(&stat(&pipe).unwrap(), std::process::id()), None);
        let proc = stat_of(&File::open("/proc/version").unwrap());
        assert!(!mount(&proc, std::process::id()).unwrap().is_trusted && !is_hosts(device(&proc)));
    }

    #[test]
    fn line_of_mountinfo_tells_device_and_kind() {
        let line = |kind: &str| format!("36 35 98:7 /x /mnt rw master:1 shared:3 - {kind} /dev/root rw");
        assert_eq!(
            parse(&line("ext4")),
            Some(Mount { dev: 98 << 20 | 7, is_trusted: true, is_overlay: false })
        );
        assert_eq!(
            parse(&line("fuse.x")),
            Some(Mount { dev: 98 << 20 | 7, is_trusted: false, is_overlay: false })
        );
        for damaged in ["", "36 35 98 / - ext4", "36 35 x:1 / / rw - ext4", "36 35 9999999999:1 / / - ext4"] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
    }
}

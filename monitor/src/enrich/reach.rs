//! Files that a container can have made into anything. They are found without a question to a file system that may
//! never answer, links are resolved within the container's root, and only regular files are opened.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// File systems that answer by themselves: behind others there may be a program or another machine.
const KINDS: &[&str] = &[
    "overlay", "ext4", "ext3", "ext2", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "rootfs", "squashfs",
    "erofs", "aufs", "bcachefs",
];

/// Links on the way to a file, at most, as the kernel has it.
const LINKS_MAX: usize = 40;

/// Names on the way to a file, at most, with those of links: the kernel would take more, and more time.
const STEPS_MAX: usize = 4096;

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

/// The device of files in memory that are on no mount; `None` if the daemon may not make one.
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
///
/// `openat2` does that in one step, but can write as well, and no filter can tell: the daemon does without it. This goes
/// by one name at a time and follows no link itself. Other than `openat2` it stands on what is mounted on the way before
/// it sees that and turns back; such a step opens nothing there.
pub fn find_in(root: &OwnedFd, path: &CStr) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mount = stat(root)?.stx_mnt_id;
    let mut here = root.try_clone()?;
    // Names that led here from the root, and those ahead, the next one last.
    let mut behind: Vec<Vec<u8>> = Vec::new();
    let mut ahead: Vec<Vec<u8>> = names(path).collect();
    let mut links = 0;
    for _ in 0..STEPS_MAX {
        let Some(name) = ahead.pop() else { return Ok(here.into()) };
        if name == b".." {
            if kind(&stat(&here)?) != FileType::Directory {
                return Err(Errno::NOTDIR.into());
            }
            // The folder may have been moved out of the root meanwhile, and its own `..` with it. The names lead nowhere
            // but below the root.
            behind.pop();
            ahead.extend(behind.drain(..).rev());
            here = root.try_clone()?;
            continue;
        }
        let found = rustix::fs::openat(&here, &name, flags, Mode::empty())?;
        let stat = stat(&found)?;
        if stat.stx_mnt_id != mount {
            return Err(Errno::XDEV.into());
        }
        if kind(&stat) != FileType::Symlink {
            behind.push(name);
            here = found;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            break;
        }
        let target = rustix::fs::readlinkat(&found, c"", Vec::new())?;
        if target.to_bytes().starts_with(b"/") {
            behind.clear();
            here = root.try_clone()?;
        }
        ahead.extend(names(&target));
    }
    Err(Errno::LOOP.into())
}

/// The names that a path consists of, the last one first.
fn names(path: &CStr) -> impl Iterator<Item = Vec<u8>> {
    let names = path.to_bytes().rsplit(|byte| *byte == b'/');
    names.filter(|name| !matches!(name, [] | [b'.'])).map(<[u8]>::to_vec)
}

/// What sort of file that is.
fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// Opens a file of the host's.
pub fn open_plainly(path: &Path) -> Option<File> {
    let found = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path);
    found.and_then(|found| read_regular(&found)).ok()
}

/// Opens what was found, if that is a regular file: to open a device can do something by itself.
pub fn read_regular(found: &File) -> io::Result<File> {
    if kind(&stat(found)?) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options().read(true).custom_flags(flags).open(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{RenameFlags, ResolveFlags};

    use super::*;

    /// What the kernel's own way finds, as inode or error.
    fn by_the_kernel(root: &OwnedFd, path: &CStr) -> Result<u64, Option<i32>> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let found = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
        found.map(|found| stat(&found).unwrap().stx_ino).map_err(|error| Some(error.raw_os_error()))
    }

    fn by_names(root: &OwnedFd, path: &CStr) -> Result<u64, Option<i32>> {
        let found = find_in(root, path).map_err(|error| error.raw_os_error())?;
        Ok(stat(&found).unwrap().stx_ino)
    }

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn path_in_a_root_leads_where_the_kernel_says() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("root/a/b")).unwrap();
        std::fs::write(at("root/a/b/file"), "").unwrap();
        // Below and beside the root there are files of one name.
        std::fs::write(at("file"), "").unwrap();
        std::fs::write(at("root/file"), "").unwrap();
        for (link, target) in [
            ("absolute", "/a/b/file".to_owned()),
            ("relative", "a/b/../b/./file".to_owned()),
            ("a/up", "../file".to_owned()),
            ("a/b/out", "../../../../file".to_owned()),
            ("root", "/".to_owned()),
            ("loop", "loop".to_owned()),
            ("nowhere", "/none/file".to_owned()),
            ("host", at("file").to_str().unwrap().to_owned()),
            ("self", "/proc/self/root".to_owned()),
            ("l0", "file".to_owned()),
        ] {
            symlink(target, at("root").join(link)).unwrap();
        }
        for n in 1..=LINKS_MAX {
            symlink(format!("l{}", n - 1), at(&format!("root/l{n}"))).unwrap();
        }
        let root = open(&at("root"));
        for path in [
            c"a/b/file",
            c"/a//b/./file",
            c"/../../file",
            c"../a/../../file",
            c"a/b/../../file",
            c"absolute",
            c"relative",
            c"a/up",
            c"a/b/out",
            c"a/up/..",
            c"file/..",
            c"file/x",
            c"root/root/a/../file",
            c"loop",
            c"nowhere",
            c"none/..",
            c"host",
            c"self",
            c"/",
            c"..",
            c"l39",
            c"l40",
            c"a/b/../up",
            c"root/../a",
        ] {
            assert_eq!(by_names(&root, path), by_the_kernel(&root, path), "{path:?}");
        }
        assert_eq!(by_names(&root, c"l40"), Err(Some(libc::ELOOP)));
    }

    #[test]
    fn neither_what_is_mounted_nor_a_link_of_proc_is_a_way_out() {
        let root = open(Path::new("/"));
        for path in [c"proc", c"proc/version", c"/proc/self/exe", c"usr/../proc/1/root/etc"] {
            assert_eq!(by_names(&root, path), Err(Some(libc::EXDEV)), "{path:?}");
            assert_eq!(by_the_kernel(&root, path), Err(Some(libc::EXDEV)), "{path:?}");
        }
        // Within `/proc` these are names of files, of which there are none there.
        let proc = open(Path::new("/proc"));
        for path in [c"self/root/etc", c"self/exe", c"self/cwd/x"] {
            assert_eq!(by_names(&proc, path), Err(Some(libc::ENOENT)), "{path:?}");
        }
    }

    #[test]
    fn path_that_takes_too_long_is_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let root = open(folder.path());
        let path = std::ffi::CString::new("a/../".repeat(600)).unwrap();
        assert_eq!(by_names(&root, &path), by_the_kernel(&root, &path));
        symlink("a/../".repeat(800), folder.path().join("long")).unwrap();
        let path = std::ffi::CString::new("long/".repeat(39)).unwrap();
        assert_eq!(by_names(&root, &path), Err(Some(libc::ELOOP)));
    }

    #[test]
    fn folder_that_is_moved_out_of_the_root_on_the_way_does_not_lead_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("root/a/b")).unwrap();
        std::fs::create_dir_all(at("beside/b")).unwrap();
        std::fs::write(at("beside/secret"), "").unwrap();
        std::fs::write(at("secret"), "").unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let (inside, outside) = (at("root/a/b"), at("beside/b"));
                    let here = rustix::fs::CWD;
                    rustix::fs::renameat_with(here, inside, here, outside, RenameFlags::EXCHANGE).unwrap();
                }
            });
            let root = open(&at("root"));
            let found: Vec<_> = (0..5_000)
                .map(|_| by_names(&root, c"a/b/../../secret").or(by_names(&root, c"a/b/../secret")))
                .collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(found.iter().all(|found| *found == Err(Some(libc::ENOENT))));
        });
    }

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

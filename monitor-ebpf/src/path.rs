//! Paths from the kernel's own objects: from a dentry up to the task's root, over mounts.
//!
//! Functions with `LOOP` walk by `bpf_loop` (5.17), which the verifier looks at once; without it by a plain,
//! bounded loop. A program that so much as mentions `bpf_loop`'s callback is refused by older kernels, so
//! each program that walks comes in both forms.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use core::ptr::{read_volatile, write_volatile};
use taffrail_common::event::{Path, TEXT_MAX, path_flag};

use crate::emit::Draft;
use crate::read::{kernel, mask, offset};
use crate::task::Task;

/// Most steps (names and mounts) of one walk by `bpf_loop`. A path with more of them loses its start and
/// says so.
const STEPS: u32 = 512;

/// As [`STEPS`], for kernels before 5.17, which verify each round of a plain loop.
const STEPS_BOUNDED: u32 = 20;

/// A `struct path`: two pointers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelPath {
    pub mnt: *const u8,
    pub dentry: *const u8,
}

/// No object at all.
pub const NONE: KernelPath = KernelPath { mnt: core::ptr::null(), dentry: core::ptr::null() };

/// Reads the `struct path` at an address.
#[inline(always)]
pub fn kernel_path(base: *const u8, offset: usize) -> KernelPath {
    let base = base.wrapping_add(offset);
    KernelPath { mnt: kernel(base, offset!(path_mnt)), dentry: kernel(base, offset!(path_dentry)) }
}

/// The root directory of a task.
#[inline(always)]
pub fn root(task: Task) -> KernelPath {
    kernel_path(task.field(offset!(task_fs)), offset!(fs_root))
}

/// The working directory of a task.
#[inline(always)]
pub fn cwd(task: Task) -> KernelPath {
    kernel_path(task.field(offset!(task_fs)), offset!(fs_pwd))
}

/// The path of an open file.
#[inline(always)]
pub fn of_file(file: *const u8) -> KernelPath {
    kernel_path(file, offset!(file_path))
}

/// No path: nothing there.
pub const EMPTY: Path = Path { len: 0, full_len: 0, flags: 0, dev: 0, ino: 0 };

/// Appends the path of a directory or other object without an inode of its own at hand.
#[inline(always)]
pub fn append<R, const LOOP: bool>(draft: &Draft<R>, path: KernelPath, root: KernelPath) -> Path {
    append_inode::<R, LOOP>(draft, path, root, kernel(path.dentry, offset!(dentry_inode)))
}

/// Appends the path of an object whose inode is known.
#[inline(always)]
pub fn append_inode<R, const LOOP: bool>(
    draft: &Draft<R>,
    path: KernelPath,
    root: KernelPath,
    inode: *const u8,
) -> Path {
    if path.dentry.is_null() {
        return Path { flags: path_flag::UNREADABLE, ..EMPTY };
    }
    let walk = Walk::run::<LOOP>(draft.walk(), path, root);
    let start = walk.get(START);
    let len = draft.append_kernel(walk.text(start), TEXT as u64 - start);
    let super_block: *const u8 = kernel(inode, offset!(inode_sb));
    walk.add(storage(inode, super_block));
    walk.add(mounted(path, root, inode, super_block));
    Path {
        len,
        full_len: walk.get(FULL_LEN) as u32,
        flags: walk.get(FLAGS) as u32,
        dev: kernel(super_block, offset!(super_block_dev)),
        ino: kernel(inode, offset!(inode_ino)),
    }
}

/// Where the bytes of an object lie: in memory, in a container's own layer, or in its image.
#[inline(always)]
fn storage(inode: *const u8, super_block: *const u8) -> u32 {
    match kernel::<u64>(super_block, offset!(super_block_magic)) {
        magic::TMPFS => path_flag::TMPFS,
        // `struct ovl_inode` has the dentry in the upper layer right after the inode, on all kernels; a module's
        // types are not in the kernel's BTF.
        magic::OVERLAYFS if kernel::<u64>(inode, offset!(inode_size)) != 0 => path_flag::UPPER_LAYER,
        magic::OVERLAYFS => path_flag::IMAGE_LAYER,
        _ => 0,
    }
}

/// [`path_flag::HOST_MOUNT`] if it applies. File systems that show the kernel itself, and devices, are nobody's: a
/// runtime binds parts of them over others to hide those.
#[inline(always)]
fn mounted(path: KernelPath, root: KernelPath, inode: *const u8, super_block: *const u8) -> u32 {
    const S_IFMT: u16 = 0o170000;
    const S_IFCHR: u16 = 0o020000;
    const S_IFBLK: u16 = 0o060000;
    if path.mnt == root.mnt || matches!(kernel::<u16>(inode, offset!(inode_mode)) & S_IFMT, S_IFCHR | S_IFBLK)
    {
        return 0;
    }
    match kernel::<u64>(super_block, offset!(super_block_magic)) {
        magic::PROC
        | magic::SYSFS
        | magic::CGROUP
        | magic::CGROUP2
        | magic::DEVPTS
        | magic::NSFS
        | magic::BPF
        | magic::DEBUGFS
        | magic::TRACEFS
        | magic::SECURITYFS
        | magic::MQUEUE => return 0,
        // A bind mount within the container's own layers.
        magic::OVERLAYFS if super_block == kernel(root.mnt, offset!(vfsmount_sb)) => return 0,
        _ => {}
    }
    let is_part = || {
        kernel::<u64>(path.mnt, offset!(vfsmount_root))
            != kernel::<u64>(super_block, offset!(super_block_root))
    };
    let shown = kernel::<u64>(super_block, offset!(super_block_bdev)) != 0 || is_part();
    if shown { path_flag::HOST_MOUNT } else { 0 }
}

/// `super_block.s_magic` of file systems (`linux/magic.h`).
mod magic {
    pub const BPF: u64 = 0xcafe_4a11;
    pub const CGROUP: u64 = 0x27_e0eb;
    pub const CGROUP2: u64 = 0x6367_7270;
    pub const DEBUGFS: u64 = 0x6462_6720;
    pub const DEVPTS: u64 = 0x1cd1;
    pub const MQUEUE: u64 = 0x1980_0202;
    pub const NSFS: u64 = 0x6e73_6673;
    pub const OVERLAYFS: u64 = 0x794c_7630;
    pub const PROC: u64 = 0x9fa0;
    pub const SECURITYFS: u64 = 0x7363_6673;
    pub const SYSFS: u64 = 0x6265_6572;
    pub const TMPFS: u64 = 0x0102_1994;
    pub const TRACEFS: u64 = 0x7472_6163;
}

/// Memory of a walk. All that a walk knows lives here, nothing in registers.
///
/// VERIFIER: what is read back from a map is an unknown scalar, so the states of all rounds and branches
/// are alike and merge: a walk verifies in thousands of instructions instead of a million.
#[repr(C)]
pub struct WalkMemory {
    words: [u64; WORDS],
    /// The head of the dentry that is being looked at: 64 bytes hold the fields that we want on all
    /// kernels, which the verifier checks too.
    head: [u8; 64],
    /// The path, written from its end towards its start, and one name's room behind it.
    text: [u8; TEXT + 256],
}

/// Bytes of a path that a walk can hold.
const TEXT: usize = 4096;
const _: () = assert!(TEXT_MAX < TEXT);

/// The words of [`WalkMemory`]: where the walk is and where it ends, addresses of dentries and mounts.
const DENTRY: usize = 0;
const MOUNT: usize = 1;
const MOUNT_ROOT: usize = 2;
const END_DENTRY: usize = 3;
const END_MOUNT: usize = 4;
/// Where in `text` the path starts.
const START: usize = 5;
/// Bytes that the whole path has.
const FULL_LEN: usize = 6;
/// Bits of `path_flag`.
const FLAGS: usize = 7;
const WORDS: usize = 8;

#[derive(Clone, Copy)]
struct Walk(*mut WalkMemory);

impl Walk {
    /// Walks from `path` to `root`.
    #[inline(always)]
    fn run<const LOOP: bool>(memory: *mut WalkMemory, path: KernelPath, root: KernelPath) -> Self {
        let walk = Self(memory);
        walk.set(DENTRY, path.dentry as u64);
        // `struct vfsmount` lies within `struct mount`.
        walk.set(MOUNT, path.mnt.wrapping_sub(offset!(mount_mnt)) as u64);
        walk.set(MOUNT_ROOT, kernel(path.mnt, offset!(vfsmount_root)));
        walk.set(END_DENTRY, root.dentry as u64);
        walk.set(END_MOUNT, root.mnt.wrapping_sub(offset!(mount_mnt)) as u64);
        walk.set(START, TEXT as u64);
        walk.set(FULL_LEN, 0);
        walk.set(FLAGS, (path_flag::INCOMPLETE | deleted(path.dentry)) as u64);
        if LOOP {
            let mut context = walk;
            // SAFETY: `step` has the signature that the helper calls, and the context outlives the call.
            unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut context).cast(), 0) };
        } else {
            for _ in 0..STEPS_BOUNDED {
                if walk.step() {
                    break;
                }
            }
        }
        if walk.get(FULL_LEN) == 0 {
            // The root itself.
            walk.prepend(core::ptr::null(), 0);
        }
        walk
    }

    /// One name or one mount; returns whether it was the last.
    #[inline(always)]
    fn step(self) -> bool {
        let dentry = self.get(DENTRY);
        let mount = self.get(MOUNT);
        if dentry == self.get(END_DENTRY) && mount == self.get(END_MOUNT) {
            if self.is_top(dentry, mount as *const u8) {
                return self.end(path_flag::ROOT_REACHED);
            }
            // The task has locked itself into a part of its container: the path goes on to the container's root.
            self.set(END_DENTRY, 0);
            self.set(FLAGS, self.get(FLAGS) | (path_flag::ROOT_REACHED | path_flag::CHROOT) as u64);
        }
        if dentry == self.get(MOUNT_ROOT) {
            let mount = mount as *const u8;
            let parent: *const u8 = kernel(mount, offset!(mount_parent));
            if parent == mount {
                return self.end(self.top(dentry));
            }
            self.set(DENTRY, kernel(mount, offset!(mount_mountpoint)));
            self.set(MOUNT, parent as u64);
            self.set(MOUNT_ROOT, kernel(parent, offset!(mount_mnt) + offset!(vfsmount_root)));
            return false;
        }
        let parent = self.prepend_dentry(dentry);
        if parent == dentry {
            return self.end(path_flag::DETACHED);
        }
        self.set(DENTRY, parent);
        false
    }

    /// Whether nothing is above a task's root but the roots of mounts that it covers: so it is in a container and on
    /// the host, where root mounts are stacked.
    #[inline(always)]
    fn is_top(self, dentry: u64, mount: *const u8) -> bool {
        if dentry != self.get(MOUNT_ROOT) {
            return false;
        }
        let parent: *const u8 = kernel(mount, offset!(mount_parent));
        let mountpoint: u64 = kernel(mount, offset!(mount_mountpoint));
        mountpoint == kernel::<u64>(parent, offset!(mount_mnt) + offset!(vfsmount_root))
    }

    /// At the top of a mount tree that is not the task's: the first one, or one that was taken off. If what was
    /// taken off is a single file, its name is all there is.
    #[inline(always)]
    fn top(self, dentry: u64) -> u32 {
        if self.get(FLAGS) & path_flag::CHROOT as u64 != 0 {
            return 0;
        }
        if self.get(FULL_LEN) > 0 {
            return path_flag::OUTSIDE_ROOT;
        }
        if self.prepend_dentry(dentry) == dentry {
            // The root of a file system has a name of its own, "/".
            self.set(FULL_LEN, 0);
            self.set(START, TEXT as u64);
            return path_flag::OUTSIDE_ROOT;
        }
        path_flag::OUTSIDE_ROOT | path_flag::DETACHED
    }

    /// Puts a dentry's name before the text; returns its parent.
    #[inline(always)]
    fn prepend_dentry(self, dentry: u64) -> u64 {
        // SAFETY: an address within the memory.
        let head = unsafe { (&raw mut (*self.0).head).cast::<u8>() };
        // SAFETY: the helper checks the address it reads.
        unsafe { bpf_probe_read_kernel(head.cast(), 64, dentry as *const _) };
        let name: *const u8 = copied(head, offset!(dentry_name));
        self.prepend(name, mask::<0xff>(copied::<u32>(head, offset!(dentry_name_len)) as u64));
        copied(head, offset!(dentry_parent))
    }

    /// Puts a slash and a name of `len` (at most 255) bytes before the text, if there is room.
    #[inline(always)]
    fn prepend(self, name: *const u8, len: u64) {
        self.set(FULL_LEN, self.get(FULL_LEN) + len + 1);
        let end = self.get(START);
        if end <= len {
            return;
        }
        let start = mask::<0xfff>(end - len - 1);
        let text = self.text(start).cast_mut();
        // SAFETY: `start` is below 4096, and 256 bytes of room follow.
        unsafe { *text = b'/' };
        // SAFETY: as above; the helper checks the address it reads.
        unsafe { bpf_probe_read_kernel(text.add(1).cast(), mask::<0xff>(len) as u32, name.cast()) };
        self.set(START, start);
    }

    /// Sets flags. VERIFIER: in memory, so that what decided on them is forgotten.
    #[inline(always)]
    fn add(self, flags: u32) {
        self.set(FLAGS, self.get(FLAGS) | flags as u64);
    }

    #[inline(always)]
    fn end(self, flag: u32) -> bool {
        self.set(FLAGS, self.get(FLAGS) & !(path_flag::INCOMPLETE as u64) | flag as u64);
        true
    }

    #[inline(always)]
    fn get(self, word: usize) -> u64 {
        // SAFETY: within the memory; `word` is one of the constants.
        unsafe { read_volatile((&raw const (*self.0).words).cast::<u64>().add(word)) }
    }

    #[inline(always)]
    fn set(self, word: usize, value: u64) {
        // SAFETY: within the memory; `word` is one of the constants.
        unsafe { write_volatile((&raw mut (*self.0).words).cast::<u64>().add(word), value) };
    }

    /// The text from `start` on.
    #[inline(always)]
    fn text(self, start: u64) -> *const u8 {
        // SAFETY: within the memory.
        unsafe { (&raw const (*self.0).text).cast::<u8>().add(mask::<0xfff>(start) as usize) }
    }
}

/// One round of `bpf_loop`; returns 1 to end it.
unsafe extern "C" fn step(_round: u32, walk: *mut Walk) -> i64 {
    // SAFETY: the helper passes on what `run` gave it.
    let walk = unsafe { read_volatile(walk) };
    i64::from(walk.step())
}

/// A field of the copied head of a dentry.
#[inline(always)]
fn copied<T: Copy>(copy: *const u8, offset: usize) -> T {
    // SAFETY: the verifier checks that it lies within the 64 bytes.
    unsafe { read_volatile(copy.add(offset).cast::<T>()) }
}

/// `DELETED` if the name is not linked any more; the root of a tree has no link.
#[inline(always)]
fn deleted(dentry: *const u8) -> u32 {
    let linked: u64 = kernel(dentry, offset!(dentry_hash_pprev));
    let parent: *const u8 = kernel(dentry, offset!(dentry_parent));
    if linked == 0 && parent != dentry { path_flag::DELETED } else { 0 }
}

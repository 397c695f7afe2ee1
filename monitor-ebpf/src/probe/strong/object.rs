//! The objects that calls of the kinds `change` and `mount` work on, when the kernel has resolved their names: no other
//! thread can change what is told. They are kept for the end of the call, which has its result.

use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;
use taffrail_common::event::{Path, path_flag};
use taffrail_common::kind::{CHANGE, MOUNT};

use super::{free_place, release};
use crate::emit::Draft;
use crate::maps::{OBJECTS, OBJECTS_TEXT, Objects, ObjectsHead};
use crate::path::{self, KernelPath, kernel_path};
use crate::probe::syscall::{Ended, of_thread};
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{Task, thread_key};

macro_rules! programs {
    ($( $(#[$doc:meta])* $name:ident, $bounded:ident: |$ctx:ident| $found:expr; )*) => { $(
        $(#[$doc])*
        #[fentry]
        pub fn $name($ctx: FEntryContext) -> i32 {
            keep::<true>($found)
        }

        #[doc = concat!("[`", stringify!($name), "`] for kernels without `bpf_loop`.")]
        #[fentry]
        pub fn $bounded($ctx: FEntryContext) -> i32 {
            keep::<false>($found)
        }
    )* };
}

programs! {
    /// `security_path_…(const struct path *dir, struct dentry *dentry, …)`: unlink, rmdir, mkdir, mknod, symlink.
    object_name, object_name_bounded: |ctx| Found::one(named(&ctx, 0));
    /// `security_path_…(const struct path *path, …)`: truncate, chmod, chown, chroot.
    object_path, object_path_bounded: |ctx| Found::one(kernel_path(ctx.arg(0), 0));
    /// `security_path_rename(const struct path *old_dir, struct dentry *old_dentry, const struct path *new_dir,
    /// struct dentry *new_dentry, unsigned int flags)`
    object_rename, object_rename_bounded: |ctx| Found { file: named(&ctx, 0), target: named(&ctx, 2) };
    /// `security_path_link(struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)`
    object_link, object_link_bounded: |ctx| {
        let target = named(&ctx, 1);
        Found { file: KernelPath { mnt: target.mnt, dentry: ctx.arg(0) }, target }
    };
    /// `security_move_mount(const struct path *from_path, const struct path *to_path)`
    object_move, object_move_bounded: |ctx| {
        Found { file: kernel_path(ctx.arg(0), 0), target: kernel_path(ctx.arg(1), 0) }
    };
    /// `security_sb_pivotroot(const struct path *old_path, const struct path *new_path)`: the old root's new place, and the
    /// new root.
    object_pivot, object_pivot_bounded: |ctx| {
        Found { file: kernel_path(ctx.arg(1), 0), target: kernel_path(ctx.arg(0), 0) }
    };
    /// `security_sb_mount(const char *dev_name, const struct path *path, …)`: the source is whatever the file system's type
    /// takes it for.
    object_mount, object_mount_bounded: |ctx| Found { file: path::NONE, target: kernel_path(ctx.arg(1), 0) };
    /// `security_sb_umount(struct vfsmount *mnt, int flags)`
    object_umount, object_umount_bounded: |ctx| {
        let mnt: *const u8 = ctx.arg(0);
        Found::one(KernelPath { mnt, dentry: kernel(mnt, offset!(vfsmount_root)) })
    };
}

/// The objects.
struct Found {
    /// Null if the call's end tells what the caller gave.
    file: KernelPath,
    /// Null if there is no second one.
    target: KernelPath,
}

impl Found {
    #[inline(always)]
    fn one(file: KernelPath) -> Self {
        Self { file, target: path::NONE }
    }
}

/// A directory and a name in it, as arguments from `place` on.
#[inline(always)]
fn named(ctx: &FEntryContext, place: usize) -> KernelPath {
    let dir: *const u8 = ctx.arg(place);
    KernelPath { mnt: kernel(dir, offset!(path_mnt)), dentry: ctx.arg(place + 1) }
}

#[inline(always)]
fn keep<const LOOP: bool>(found: Found) -> i32 {
    let cgroup_id = scope::cgroup_id();
    if !scope::watched(CHANGE, cgroup_id) && !scope::watched(MOUNT, cgroup_id) {
        return 0;
    }
    let task = Task::current();
    // An open can truncate, and a bind makes a file: those are not of these kinds.
    let Some((shape, _, args)) = of_thread(task) else { return 0 };
    if !matches!(shape.kind, CHANGE | MOUNT) {
        return 0;
    }
    // Without a place the call's end tells what the caller gave, and marks it.
    if let Some(scratch) = free_place() {
        if let Some(draft) = Draft::<ObjectsHead>::begin(scratch) {
            keep_in::<LOOP>(&draft, &found, shape.call, args, task);
        }
        release(scratch);
    }
    0
}

#[inline(always)]
fn keep_in<const LOOP: bool>(
    draft: &Draft<ObjectsHead>,
    found: &Found,
    call: u16,
    args: [u64; 2],
    task: Task,
) {
    let root = path::root(task);
    let file = walked::<LOOP>(draft, found.file, root);
    let target = walked::<LOOP>(draft, found.target, root);
    let inode: *const u8 = kernel(found.file.dentry, offset!(dentry_inode));
    let head = draft.record();
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*head).args = args;
        (*head).file = file;
        (*head).target = target;
        (*head).call = call as u32;
        (*head).mode = kernel::<u16>(inode, offset!(inode_mode)) as u32;
    }
    // SAFETY: the scratch record has room for all of it.
    let objects = unsafe { &*head.cast::<Objects>() };
    let _ = OBJECTS.insert(&thread_key(), objects, 0);
}

/// The path of an object, empty if there is none. A name that is about to be made has no object yet and no link.
#[inline(always)]
fn walked<const LOOP: bool>(draft: &Draft<ObjectsHead>, path: KernelPath, root: KernelPath) -> Path {
    if path.dentry.is_null() {
        return path::EMPTY;
    }
    let walked = path::append::<_, LOOP>(draft, path, root);
    if walked.ino != 0 { walked } else { Path { flags: walked.flags & !path_flag::DELETED, ..walked } }
}

/// The objects that were kept for the call that ends, and the address of their text, until [`forget`].
#[inline(always)]
pub fn of_call(ended: &Ended) -> Option<(ObjectsHead, *const u8)> {
    let objects = OBJECTS.get_ptr(&thread_key())?;
    // SAFETY: the entry is this thread's own.
    let head = unsafe { (&raw const (*objects).head).read_volatile() };
    // One that another call has left is none.
    if head.call != ended.call as u32 || head.args != [ended.arg(1), ended.arg(2)] {
        return None;
    }
    // SAFETY: an address within the entry.
    Some((head, unsafe { (&raw const (*objects).text).cast() }))
}

/// Forgets what was kept for the call that ends.
#[inline(always)]
pub fn forget() {
    let _ = OBJECTS.remove(&thread_key());
}

const _: () = assert!(size_of::<Objects>() == size_of::<ObjectsHead>() + OBJECTS_TEXT);

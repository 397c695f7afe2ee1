//! `open`: a file was opened, or an open failed. Of an opened file everything comes from its
//! `struct file`; only a failed call leaves nothing but its arguments.

use core::ptr::read_volatile;

use taffrail_common::event::{Open, Path, path_flag};
use taffrail_common::kind::OPEN;

use super::syscall::Call;
use crate::emit::{Draft, Lane, count_lost};
use crate::maps::SCRATCH_SYSCALL;
use crate::path::{self, KernelPath};
use crate::read::{kernel, offset, user};
use crate::scope;
use crate::task::{self, Task};

/// `open(2)` flags that tell what to do, which the kernel does not keep in the file (x86-64 and aarch64).
const CREATION_FLAGS: u32 = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC;
const O_WRONLY: u32 = 0o1;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_NOCTTY: u32 = 0o400;
const O_TRUNC: u32 = 0o1000;

const AT_FDCWD: i32 = -100;

/// What the caller asked for.
#[derive(Clone, Copy)]
pub struct Request {
    dir_fd: i32,
    /// Address of the name in the caller's memory, 0 if the call has none.
    name: u64,
    /// Flags, `u32::MAX` if they could not be read.
    flags: u32,
}

impl Request {
    #[inline(always)]
    pub fn open(name: u64, flags: u64) -> Self {
        Self { dir_fd: AT_FDCWD, name, flags: flags as u32 }
    }

    #[inline(always)]
    pub fn creat(name: u64) -> Self {
        Self { dir_fd: AT_FDCWD, name, flags: O_CREAT | O_WRONLY | O_TRUNC }
    }

    #[inline(always)]
    pub fn openat(dir_fd: u64, name: u64, flags: u64) -> Self {
        Self { dir_fd: dir_fd as i32, name, flags: flags as u32 }
    }

    /// The flags are the first word of `struct open_how`.
    #[inline(always)]
    pub fn openat2(dir_fd: u64, name: u64, how: u64) -> Self {
        let mut flags = 0u64;
        let read = user((&raw mut flags).cast(), 8, how);
        Self { dir_fd: dir_fd as i32, name, flags: if read { flags as u32 } else { u32::MAX } }
    }

    #[inline(always)]
    pub fn by_handle(flags: u64) -> Self {
        Self { dir_fd: AT_FDCWD, name: 0, flags: flags as u32 }
    }
}

/// An open call ended. (About 1 µs for a watched cgroup: the walk of the path is half of it.)
#[inline(always)]
pub fn done<const LOOP: bool>(call: Call, request: Request, cgroup_id: u64) {
    scope::count_offered(OPEN);
    if capture::<LOOP>(call, request, cgroup_id).is_none() {
        count_lost(OPEN, cgroup_id);
    }
}

#[inline(always)]
fn capture<const LOOP: bool>(call: Call, request: Request, cgroup_id: u64) -> Option<()> {
    let draft = Draft::<Open>::begin(SCRATCH_SYSCALL)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, OPEN, call.flags, cgroup_id, call.task) };
    let root = path::root(call.task);
    let file = if call.result >= 0 { file_of(call.task, call.result) } else { core::ptr::null() };
    let opened = !file.is_null();
    // Of an opened file the path of the object; else the name as the caller gave it, and the directory that
    // it is relative to. Either way one walk: the verifier looks at every copy of it.
    let asked = if opened { path::EMPTY } else { asked_name(&draft, request) };
    let from = match (opened, asked.flags & RELATIVE) {
        (true, _) => path::of_file(file),
        (false, 0) => path::NONE,
        (false, _) => base(call.task, request.dir_fd),
    };
    let inode: *const u8 =
        if opened { kernel(file, offset!(file_inode)) } else { kernel(from.dentry, offset!(dentry_inode)) };
    let walked = if from.dentry.is_null() {
        path::EMPTY
    } else {
        path::append_inode::<_, LOOP>(&draft, from, root, inode)
    };
    let creation = if request.flags == u32::MAX { 0 } else { request.flags & CREATION_FLAGS };
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        if opened {
            (*record).file = walked;
            (*record).base = path::EMPTY;
            (*record).flags = kernel::<u32>(file, offset!(file_flags)) | creation;
            (*record).mode = kernel::<u16>(inode, offset!(inode_mode)) as u32;
            (*record).links = kernel(inode, offset!(inode_nlink));
            (*record).owner = kernel(inode, offset!(inode_uid));
        } else {
            (*record).file = Path { flags: asked.flags & !RELATIVE, ..asked };
            (*record).base = walked;
            (*record).flags = request.flags;
            (*record).mode = 0;
            (*record).links = 0;
            (*record).owner = u32::MAX;
        }
        (*record).result = call.result;
        (*record).syscall = call.number;
    }
    draft.emit(Lane::Bulk);
    Some(())
}

/// Marks, within this file, a name that does not start at the root.
const RELATIVE: u32 = 1 << 31;

/// The name as the caller gave it.
#[inline(always)]
fn asked_name(draft: &Draft<Open>, request: Request) -> Path {
    let start = draft.payload_end();
    let name = draft.append_user_str(request.name);
    let more = if name.len == 0 {
        path_flag::UNREADABLE
    } else {
        // SAFETY: there is room for a text.
        if unsafe { read_volatile(start) } == b'/' { 0 } else { RELATIVE }
    };
    Path { len: name.len, full_len: name.full_len, flags: path_flag::UNVERIFIED | more, ..path::EMPTY }
}

/// The directory that relative names start at.
#[inline(always)]
fn base(task: Task, dir_fd: i32) -> KernelPath {
    if dir_fd == AT_FDCWD {
        return path::cwd(task);
    }
    path::of_file(file_of(task, dir_fd))
}

/// The open file behind a descriptor of the task, null if there is none.
#[inline(always)]
pub fn file_of(task: Task, fd: i32) -> *const u8 {
    let files: *const u8 = task.field(offset!(task_files));
    let table: *const u8 = kernel(files, offset!(files_fdt));
    if fd < 0 || fd as u32 >= kernel::<u32>(table, offset!(fdtable_max_fds)) {
        return core::ptr::null();
    }
    let slots: *const u8 = kernel(table, offset!(fdtable_fd));
    kernel(slots, fd as usize * size_of::<*const u8>())
}

//! `open`: a file was opened, or an open failed. Of an opened file everything comes from its
//! `struct file`; only a failed call leaves nothing but its arguments.

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use taffrail_common::call;
use taffrail_common::event::{Open, Path, path_flag};
use taffrail_common::kind::{ASKED_NAME, OPEN};

use super::strong::{self, kept};
use super::syscall::Ended;
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

pub const AT_FDCWD: i32 = -100;

/// A file was opened, or that failed. (About 1 µs for a watched cgroup: the walk of the path is half of it.)
#[btf_tracepoint(function = "sys_exit")]
pub fn open(ctx: BtfTracePointContext) -> i32 {
    Ended::of(&ctx, SCRATCH_SYSCALL).map_or(0, done::<true>)
}

/// [`open`] for kernels without `bpf_loop`.
#[btf_tracepoint(function = "sys_exit")]
pub fn open_bounded(ctx: BtfTracePointContext) -> i32 {
    Ended::of(&ctx, SCRATCH_SYSCALL).map_or(0, done::<false>)
}

/// [`open`] of the sort of `syscall_exit_classic`.
#[tracepoint]
pub fn open_classic(ctx: TracePointContext) -> u32 {
    Ended::of_classic(&ctx, SCRATCH_SYSCALL).map_or(0, done::<true>) as u32
}

/// Makes the event.
#[inline(always)]
pub fn done<const LOOP: bool>(ended: Ended) -> i32 {
    if ended.result >= 0 {
        super::call::forget_writes(file_of(ended.task, ended.result as i32));
    }
    if kept(OPEN) && strong::open::was_told() || !scope::watched(OPEN, ended.cgroup_id) {
        return 0;
    }
    // A daemon in a container looks at the machine's files and at those of other containers all the time.
    if ended.task.is_daemon() {
        return 0;
    }
    scope::count_offered(OPEN);
    let Request { dir_fd, name, flags } = Request::of(&ended);
    let Ended { task, cgroup_id, call, scratch, flags: header_flags, .. } = ended;
    let result = ended.result as i32;
    let file = if result >= 0 { file_of(task, result) } else { core::ptr::null() };
    let attempt = Attempt { task, cgroup_id, header_flags, call, scratch, result, file, dir_fd, flags };
    if capture::<LOOP>(&attempt, |draft| asked_name(draft, name)).is_none() {
        count_lost(OPEN, cgroup_id);
    }
    0
}

/// An open that succeeded or failed.
pub struct Attempt {
    pub task: Task,
    pub cgroup_id: u64,
    /// Bits of `header_flag`.
    pub header_flags: u16,
    /// Id of the call.
    pub call: u16,
    /// The program's own entry of the scratch map.
    pub scratch: u32,
    /// Descriptor, or a negative errno.
    pub result: i32,
    /// The `struct file`, null if there is none.
    pub file: *const u8,
    /// The directory that a relative name started at.
    pub dir_fd: i32,
    /// Flags that were asked for, `u32::MAX` if they could not be read.
    pub flags: u32,
}

/// What the caller asked for.
#[derive(Clone, Copy)]
struct Request {
    dir_fd: i32,
    /// Address of the name in the caller's memory, 0 if the call has none.
    name: u64,
    /// Flags, `u32::MAX` if they could not be read.
    flags: u32,
}

impl Request {
    #[inline(always)]
    fn of(ended: &Ended) -> Self {
        let [a, b, c, ..] = ended.args();
        let at_cwd = |name: u64, flags: u64| Self { dir_fd: AT_FDCWD, name, flags: flags as u32 };
        match ended.call {
            call::OPEN => at_cwd(a, b),
            call::CREAT => at_cwd(a, (O_CREAT | O_WRONLY | O_TRUNC) as u64),
            call::OPENAT => Self { dir_fd: a as i32, name: b, flags: c as u32 },
            call::OPENAT2 => {
                // The flags are the first word of `struct open_how`.
                let mut flags = 0u64;
                let read = user((&raw mut flags).cast(), 8, c);
                Self { dir_fd: a as i32, name: b, flags: if read { flags as u32 } else { u32::MAX } }
            }
            _ => at_cwd(0, c),
        }
    }
}

/// Makes the event. `name` appends the name that was asked for, and says whether it is relative.
#[inline(always)]
pub fn capture<const LOOP: bool>(
    attempt: &Attempt,
    name: impl FnOnce(&Draft<Open>) -> (Path, bool),
) -> Option<()> {
    let Attempt { task, cgroup_id, header_flags, call, scratch, result, file, dir_fd, flags } = *attempt;
    let draft = Draft::<Open>::begin(scratch)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, OPEN, header_flags, cgroup_id, task) };
    let root = path::root(task);
    let opened = !file.is_null();
    let (asked, relative) =
        if opened && !scope::watched(ASKED_NAME, cgroup_id) { (path::EMPTY, false) } else { name(&draft) };
    // Of an opened file the path of the object; else the directory that the caller's name is relative to. Either way
    // one walk: the verifier looks at every copy of it.
    let from = match (opened, relative) {
        (true, _) => path::of_file(file),
        (false, false) => path::NONE,
        (false, true) => base(task, dir_fd),
    };
    let inode: *const u8 =
        if opened { kernel(file, offset!(file_inode)) } else { kernel(from.dentry, offset!(dentry_inode)) };
    let walked = if from.dentry.is_null() {
        path::EMPTY
    } else {
        path::append_inode::<_, LOOP>(&draft, from, root, inode)
    };
    let creation = if flags == u32::MAX { 0 } else { flags & CREATION_FLAGS };
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        if opened {
            (*record).asked = asked;
            (*record).file = walked;
            (*record).base = path::EMPTY;
            (*record).flags = kernel::<u32>(file, offset!(file_flags)) | creation;
            (*record).mode = kernel::<u16>(inode, offset!(inode_mode)) as u32;
            (*record).links = kernel(inode, offset!(inode_nlink));
            (*record).owner = kernel(inode, offset!(inode_uid));
        } else {
            (*record).asked = path::EMPTY;
            (*record).file = asked;
            (*record).base = walked;
            (*record).flags = flags;
            (*record).mode = 0;
            (*record).links = 0;
            (*record).owner = u32::MAX;
        }
        (*record).result = result;
        (*record).call = call as u32;
    }
    draft.emit(Lane::Bulk);
    Some(())
}

/// A name as the caller gave it, and whether it starts at a directory that is not the root. An empty name stands
/// for the directory itself; one that cannot be read, for nothing.
#[inline(always)]
pub fn asked_name<R>(draft: &Draft<R>, address: u64) -> (Path, bool) {
    let mut first = 0u8;
    if !user(&raw mut first, 1, address) {
        return (Path { flags: path_flag::UNVERIFIED | path_flag::UNREADABLE, ..path::EMPTY }, false);
    }
    let name = draft.append_user_str(address);
    let flags = path_flag::UNVERIFIED | if name.full_len > name.len { path_flag::INCOMPLETE } else { 0 };
    (Path { len: name.len, full_len: name.full_len, flags, ..path::EMPTY }, first != b'/')
}

/// The directory that relative names start at.
#[inline(always)]
pub fn base(task: Task, dir_fd: i32) -> KernelPath {
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

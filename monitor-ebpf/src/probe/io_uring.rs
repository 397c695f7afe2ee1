//! `io_uring`: operations that no system call of their name asks for. A submitted one is told with the names that
//! the kernel has copied by then (so that no thread can change them any more), in the record of the like-named call
//! and as its kind, but without a result; a completed open is an `open` of the file, and a completed write a `write`.
//! Operations that only move data are told by what they act on: not here.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use taffrail_common::call::{
    IO_URING_COMPLETE, IO_URING_OP, LINKAT, MKDIRAT, OPENAT, RENAMEAT2, SETXATTR, SYMLINKAT, UNLINKAT, WRITE,
};
use taffrail_common::event::{Call, Open, Path, Text, header_flag, path_flag};
use taffrail_common::kind::{self, CHANGE, IO_URING, OPEN};

use core::ptr::{read_volatile, write_volatile};

use super::call::is_first_write;
use super::connect;
use super::open::{self, base, file_of};
use crate::emit::{Draft, count_lost, lane};
use crate::maps::{IO_URING_ARGUMENTS, IO_URING_TOLD, SCRATCH, SCRATCH_COMPLETE, SCRATCH_SUBMIT};
use crate::path;
use crate::read::{constant, kernel, kernel_or, mask, offset};
use crate::scope;
use crate::task::{self, Task};

/// `enum io_uring_op`.
mod op {
    pub const WRITEV: u8 = 2;
    pub const WRITE_FIXED: u8 = 5;
    pub const ACCEPT: u8 = 13;
    pub const OPENAT: u8 = 18;
    pub const WRITE: u8 = 23;
    pub const OPENAT2: u8 = 28;
    pub const SPLICE: u8 = 30;
    pub const RENAMEAT: u8 = 35;
    pub const UNLINKAT: u8 = 36;
    pub const MKDIRAT: u8 = 37;
    pub const SYMLINKAT: u8 = 38;
    pub const LINKAT: u8 = 39;
    pub const FSETXATTR: u8 = 41;
    pub const SETXATTR: u8 = 42;
    pub const WRITEV_FIXED: u8 = 61;

    /// Those that only move data, wait or keep house, bit n being operation n: no event when submitted.
    pub const PLAIN: u64 = bits(&[
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 19, 20, 21, 22, 23, 24, 25, 26, 27, 29, 30, 31, 32,
        33, 34, 43, 44, 47, 48, 49, 50, 51, 52, 53, 58, 59, 60, 61,
    ]);

    /// Those whose end can be the first write to a file.
    pub const WRITES: u64 = bits(&[WRITEV, WRITE_FIXED, WRITE, SPLICE, WRITEV_FIXED]);

    /// Whether an operation is one of a set.
    #[inline(always)]
    pub fn is_of(set: u64, operation: u8) -> bool {
        operation < 64 && set >> operation & 1 != 0
    }

    const fn bits(operations: &[u8]) -> u64 {
        let (mut bits, mut n) = (0, 0);
        while n < operations.len() {
            bits |= 1 << operations[n];
            n += 1;
        }
        bits
    }
}

/// `io_uring_submit_req(struct io_kiocb *req)` (6.3); `io_uring_submit_sqe(struct io_kiocb *req, bool force_nonblock)`
/// (6.0), `io_uring_submit_sqe(void *ctx, void *req, u8 opcode, …)` before: in the task that submits, or in the
/// kernel's thread that polls for it. The request is prepared: it has its copies of names.
#[btf_tracepoint(function = "io_uring_submit_req")]
pub fn io_uring_submit(ctx: BtfTracePointContext) -> i32 {
    submitted::<true>(&ctx)
}

/// [`io_uring_submit`] for kernels without `bpf_loop`.
#[btf_tracepoint(function = "io_uring_submit_req")]
pub fn io_uring_submit_bounded(ctx: BtfTracePointContext) -> i32 {
    submitted::<false>(&ctx)
}

#[inline(always)]
fn submitted<const LOOP: bool>(ctx: &BtfTracePointContext) -> i32 {
    // VERIFIER: without the mask both loads become one at a chosen address, which may not be done to the context.
    let req = match constant(&raw const IO_URING_ARGUMENTS[0]) {
        0..=3 => ctx.arg(0),
        _ => mask::<-1>(ctx.arg(1)) as *const u8,
    };
    let opcode: u8 = kernel(req, offset!(uring_opcode));
    // Most operations are such: before all else.
    if op::is_of(op::PLAIN, opcode) {
        return 0;
    }
    let cgroup_id = scope::cgroup_id();
    let kinds = scope::kinds_here(cgroup_id);
    if kinds & (1 << IO_URING | 1 << CHANGE) == 0 {
        return 0;
    }
    let Some(asked) = Asked::of(req, opcode).through_memory() else { return 0 };
    if kinds >> asked.kind & 1 == 0 {
        return 0;
    }
    if constant(&raw const IO_URING_ARGUMENTS[1]) == 4 {
        // An operation whose end is not found there is told without its end.
        let key = [ctx.arg::<u64>(0), kernel(req, offset!(uring_user_data))];
        let _ = IO_URING_TOLD.insert(&key, &(opcode as u32), 0);
    }
    scope::count_offered(asked.kind);
    if capture::<LOOP>(&asked, req, cgroup_id).is_none() {
        count_lost(asked.kind, cgroup_id);
    }
    0
}

/// What an operation is to do: names are `struct filename *` of the kernel's.
struct Asked {
    kind: u16,
    call: u16,
    dir: i32,
    name: *const u8,
    target_dir: i32,
    target: *const u8,
    text: *const u8,
    /// Of calls with flags or a mode: place among the arguments and value.
    flags: (u8, u64),
    opcode: u8,
}

const NONE: *const u8 = core::ptr::null();

impl Asked {
    #[inline(always)]
    fn of(req: *const u8, opcode: u8) -> Self {
        let plain = Self {
            kind: CHANGE,
            call: IO_URING_OP,
            dir: 0,
            name: NONE,
            target_dir: 0,
            target: NONE,
            text: NONE,
            flags: (0, 0),
            opcode,
        };
        match opcode {
            op::OPENAT | op::OPENAT2 => Self {
                kind: IO_URING,
                call: OPENAT,
                dir: kernel(req, offset!(uring_open_dfd)),
                name: kernel(req, offset!(uring_open_name)),
                flags: (2, kernel(req, offset!(uring_open_flags))),
                ..plain
            },
            op::UNLINKAT => Self {
                call: UNLINKAT,
                dir: kernel(req, offset!(uring_unlink_dfd)),
                name: kernel(req, offset!(uring_unlink_name)),
                flags: (2, kernel::<u32>(req, offset!(uring_unlink_flags)) as u64),
                ..plain
            },
            op::RENAMEAT => Self {
                call: RENAMEAT2,
                dir: kernel(req, offset!(uring_rename_dfd)),
                name: kernel(req, offset!(uring_rename_name)),
                target_dir: kernel(req, offset!(uring_rename_target_dfd)),
                target: kernel(req, offset!(uring_rename_target)),
                flags: (4, kernel::<u32>(req, offset!(uring_rename_flags)) as u64),
                ..plain
            },
            op::MKDIRAT => Self {
                call: MKDIRAT,
                dir: kernel(req, offset!(uring_mkdir_dfd)),
                name: kernel(req, offset!(uring_mkdir_name)),
                flags: (2, kernel::<u16>(req, offset!(uring_mkdir_mode)) as u64),
                ..plain
            },
            op::SYMLINKAT => Self {
                call: SYMLINKAT,
                dir: kernel(req, offset!(uring_symlink_dfd)),
                name: kernel(req, offset!(uring_symlink_name)),
                text: kernel(req, offset!(uring_symlink_content)),
                ..plain
            },
            op::LINKAT => Self {
                call: LINKAT,
                dir: kernel(req, offset!(uring_link_dfd)),
                name: kernel(req, offset!(uring_link_name)),
                target_dir: kernel(req, offset!(uring_link_target_dfd)),
                target: kernel(req, offset!(uring_link_target)),
                flags: (4, kernel::<u32>(req, offset!(uring_link_flags)) as u64),
                ..plain
            },
            op::SETXATTR => Self {
                call: SETXATTR,
                dir: open::AT_FDCWD,
                name: kernel_or(req, offset!(uring_xattr_name), NONE),
                ..plain
            },
            op::FSETXATTR => plain,
            _ => Self { kind: IO_URING, ..plain },
        }
    }
}

impl Asked {
    /// The same, read back from scratch memory.
    ///
    /// VERIFIER: the operations leave constants in registers, each a state of its own through both walks; what comes
    /// from a map is one state.
    #[inline(always)]
    fn through_memory(self) -> Option<Self> {
        let Self { kind, call, dir, name, target_dir, target, text, flags, opcode } = self;
        let numbers = kind as u64 | (call as u64) << 16 | (flags.0 as u64) << 32 | (opcode as u64) << 40;
        let dirs = dir as u32 as u64 | (target_dir as u32 as u64) << 32;
        let scratch = SCRATCH.get_ptr_mut(SCRATCH_SUBMIT)?;
        // SAFETY: an address within the entry.
        let words = unsafe { (&raw mut (*scratch).args).cast::<[u64; 6]>() };
        // SAFETY: the entry is this program's own on this CPU.
        unsafe { write_volatile(words, [numbers, dirs, name as u64, target as u64, text as u64, flags.1]) };
        // SAFETY: as above.
        let [numbers, dirs, name, target, text, value] = unsafe { read_volatile(words) };
        Some(Self {
            kind: numbers as u16,
            call: (numbers >> 16) as u16,
            dir: dirs as i32,
            name: name as *const u8,
            target_dir: (dirs >> 32) as i32,
            target: target as *const u8,
            text: text as *const u8,
            flags: ((numbers >> 32) as u8, value),
            opcode: (numbers >> 40) as u8,
        })
    }
}

#[inline(always)]
fn capture<const LOOP: bool>(asked: &Asked, req: *const u8, cgroup_id: u64) -> Option<()> {
    let task = Task::current();
    let draft = Draft::<Call>::begin(SCRATCH_SUBMIT)?;
    let record = draft.record();
    let flags = header_flag::IO_URING | header_flag::SUBMITTED;
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, asked.kind, flags, cgroup_id, task) };
    let (file, walked_base) = name::<LOOP>(&draft, task, asked.dir, asked.name);
    // VERIFIER: what lies in the record is no state to follow through the second walk.
    // SAFETY: within the record.
    unsafe { write_volatile(&raw mut (*record).file, file) };
    // SAFETY: as above.
    unsafe { write_volatile(&raw mut (*record).base, walked_base) };
    let (target, target_base) = name::<LOOP>(&draft, task, asked.target_dir, asked.target);
    let text = if asked.text.is_null() {
        Text { len: 0, full_len: 0 }
    } else {
        draft.append_kernel_str(kernel(asked.text, offset!(filename_name)))
    };
    let user_data: u64 = kernel(req, offset!(uring_user_data));
    let (place, value) = asked.flags;
    let (dir, target_dir) = (asked.dir as u64, asked.target_dir as u64);
    // As the like-named call has them.
    let args = match asked.call {
        IO_URING_OP => [asked.opcode as u64, user_data, 0, 0, 0, 0],
        SYMLINKAT => [0, dir, 0, 0, 0, 0],
        OPENAT => [dir, 0, value, kernel(req, offset!(uring_open_mode)), 0, 0],
        _ if place == 2 => [dir, 0, value, 0, 0, 0],
        _ => [dir, 0, target_dir, 0, value, 0],
    };
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).target = target;
        (*record).target_base = target_base;
        (*record).text = text;
        (*record).args = args;
        (*record).result = 0;
        (*record).mode = 0;
        (*record).call = asked.call as u32;
    }
    draft.emit(lane(asked.kind));
    Some(())
}

/// A name of a request, and the directory that it is relative to.
#[inline(always)]
fn name<const LOOP: bool>(draft: &Draft<Call>, task: Task, dir: i32, name: *const u8) -> (Path, Path) {
    if name.is_null() {
        return (path::EMPTY, path::EMPTY);
    }
    let text: *const u8 = kernel(name, offset!(filename_name));
    let first: u8 = kernel(text, 0);
    let Text { len, full_len } = draft.append_kernel_str(text);
    // The kernel's copy, but it names what it named when it was submitted, not what it will be resolved to.
    let name = Path { len, full_len, flags: path_flag::UNVERIFIED, ..path::EMPTY };
    if first == b'/' {
        return (name, path::EMPTY);
    }
    (name, path::append::<_, LOOP>(draft, base(task, dir), path::root(task)))
}

/// `io_uring_complete(struct io_ring_ctx *ctx, void *req, struct io_uring_cqe *cqe)` (6.13), `(void *ctx, void *req,
/// u64 user_data, int res, …)` (5.19), `(void *ctx, u64 user_data, int res, unsigned cflags)` before: in a task of
/// the process.
#[btf_tracepoint(function = "io_uring_complete")]
pub fn io_uring_complete(ctx: BtfTracePointContext) -> i32 {
    completed::<true>(&ctx)
}

/// [`io_uring_complete`] for kernels without `bpf_loop`.
#[btf_tracepoint(function = "io_uring_complete")]
pub fn io_uring_complete_bounded(ctx: BtfTracePointContext) -> i32 {
    completed::<false>(&ctx)
}

/// What was completed.
struct Completed {
    /// Null if the kernel does not tell (before 5.19).
    req: *const u8,
    opcode: u8,
    user_data: u64,
    result: i32,
}

impl Completed {
    /// `None` also if nothing is told of such.
    #[inline(always)]
    fn of(ctx: &BtfTracePointContext) -> Option<Self> {
        let arguments = constant(&raw const IO_URING_ARGUMENTS[1]);
        if arguments == 4 {
            let key = [ctx.arg::<u64>(0), ctx.arg::<u64>(1)];
            // SAFETY: the value is copied at once.
            let opcode = *unsafe { IO_URING_TOLD.get(&key) }?;
            let _ = IO_URING_TOLD.remove(&key);
            return Some(Self { req: NONE, opcode: opcode as u8, user_data: key[1], result: ctx.arg(2) });
        }
        let req: *const u8 = ctx.arg(1);
        if req.is_null() {
            return None;
        }
        let opcode = kernel(req, offset!(uring_opcode));
        // Most operations are such: before all else.
        if op::is_of(op::PLAIN & !op::WRITES, opcode) {
            return None;
        }
        let result = if arguments > 4 { ctx.arg(3) } else { kernel(ctx.arg(2), offset!(uring_cqe_res)) };
        Some(Self { req, opcode, user_data: kernel(req, offset!(uring_user_data)), result })
    }
}

/// Kinds that the end of an operation tells.
const OF_ENDS: u64 =
    1 << kind::ACCEPT | 1 << kind::FLOW | 1 << IO_URING | 1 << CHANGE | 1 << OPEN | 1 << kind::WRITE;

#[inline(always)]
fn completed<const LOOP: bool>(ctx: &BtfTracePointContext) -> i32 {
    let Some(done) = Completed::of(ctx) else { return 0 };
    let cgroup_id = scope::cgroup_id();
    let kinds = scope::kinds_here(cgroup_id);
    if kinds & OF_ENDS == 0 {
        return 0;
    }
    let task = Task::current();
    if done.opcode == op::ACCEPT && done.result >= 0 && !is_accepted_direct(&done) {
        connect::accepted_by_ring(task, cgroup_id, done.result);
    }
    let kind = match done.opcode {
        op::OPENAT | op::OPENAT2 if done.result >= 0 && !is_direct(&done) => OPEN,
        op::WRITE | op::WRITEV | op::WRITE_FIXED | op::WRITEV_FIXED | op::SPLICE
            if done.result > 0 && !done.req.is_null() =>
        {
            kind::WRITE
        }
        opcode if op::is_of(op::PLAIN, opcode) => return 0,
        _ => IO_URING,
    };
    let file = match kind {
        OPEN => file_of(task, done.result),
        kind::WRITE => kernel(done.req, offset!(uring_file)),
        _ => NONE,
    };
    if kind == OPEN {
        super::call::forget_writes(file);
    }
    if kinds >> kind & 1 == 0 || kind == kind::WRITE && !is_first_write(file) {
        return 0;
    }
    scope::count_offered(kind);
    let sent = if kind == OPEN {
        opened::<LOOP>(task, &done, file, cgroup_id)
    } else {
        told::<LOOP>(task, &done, kind, file, cgroup_id)
    };
    if sent.is_none() {
        count_lost(kind, cgroup_id);
    }
    0
}

/// Whether the file was put into a slot of the ring instead of a descriptor.
#[inline(always)]
fn is_direct(done: &Completed) -> bool {
    !done.req.is_null() && kernel::<u32>(done.req, offset!(uring_open_slot)) != 0
}

/// As [`is_direct`], of a connection: it is then of who listens.
#[inline(always)]
fn is_accepted_direct(done: &Completed) -> bool {
    !done.req.is_null() && kernel_or::<u32>(done.req, offset!(uring_accept_slot), 0) != 0
}

#[inline(always)]
fn opened<const LOOP: bool>(task: Task, done: &Completed, file: *const u8, cgroup_id: u64) -> Option<()> {
    let draft = Draft::<Open>::begin(SCRATCH_COMPLETE)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, OPEN, header_flag::IO_URING, cgroup_id, task) };
    let inode: *const u8 = kernel(file, offset!(file_inode));
    let path = path::append_inode::<_, LOOP>(&draft, path::of_file(file), path::root(task), inode);
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).file = path;
        (*record).base = path::EMPTY;
        (*record).result = done.result;
        (*record).flags = kernel(file, offset!(file_flags));
        (*record).mode = kernel::<u16>(inode, offset!(inode_mode)) as u32;
        (*record).links = kernel(inode, offset!(inode_nlink));
        (*record).owner = kernel(inode, offset!(inode_uid));
        (*record).call = OPENAT as u32;
    }
    draft.emit(lane(OPEN));
    Some(())
}

/// The first write to a file, or the end of an operation that was told when it was submitted.
#[inline(always)]
fn told<const LOOP: bool>(
    task: Task,
    done: &Completed,
    kind: u16,
    file: *const u8,
    cgroup_id: u64,
) -> Option<()> {
    let draft = Draft::<Call>::begin(SCRATCH_COMPLETE)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, kind, header_flag::IO_URING, cgroup_id, task) };
    let (path, mode) = if file.is_null() {
        (path::EMPTY, 0)
    } else {
        let inode: *const u8 = kernel(file, offset!(file_inode));
        let path = path::append_inode::<_, LOOP>(&draft, path::of_file(file), path::root(task), inode);
        (path, kernel::<u16>(inode, offset!(inode_mode)) as u32)
    };
    let (call, args) = match kind {
        kind::WRITE => (WRITE, [u64::MAX, 0, 0, 0, 0, 0]),
        _ => (IO_URING_COMPLETE, [done.opcode as u64, done.user_data, 0, 0, 0, 0]),
    };
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).file = path;
        (*record).base = path::EMPTY;
        (*record).target = path::EMPTY;
        (*record).target_base = path::EMPTY;
        (*record).text = Text { len: 0, full_len: 0 };
        (*record).args = args;
        (*record).result = done.result as i64;
        (*record).mode = mode;
        (*record).call = call as u32;
    }
    draft.emit(lane(kind));
    Some(())
}

//! Opens where the kernel does them: a failed one with the kernel's own copy of the name, and an opened file before
//! any other thread can close it. What never came that far (no memory, no descriptor, no name), the call's end tells.

use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use taffrail_common::event::{Open, Path};
use taffrail_common::kind::OPEN;

use super::{claim, release};
use crate::emit::{Draft, count_lost};
use crate::maps::{OPENING, Opening};
use crate::path;
use crate::probe::open::{Attempt, capture};
use crate::probe::syscall::of_thread;
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{Task, thread_key};

/// `struct file *do_filp_open(int dfd, struct filename *pathname, const struct open_flags *op)`, its end
/// (`do_file_open` since 7.0). Files that the kernel opens for itself, and those of io_uring, are not looked at.
#[fexit]
pub fn file_opened(ctx: FExitContext) -> i32 {
    opened::<true>(&ctx)
}

/// [`file_opened`] for kernels without `bpf_loop`.
#[fexit]
pub fn file_opened_bounded(ctx: FExitContext) -> i32 {
    opened::<false>(&ctx)
}

#[cfg(bpf_target_arch = "x86_64")]
const O_LARGEFILE: u32 = 0o100000;
#[cfg(bpf_target_arch = "aarch64")]
const O_LARGEFILE: u32 = 0o400000;

#[inline(always)]
fn opened<const LOOP: bool>(ctx: &FExitContext) -> i32 {
    /// The highest errno.
    const MAX_ERRNO: i64 = 4095;
    let cgroup_id = scope::cgroup_id();
    if !scope::watched(OPEN, cgroup_id) {
        return 0;
    }
    let task = Task::current();
    let Some((shape, header_flags, _)) = of_thread(task) else { return 0 };
    // Of the daemon itself the call's end says nothing either.
    if shape.kind != OPEN || task.is_daemon() {
        return 0;
    }
    // The kernel adds this one by itself.
    let flags = kernel::<u32>(ctx.arg(2), offset!(open_flags_flag)) & !O_LARGEFILE;
    let file: i64 = ctx.arg(3);
    // A name that could not be copied is an error in its place (7.0): the call's end tells what the caller gave.
    let filename: *const u8 = ctx.arg(1);
    if (-MAX_ERRNO..0).contains(&(filename as i64)) {
        return 0;
    }
    let name: *const u8 = kernel(filename, offset!(filename_name));
    let opening = |file: u64| Opening { file, name: name as u64, flags, call: shape.call, header_flags };
    if !(-MAX_ERRNO..0).contains(&file) {
        let _ = OPENING.insert(&thread_key(), &opening(file as u64), 0);
        return 0;
    }
    if OPENING.insert(&thread_key(), &opening(Opening::TOLD), 0).is_err() {
        // The call's end tells it.
        return 0;
    }
    let Some(scratch) = claim(OPEN, cgroup_id) else { return 0 };
    scope::count_offered(OPEN);
    let attempt = Attempt {
        task,
        cgroup_id,
        header_flags,
        call: shape.call,
        scratch,
        result: file as i32,
        file: core::ptr::null(),
        dir_fd: ctx.arg(0),
        flags,
    };
    if capture::<LOOP>(&attempt, |draft| asked_name(draft, name)).is_none() {
        count_lost(OPEN, cgroup_id);
    }
    release(scratch);
    0
}

/// The name in the kernel's copy, and whether it starts at a directory that is not the root.
#[inline(always)]
fn asked_name(draft: &Draft<Open>, name: *const u8) -> (Path, bool) {
    let text = draft.append_kernel_str(name);
    let path = Path { len: text.len, full_len: text.full_len, ..path::EMPTY };
    (path, kernel::<u8>(name, 0) != b'/')
}

/// `void fd_install(unsigned int fd, struct file *file)`: from here on other threads can use the file. Costs a look-up
/// for each descriptor of the machine.
#[fentry]
pub fn fd_installed(ctx: FEntryContext) -> i32 {
    installed::<true>(&ctx)
}

/// [`fd_installed`] for kernels without `bpf_loop`.
#[fentry]
pub fn fd_installed_bounded(ctx: FEntryContext) -> i32 {
    installed::<false>(&ctx)
}

#[inline(always)]
fn installed<const LOOP: bool>(ctx: &FEntryContext) -> i32 {
    let key = thread_key();
    let Some(opening) = OPENING.get_ptr_mut(&key) else { return 0 };
    // SAFETY: the entry is this thread's own.
    let Opening { file, name, flags, call, header_flags } = unsafe { opening.read_volatile() };
    let installed: *const u8 = ctx.arg(1);
    if file != installed as u64 {
        return 0;
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*opening).file).write_volatile(Opening::TOLD) };
    let cgroup_id = scope::cgroup_id();
    let Some(scratch) = claim(OPEN, cgroup_id) else { return 0 };
    scope::count_offered(OPEN);
    let attempt = Attempt {
        task: Task::current(),
        cgroup_id,
        header_flags,
        call,
        scratch,
        result: ctx.arg(0),
        file: file as *const u8,
        dir_fd: 0,
        flags,
    };
    if capture::<LOOP>(&attempt, |draft| asked_name(draft, name as *const u8)).is_none() {
        count_lost(OPEN, cgroup_id);
    }
    release(scratch);
    0
}

/// Whether the event of the open that ends was made already; forgets it.
#[inline(always)]
pub fn was_told() -> bool {
    let key = thread_key();
    // SAFETY: the entry is this thread's own.
    let told = unsafe { OPENING.get(&key) }.is_some_and(|opening| opening.file == Opening::TOLD);
    let _ = OPENING.remove(&key);
    told
}

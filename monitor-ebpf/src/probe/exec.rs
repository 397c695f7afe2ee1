//! `exec`: a process replaced its image.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use taffrail_common::event::{Credentials, Exec};
use taffrail_common::kind::EXEC;

use crate::emit::{Draft, Lane, count_lost};
use crate::maps::SCRATCH_EXEC;
use crate::read::{diagnose, kernel, kernel_or, offset, trusted};
use crate::task::{self, Task, host_nr};
use crate::{path, scope};

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`, in the process,
/// once its new image is in place and before it runs. Below noise beside the exec itself.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec(ctx: BtfTracePointContext) -> i32 {
    done::<true>(&ctx)
}

/// [`exec`] for kernels without `bpf_loop`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn exec_bounded(ctx: BtfTracePointContext) -> i32 {
    done::<false>(&ctx)
}

#[inline(always)]
fn done<const LOOP: bool>(ctx: &BtfTracePointContext) -> i32 {
    diagnose!(
        ctx,
        "exec in cgroup {}, watched: {}",
        scope::cgroup_id(),
        scope::watched(EXEC, scope::cgroup_id()) as u8
    );
    if let Some(cgroup_id) = scope::enter(EXEC)
        && capture::<LOOP>(ctx, cgroup_id).is_none()
    {
        count_lost(EXEC, cgroup_id);
    }
    0
}

#[inline(always)]
fn capture<const LOOP: bool>(ctx: &BtfTracePointContext, cgroup_id: u64) -> Option<()> {
    let task = Task::argument(ctx.arg(0));
    let old_tid: i32 = ctx.arg(1);
    let bprm: *const u8 = ctx.arg(2);
    let draft = Draft::<Exec>::begin(SCRATCH_EXEC)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, EXEC, 0, cgroup_id, task) };

    let mm: *const u8 = task.field(offset!(task_mm));
    let exe: *const u8 = kernel(mm, offset!(mm_exe_file));
    let root = path::root(task);
    let inode: *const u8 = kernel(exe, offset!(file_inode));
    let exe = path::append_inode::<_, LOOP>(&draft, path::of_file(exe), root, inode);
    let cwd = path::append::<_, LOOP>(&draft, path::cwd(task), root);
    let filename = draft.append_kernel_str(trusted(bprm, offset!(bprm_filename)));
    let arg_start: u64 = kernel(mm, offset!(mm_arg_start));
    let arg_end: u64 = kernel(mm, offset!(mm_arg_end));
    let args = draft.append_user(arg_start, arg_end.wrapping_sub(arg_start));

    let parent = Task::at(task.field(offset!(task_real_parent))).leader();
    let signal: *const u8 = task.field(offset!(task_signal));
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).credentials = credentials(task.field(offset!(task_cred)));
        (*record).exe = exe;
        (*record).cwd = cwd;
        (*record).filename = filename;
        (*record).args = args;
        (*record).exe_ctime_ns = ctime_ns(inode);
        (*record).exe_bytes = kernel(inode, offset!(inode_bytes));
        (*record).parent_start_ns = parent.start_ns();
        (*record).parent_tgid = parent.field(offset!(task_tgid));
        (*record).old_tid = old_tid as u32;
        (*record).login_uid = kernel_or(task.address, offset!(task_loginuid), u32::MAX);
        (*record).session = host_nr(signal_pid(signal, PIDTYPE_SID));
        (*record).process_group = host_nr(signal_pid(signal, PIDTYPE_PGID));
        (*record).tty = tty(signal);
        (*record).arg_count = trusted(bprm, offset!(bprm_argc));
        (*record).env_count = trusted(bprm, offset!(bprm_envc));
    }
    draft.emit(Lane::Urgent);
    Some(())
}

/// When an inode was changed last, in ns since the epoch; 0 if not known.
#[inline(always)]
fn ctime_ns(inode: *const u8) -> u64 {
    /// Newer kernels note in the highest bit that somebody has asked (`I_CTIME_QUERIED`, 6.13).
    const ASKED: u32 = 1 << 31;
    let seconds: u64 = kernel_or(inode, offset!(inode_ctime_s), 0);
    let rest: u32 = kernel_or(inode, offset!(inode_ctime_ns), 0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add((rest & !ASKED) as u64)
}

/// `enum pid_type` (since 4.19).
const PIDTYPE_PGID: usize = 2;
const PIDTYPE_SID: usize = 3;

#[inline(always)]
fn signal_pid(signal: *const u8, kind: usize) -> *const u8 {
    kernel(signal, offset!(signal_pids) + kind * size_of::<*const u8>())
}

/// Device of the controlling terminal as `/proc/PID/stat` shows it (`new_encode_dev`), 0 if none.
#[inline(always)]
fn tty(signal: *const u8) -> u32 {
    let tty: *const u8 = kernel(signal, offset!(signal_tty));
    if tty.is_null() {
        return 0;
    }
    let driver: *const u8 = kernel(tty, offset!(tty_driver));
    let major: u32 = kernel(driver, offset!(tty_driver_major));
    let minor_start: u32 = kernel(driver, offset!(tty_driver_minor_start));
    let index: u32 = kernel(tty, offset!(tty_index));
    let minor = minor_start.wrapping_add(index);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// What a task may do, and as whom.
#[inline(always)]
pub fn credentials(cred: *const u8) -> Credentials {
    // The eight ids of `struct cred` are neighbours: uid, gid, suid, sgid, euid, egid, fsuid, fsgid.
    let [uid, gid, suid, sgid, euid, egid, fsuid, fsgid]: [u32; 8] = kernel(cred, offset!(cred_uid));
    Credentials {
        uid,
        gid,
        suid,
        sgid,
        euid,
        egid,
        fsuid,
        fsgid,
        cap_inheritable: kernel(cred, offset!(cred_cap_inheritable)),
        cap_permitted: kernel(cred, offset!(cred_cap_permitted)),
        cap_effective: kernel(cred, offset!(cred_cap_effective)),
        cap_bounding: kernel(cred, offset!(cred_cap_bounding)),
        cap_ambient: kernel(cred, offset!(cred_cap_ambient)),
    }
}

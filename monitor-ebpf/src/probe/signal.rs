//! `signal`: a process sent another a signal that ends or stops it, or any signal to another container.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::MaybeUninit;
use taffrail_common::event::Signal;
use taffrail_common::kind::SIGNAL;

use crate::emit::{Lane, emit};
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{self, Task};

/// SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGKILL, SIGTERM, SIGSTOP: bit n is signal n.
const ENDING: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9 | 1 << 15 | 1 << 19;
const SIGCHLD: u32 = 17;
/// `si_code` of kill(2). A process can give its signals this one and any below; those above are the kernel's own …
const SI_USER: i32 = 0;
/// … of which these (`POLL_*`) come with a signal that a process chose (`F_SETSIG`), to a process that it chose.
const POLL: core::ops::RangeInclusive<i32> = 1..=6;

/// `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal(ctx: BtfTracePointContext) -> i32 {
    let cgroup_id = scope::cgroup_id();
    if !scope::watched(SIGNAL, cgroup_id) {
        return 0;
    }
    let signal: u32 = ctx.arg(0);
    let info: u64 = ctx.arg(1);
    let target = Task::at(ctx.arg(2));
    let task = Task::current();
    let target_tgid: u32 = target.field(offset!(task_tgid));
    let target_cgroup_id = target.cgroup_id();
    // 0 stands for a plain signal of the caller's, 1 for one of the kernel's.
    let code: i32 = match info {
        0 => SI_USER,
        1 => return 0,
        address => kernel(address as *const u8, offset!(siginfo_code)),
    };
    let ends = signal < 64 && ENDING >> signal & 1 != 0;
    if code > SI_USER && !(ends && POLL.contains(&code))
        || target_tgid == task.field::<u32>(offset!(task_tgid))
        || signal == SIGCHLD
        || !ends && target_cgroup_id == cgroup_id
    {
        return 0;
    }
    scope::count_offered(SIGNAL);
    let leader = target.leader();
    let mut record = MaybeUninit::<Signal>::uninit();
    let record = record.as_mut_ptr();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, SIGNAL, 0, cgroup_id, task) };
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).target_start_ns = leader.start_ns();
        (*record).target_cgroup_id = target_cgroup_id;
        (*record).target_tgid = target_tgid;
        (*record).target_ns_tgid = leader.ns_pid(target_tgid).0;
        (*record).signal = signal;
        (*record).result = ctx.arg(4);
    }
    // SAFETY: all fields are written.
    unsafe { emit(record, Lane::Urgent) };
    0
}

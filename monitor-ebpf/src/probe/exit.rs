//! `exit`: the last thread of a process ended.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::MaybeUninit;
use taffrail_common::event::Exit;
use taffrail_common::kind::EXIT;

use crate::emit::{Lane, emit};
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{self, Task};

/// `SIGNAL_GROUP_EXIT` of the kernel's `signal.h`: the whole process was told to end.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// `sched_process_exit(struct task_struct *p)`, in the ending thread. (Since 6.16 it has a second
/// argument, which tells the last thread; the count of live threads does so on every kernel, but two
/// last threads that race can both see zero: the daemon drops the second record of a process.)
#[btf_tracepoint(function = "sched_process_exit")]
pub fn exit(ctx: BtfTracePointContext) -> i32 {
    let task = Task::argument(ctx.arg(0));
    let signal: *const u8 = task.field(offset!(task_signal));
    if kernel::<u32>(signal, offset!(signal_live)) != 0 {
        return 0;
    }
    if let Some(cgroup_id) = scope::enter(EXIT) {
        capture(task, signal, cgroup_id);
    }
    scope::forget(task.field(offset!(task_tgid)));
    0
}

#[inline(always)]
fn capture(task: Task, signal: *const u8, cgroup_id: u64) {
    let mut record = MaybeUninit::<Exit>::uninit();
    let record = record.as_mut_ptr();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, EXIT, 0, cgroup_id, task) };
    // What wait(2) will report.
    let flags: u32 = kernel(signal, offset!(signal_flags));
    let wait_status = if flags & SIGNAL_GROUP_EXIT != 0 {
        kernel(signal, offset!(signal_group_exit_code))
    } else {
        task.leader().field(offset!(task_exit_code))
    };
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).wait_status = wait_status;
        (*record).reserved = 0;
    }
    // SAFETY: all fields are written.
    unsafe { emit(record, Lane::Urgent) };
}

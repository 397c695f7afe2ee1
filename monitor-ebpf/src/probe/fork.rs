//! `fork`: a process was created.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::MaybeUninit;
use taffrail_common::event::Fork;
use taffrail_common::kind::FORK;

use crate::emit::{Lane, emit};
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{self, Task};

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, in the parent, before the
/// child runs. New threads are passed over.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn fork(ctx: BtfTracePointContext) -> i32 {
    let child = Task::argument(ctx.arg(1));
    let tgid: u32 = child.field(offset!(task_tgid));
    if tgid != child.field::<u32>(offset!(task_pid)) {
        return 0;
    }
    let parent = Task::argument(ctx.arg(0));
    scope::follow(child, tgid, parent.field(offset!(task_tgid)), child.cgroup_id());
    if let Some(cgroup_id) = scope::enter(FORK) {
        capture(parent, child, tgid, cgroup_id);
    }
    0
}

#[inline(always)]
fn capture(task: Task, child: Task, child_tgid: u32, cgroup_id: u64) {
    let mut record = MaybeUninit::<Fork>::uninit();
    let record = record.as_mut_ptr();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, FORK, 0, cgroup_id, task) };
    let parent = Task::at(child.field(offset!(task_real_parent))).leader();
    let (child_ns_tgid, child_pid_ns) = child.ns_pid(child_tgid);
    let clone_flags = clone_flags(task, child, parent);
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).child_start_ns = child.start_ns();
        (*record).child_cgroup_id = child.cgroup_id();
        (*record).clone_flags = clone_flags;
        (*record).child_tgid = child_tgid;
        (*record).child_ns_tgid = child_ns_tgid;
        (*record).child_parent_tgid = parent.field(offset!(task_tgid));
        (*record).child_pid_ns = child_pid_ns;
        (*record).child_parent_start_ns = parent.start_ns();
    }
    // SAFETY: all fields are written.
    unsafe { emit(record, Lane::Urgent) };
}

/// `CLONE_*` of the kernel's `sched.h`.
mod clone {
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const VFORK: u64 = 0x4000;
    pub const PARENT: u64 = 0x8000;
    pub const NEWNS: u64 = 0x2_0000;
    pub const NEWCGROUP: u64 = 0x200_0000;
    pub const NEWUTS: u64 = 0x400_0000;
    pub const NEWIPC: u64 = 0x800_0000;
    pub const NEWUSER: u64 = 0x1000_0000;
    pub const NEWPID: u64 = 0x2000_0000;
    pub const NEWNET: u64 = 0x4000_0000;
}

/// What the two tasks share and do not share says which flags were given.
#[inline(always)]
fn clone_flags(task: Task, child: Task, child_parent: Task) -> u64 {
    let same = |offset: usize| task.field::<u64>(offset) == child.field::<u64>(offset);
    let mut flags = 0;
    if same(offset!(task_mm)) {
        flags |= clone::VM;
    }
    if same(offset!(task_fs)) {
        flags |= clone::FS;
    }
    if same(offset!(task_files)) {
        flags |= clone::FILES;
    }
    if child.field::<u64>(offset!(task_vfork_done)) != 0 {
        flags |= clone::VFORK;
    }
    if child_parent.address != task.leader().address {
        flags |= clone::PARENT;
    }
    let (pid, child_pid): (*const u8, *const u8) =
        (task.field(offset!(task_thread_pid)), child.field(offset!(task_thread_pid)));
    if kernel::<u32>(pid, offset!(pid_level)) != kernel::<u32>(child_pid, offset!(pid_level)) {
        flags |= clone::NEWPID;
    }
    let (cred, child_cred): (*const u8, *const u8) =
        (task.field(offset!(task_cred)), child.field(offset!(task_cred)));
    if kernel::<u64>(cred, offset!(cred_user_ns)) != kernel::<u64>(child_cred, offset!(cred_user_ns)) {
        flags |= clone::NEWUSER;
    }
    let (ns, child_ns): (*const u8, *const u8) =
        (task.field(offset!(task_nsproxy)), child.field(offset!(task_nsproxy)));
    if ns != child_ns {
        let differ = |offset: usize| kernel::<u64>(ns, offset) != kernel::<u64>(child_ns, offset);
        if differ(offset!(nsproxy_mnt_ns)) {
            flags |= clone::NEWNS;
        }
        if differ(offset!(nsproxy_cgroup_ns)) {
            flags |= clone::NEWCGROUP;
        }
        if differ(offset!(nsproxy_uts_ns)) {
            flags |= clone::NEWUTS;
        }
        if differ(offset!(nsproxy_ipc_ns)) {
            flags |= clone::NEWIPC;
        }
        if differ(offset!(nsproxy_net_ns)) {
            flags |= clone::NEWNET;
        }
    }
    flags
}

//! `cgroup_move`: a task was put into another cgroup.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use taffrail_common::event::CgroupMove;
use taffrail_common::kind::CGROUP_MOVE;

use crate::emit::{Draft, Lane, count_lost};
use crate::maps::SCRATCH_CGROUP;
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{self, Task};

/// `cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`,
/// once the task is there. Only v2 is looked at: on hybrid machines all hierarchies tell.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_move(ctx: BtfTracePointContext) -> i32 {
    let cgroup: *const u8 = ctx.arg(0);
    let root: *const u8 = kernel(cgroup, offset!(cgroup_root));
    if kernel::<u32>(root, offset!(cgroup_root_hierarchy)) != 0 {
        return 0;
    }
    let leader = Task::at(ctx.arg(2)).leader();
    let tgid: u32 = leader.field(offset!(task_tgid));
    let node: *const u8 = kernel(cgroup, offset!(cgroup_kn));
    scope::follow(leader, tgid, tgid, kernel(node, offset!(kernfs_node_id)));
    if let Some(cgroup_id) = scope::enter(CGROUP_MOVE)
        && capture(&ctx, cgroup, cgroup_id).is_none()
    {
        count_lost(CGROUP_MOVE, cgroup_id);
    }
    0
}

#[inline(always)]
fn capture(ctx: &BtfTracePointContext, cgroup: *const u8, cgroup_id: u64) -> Option<()> {
    let draft = Draft::<CgroupMove>::begin(SCRATCH_CGROUP)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, CGROUP_MOVE, 0, cgroup_id, Task::current()) };
    let path = draft.append_kernel_str(ctx.arg(1));
    let leader = Task::at(ctx.arg(2)).leader();
    let tgid: u32 = leader.field(offset!(task_tgid));
    let node: *const u8 = kernel(cgroup, offset!(cgroup_kn));
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).path = path;
        (*record).target_start_ns = leader.start_ns();
        (*record).cgroup_id = kernel(node, offset!(kernfs_node_id));
        (*record).target_tgid = tgid;
        (*record).target_ns_tgid = leader.ns_pid(tgid).0;
        (*record).whole = ctx.arg::<u32>(3) & 1;
        (*record).reserved = 0;
    }
    draft.emit(Lane::Urgent);
    Some(())
}

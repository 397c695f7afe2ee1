//! `cgroup` and `cgroup_move`: a cgroup was made or removed; a task was put into another one.
//!
//! The kernel holds one lock around all of its tracepoints with a cgroup's path (`trace_cgroup_path_lock`), so these
//! programs share scratch memory. All hierarchies tell, and one is looked at.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use taffrail_common::event::{CGROUP_PATH_MAX, Cgroup, CgroupMove, Text};
use taffrail_common::kind::{CGROUP, CGROUP_MOVE};

use crate::emit::{Draft, Lane, count_lost};
use crate::maps::SCRATCH_CGROUP;
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{self, Task};

/// `cgroup_mkdir(struct cgroup *cgrp, const char *path)`, before anybody can be in it. Two a container or so.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_made(ctx: BtfTracePointContext) -> i32 {
    changed(&ctx, 0)
}

/// `cgroup_rmdir(struct cgroup *cgrp, const char *path)`, after all have left it.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_removed(ctx: BtfTracePointContext) -> i32 {
    changed(&ctx, 1)
}

#[inline(always)]
fn changed(ctx: &BtfTracePointContext, removed: u32) -> i32 {
    if is_looked_at(ctx.arg(0))
        && let Some(cgroup_id) = scope::enter(CGROUP)
        && capture_change(ctx, removed, cgroup_id).is_none()
    {
        count_lost(CGROUP, cgroup_id);
    }
    0
}

#[inline(always)]
fn capture_change(ctx: &BtfTracePointContext, removed: u32, cgroup_id: u64) -> Option<()> {
    let draft = Draft::<Cgroup>::begin(SCRATCH_CGROUP)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, CGROUP, 0, cgroup_id, Task::current()) };
    let path = append_path(&draft, ctx);
    let cgroup: *const u8 = ctx.arg(0);
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).path = path;
        (*record).cgroup_id = id(cgroup);
        (*record).level = kernel(cgroup, offset!(cgroup_level));
        (*record).removed = removed;
    }
    draft.send_ahead();
    draft.emit(Lane::Urgent);
    Some(())
}

/// `cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`,
/// once the task is there.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_move(ctx: BtfTracePointContext) -> i32 {
    let cgroup: *const u8 = ctx.arg(0);
    if !is_looked_at(cgroup) {
        return 0;
    }
    let leader = Task::at(ctx.arg(2)).leader();
    let tgid: u32 = leader.field(offset!(task_tgid));
    scope::follow(leader, tgid, tgid, id(cgroup));
    if let Some(cgroup_id) = scope::enter(CGROUP_MOVE)
        && capture_move(&ctx, cgroup, cgroup_id).is_none()
    {
        count_lost(CGROUP_MOVE, cgroup_id);
    }
    0
}

#[inline(always)]
fn capture_move(ctx: &BtfTracePointContext, cgroup: *const u8, cgroup_id: u64) -> Option<()> {
    let draft = Draft::<CgroupMove>::begin(SCRATCH_CGROUP)?;
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, CGROUP_MOVE, 0, cgroup_id, Task::current()) };
    let path = append_path(&draft, ctx);
    let leader = Task::at(ctx.arg(2)).leader();
    let tgid: u32 = leader.field(offset!(task_tgid));
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).path = path;
        (*record).target_start_ns = leader.start_ns();
        (*record).cgroup_id = id(cgroup);
        (*record).target_tgid = tgid;
        (*record).target_ns_tgid = leader.ns_pid(tgid).0;
        (*record).whole = ctx.arg::<u32>(3) & 1;
        (*record).reserved = 0;
    }
    draft.emit(Lane::Urgent);
    Some(())
}

/// Appends the path that the tracepoint gives.
#[inline(always)]
fn append_path<R>(draft: &Draft<R>, ctx: &BtfTracePointContext) -> Text {
    let Text { len, full_len } = draft.append_kernel_str(ctx.arg(1));
    let is_cut = len >= CGROUP_PATH_MAX;
    Text { len, full_len: full_len + is_cut as u32 }
}

#[inline(always)]
fn is_looked_at(cgroup: *const u8) -> bool {
    let root: *const u8 = kernel(cgroup, offset!(cgroup_root));
    kernel::<u32>(root, offset!(cgroup_root_hierarchy)) == scope::hierarchy()
}

#[inline(always)]
fn id(cgroup: *const u8) -> u64 {
    let node: *const u8 = kernel(cgroup, offset!(cgroup_kn));
    kernel(node, offset!(kernfs_node_id))
}

//! `cred`: a task set its ids or capabilities.

use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use taffrail_common::event::{Cred, Credentials};
use taffrail_common::kind::CRED;

use super::exec::credentials;
use super::strong::{self, kept};
use super::syscall::Ended;
use crate::emit::{Draft, Lane, count_lost};
use crate::maps::SCRATCH_SYSCALL;
use crate::read::{kernel, offset};
use crate::{scope, task};

/// Not known.
const NOBODY: Credentials = Credentials {
    uid: 0,
    gid: 0,
    suid: 0,
    sgid: 0,
    euid: 0,
    egid: 0,
    fsuid: 0,
    fsgid: 0,
    cap_inheritable: 0,
    cap_permitted: 0,
    cap_effective: 0,
    cap_bounding: 0,
    cap_ambient: 0,
};

/// A call that sets ids or capabilities ended. What it was to set is not looked at: the task has it now.
#[btf_tracepoint(function = "sys_exit")]
pub fn cred(ctx: BtfTracePointContext) -> i32 {
    Ended::of(&ctx, SCRATCH_SYSCALL).map_or(0, done)
}

/// [`cred`] of the sort of `syscall_exit_classic`.
#[tracepoint]
pub fn cred_classic(ctx: TracePointContext) -> u32 {
    Ended::of_classic(&ctx, SCRATCH_SYSCALL).map_or(0, done) as u32
}

/// Makes the event.
#[inline(always)]
pub fn done(ended: Ended) -> i32 {
    let old = if kept(CRED) { strong::cred::take_old() } else { None }.filter(|_| ended.result >= 0);
    scope::count_offered(CRED);
    let Some(draft) = Draft::<Cred>::begin(ended.scratch) else {
        count_lost(CRED, ended.cgroup_id);
        return 0;
    };
    let record = draft.record();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, CRED, ended.flags, ended.cgroup_id, ended.task) };
    let cred: *const u8 = ended.task.field(offset!(task_cred));
    let user_ns: *const u8 = kernel(cred, offset!(cred_user_ns));
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).old = old.unwrap_or(NOBODY);
        (*record).old_known = old.is_some() as u32;
        (*record).new = credentials(cred);
        (*record).user_ns = kernel(user_ns, offset!(user_ns_inum));
        (*record).secure_bits = kernel(cred, offset!(cred_secure_bits));
        (*record).result = ended.result as i32;
        (*record).call = ended.call as u32;
        (*record).reserved = 0;
    }
    draft.emit(Lane::Urgent);
    0
}

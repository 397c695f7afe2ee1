//! System calls at the end of their own entry functions (`fexit/__x64_sys_openat` …): those that nobody watches
//! cost nothing. The daemon loads [`call_end`] once for each entry function, and each program that it hands over to
//! once for each type of these functions. The context, registers and result, is that of `tp_btf/sys_exit`, so the rest
//! is the portable tier's.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::fexit;
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::{BtfTracePointContext, FExitContext};
use core::ptr::read_volatile;
use taffrail_common::kind::{ACCEPT, BIND, CONNECT, CRED, DUP, LISTEN, OPEN};
use taffrail_common::map::feature;

use super::{claim, release};
use crate::maps::{END_PROGRAMS, END_PROGRAMS_OTHER};
use crate::probe::syscall::{Ended, Registers, is_strong, is_watched, refused_kind, shape};
use crate::probe::{call, connect, cred, open};
use crate::read::{feature, mask};
use crate::scope;
use crate::task::Task;

/// `long __ARCH_sys_NAME(const struct pt_regs *regs)`, its end: hands over to the program of the call's kind.
#[fexit]
pub fn call_end(ctx: FExitContext) -> i32 {
    hand_over(&ctx, &END_PROGRAMS)
}

/// [`call_end`] for functions of another type.
#[fexit]
pub fn call_end_other(ctx: FExitContext) -> i32 {
    hand_over(&ctx, &END_PROGRAMS_OTHER)
}

#[inline(always)]
fn hand_over(ctx: &FExitContext, programs: &ProgramArray) -> i32 {
    if let Some((kind, _)) = watched(ctx) {
        // SAFETY: all programs of the array are of this type. One that is not there is not of this tier.
        unsafe { programs.tail_call(ctx, kind as u32) };
    }
    0
}

/// The kind and the cgroup of a call that is watched here.
#[inline(always)]
fn watched(ctx: &FExitContext) -> Option<(u16, u64)> {
    let (shape, _) = shape(Registers::argument(ctx.arg(0)))?;
    // SAFETY: an entry of an array map.
    let kind = unsafe { read_volatile(&raw const (*shape).kind) };
    let cgroup_id = scope::cgroup_id();
    (is_strong(kind) && is_watched(kind, cgroup_id)).then_some((kind, cgroup_id))
}

/// open and its like.
#[fexit]
pub fn end_open(ctx: FExitContext) -> i32 {
    ended(&ctx, open::done::<true>)
}

/// [`end_open`] for kernels without `bpf_loop`.
#[fexit]
pub fn end_open_bounded(ctx: FExitContext) -> i32 {
    ended(&ctx, open::done::<false>)
}

/// connect, bind, listen, accept, and copies of descriptors.
#[fexit]
pub fn end_connect(ctx: FExitContext) -> i32 {
    ended(&ctx, connect::done::<true>)
}

/// [`end_connect`] for kernels without `bpf_loop`.
#[fexit]
pub fn end_connect_bounded(ctx: FExitContext) -> i32 {
    ended(&ctx, connect::done::<false>)
}

/// Calls that set ids or capabilities.
#[fexit]
pub fn end_cred(ctx: FExitContext) -> i32 {
    ended(&ctx, cred::done)
}

/// All other calls.
#[fexit]
pub fn end_call(ctx: FExitContext) -> i32 {
    ended(&ctx, call::done::<true>)
}

/// [`end_call`] for kernels without `bpf_loop`.
#[fexit]
pub fn end_call_bounded(ctx: FExitContext) -> i32 {
    ended(&ctx, call::done::<false>)
}

#[inline(always)]
fn ended(ctx: &FExitContext, body: impl FnOnce(Ended) -> i32) -> i32 {
    let Some((shape, _)) = shape(Registers::argument(ctx.arg(0))) else { return 0 };
    // SAFETY: an entry of an array map.
    let kind = unsafe { read_volatile(&raw const (*shape).kind) };
    let Some(scratch) = claim(kind, scope::cgroup_id()) else { return 0 };
    if let Some(ended) = Ended::of(&BtfTracePointContext::new(ctx.as_ptr()), scratch) {
        body(ended);
    }
    release(scratch);
    0
}

macro_rules! refused_programs {
    ($( $name:ident, $bounded:ident: $kinds:expr, $body:expr, $bounded_body:expr; )*) => { $(
        /// `int __seccomp_filter(int this_syscall, [const struct seccomp_data *sd, before 6.16] const bool
        /// recheck_after_trace)`, its end: a call that a filter refuses never gets to its own function. Runs for each
        /// call of tasks that have a filter.
        #[fexit]
        pub fn $name(ctx: FExitContext) -> i32 {
            refused(&ctx, $kinds, $body)
        }

        #[doc = concat!("[`", stringify!($name), "`] for kernels without `bpf_loop`.")]
        #[fexit]
        pub fn $bounded(ctx: FExitContext) -> i32 {
            refused(&ctx, $kinds, $bounded_body)
        }
    )* };
}

refused_programs! {
    refused_open, refused_open_bounded: 1 << OPEN, open::done::<true>, open::done::<false>;
    refused_connect, refused_connect_bounded: CONNECT_KINDS, connect::done::<true>, connect::done::<false>;
    refused_cred, refused_cred_bounded: 1 << CRED, cred::done, cred::done;
    refused_call, refused_call_bounded: CALL_KINDS, call::done::<true>, call::done::<false>;
}

/// Kinds with the record `Connect`.
const CONNECT_KINDS: u64 = 1 << CONNECT | 1 << BIND | 1 << LISTEN | 1 << ACCEPT | 1 << DUP;

/// Kinds with the record `Call`.
const CALL_KINDS: u64 = !(CONNECT_KINDS | 1 << OPEN | 1 << CRED);

#[inline(always)]
fn refused(ctx: &FExitContext, kinds: u64, body: impl FnOnce(Ended) -> i32) -> i32 {
    // VERIFIER: without the mask both loads become one at a chosen address, which may not be done to the context.
    let result = match feature(feature::SECCOMP_DATA) {
        true => ctx.arg::<u64>(3),
        false => mask::<-1>(ctx.arg(2)),
    };
    if result as i32 != -1 {
        return 0;
    }
    let task = Task::current();
    let kind = refused_kind(task);
    let cgroup_id = scope::cgroup_id();
    if kinds >> (kind & 63) & 1 == 0 || !is_strong(kind) || !is_watched(kind, cgroup_id) {
        return 0;
    }
    let Some(scratch) = claim(kind, cgroup_id) else { return 0 };
    if let Some(ended) = Ended::refused(task, scratch) {
        body(ended);
    }
    release(scratch);
    0
}

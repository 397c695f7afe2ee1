//! The end of a system call: tells the few calls that are events from all others, as cheaply as can be,
//! and hands over to their files. Arguments come from the saved registers, which the caller cannot change.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use taffrail_common::event::header_flag;
use taffrail_common::kind::{CONNECT, OPEN};

use super::{connect, open};
use crate::read::{diagnose, offset, trusted};
use crate::scope;
use crate::task::Task;

/// A system call that ended.
#[derive(Clone, Copy)]
pub struct Call {
    /// The caller.
    pub task: Task,
    /// Number of the call, in the table that `flags` tells.
    pub number: u32,
    /// Bits of `header_flag`.
    pub flags: u16,
    /// What it returned.
    pub result: i32,
}

/// `sys_exit(struct pt_regs *regs, long ret)`. It runs at the end of each system call of the machine:
/// calls that are no event cost the hook and a few comparisons.
#[btf_tracepoint(function = "sys_exit")]
pub fn syscall_exit(ctx: BtfTracePointContext) -> i32 {
    done::<true>(&ctx)
}

/// [`syscall_exit`] for kernels without `bpf_loop`.
#[btf_tracepoint(function = "sys_exit")]
pub fn syscall_exit_bounded(ctx: BtfTracePointContext) -> i32 {
    done::<false>(&ctx)
}

#[inline(always)]
fn done<const LOOP: bool>(ctx: &BtfTracePointContext) -> i32 {
    let regs: *const u8 = ctx.arg(0);
    let number = arch::number(regs);
    if !arch::maybe_event(number) {
        return 0;
    }
    let task = Task::current();
    let compat = arch::is_compat(task);
    diagnose!(ctx, "system call {} in cgroup {} returned {}", number, scope::cgroup_id(), ctx.arg::<i64>(1));
    let flags = if compat { header_flag::COMPAT } else { 0 };
    let call = Call { task, number, flags, result: ctx.arg::<i64>(1) as i32 };
    let event = arch::event(number, compat);
    let kind = match event {
        Event::None => return 0,
        Event::Connect | Event::SocketCall => CONNECT,
        _ => OPEN,
    };
    let cgroup_id = scope::cgroup_id();
    if !scope::watched(kind, cgroup_id) {
        return 0;
    }
    let [a, b, c] = arch::arguments(regs, compat);
    // One place each for the work of a kind: the verifier looks at every copy.
    let request = match event {
        Event::Open => open::Request::open(a, b),
        Event::Creat => open::Request::creat(a),
        Event::OpenAt => open::Request::openat(a, b, c),
        Event::OpenAt2 => open::Request::openat2(a, b, c),
        Event::OpenByHandle => open::Request::by_handle(c),
        other => {
            if let Some(request) = connect_request(other, [a, b, c]) {
                connect::done::<LOOP>(call, request, cgroup_id);
            }
            return 0;
        }
    };
    open::done::<LOOP>(call, request, cgroup_id);
    0
}

#[inline(always)]
fn connect_request(event: Event, [a, b, c]: [u64; 3]) -> Option<connect::Request> {
    match event {
        Event::Connect => Some(connect::Request { fd: a as i32, address: b, address_len: c as u32 }),
        Event::SocketCall => connect::Request::socketcall(a, b),
        _ => None,
    }
}

/// What a system call is to us.
#[derive(Clone, Copy)]
enum Event {
    None,
    Open,
    Creat,
    OpenAt,
    OpenAt2,
    OpenByHandle,
    Connect,
    SocketCall,
}

#[cfg(bpf_target_arch = "x86_64")]
mod arch {
    use super::{Event, Task, offset, trusted};

    /// Bit of the x32 calls, which else have the numbers of the 64-bit table.
    const X32_BIT: u32 = 0x4000_0000;
    /// `TS_COMPAT` of `thread_info.status`: the call came in by the 32-bit entry.
    const TS_COMPAT: u32 = 2;

    #[inline(always)]
    pub fn number(regs: *const u8) -> u32 {
        trusted::<u64>(regs, offset!(regs_orig_ax)) as u32 & !X32_BIT
    }

    /// Whether that number is an event in the 64-bit or in the 32-bit table.
    #[inline(always)]
    pub fn maybe_event(number: u32) -> bool {
        matches!(number, 2 | 5 | 8 | 42 | 85 | 102 | 257 | 295 | 304 | 342 | 362 | 437)
    }

    #[inline(always)]
    pub fn is_compat(task: Task) -> bool {
        task.field::<u32>(offset!(task_status)) & TS_COMPAT != 0
    }

    #[inline(always)]
    pub fn event(number: u32, compat: bool) -> Event {
        match (number, compat) {
            (2, false) | (5, true) => Event::Open,
            (85, false) | (8, true) => Event::Creat,
            (257, false) | (295, true) => Event::OpenAt,
            (437, _) => Event::OpenAt2,
            (304, false) | (342, true) => Event::OpenByHandle,
            (42, false) | (362, true) => Event::Connect,
            (102, true) => Event::SocketCall,
            _ => Event::None,
        }
    }

    #[inline(always)]
    pub fn arguments(regs: *const u8, compat: bool) -> [u64; 3] {
        let [di, si, dx] = [
            trusted::<u64>(regs, offset!(regs_di)),
            trusted(regs, offset!(regs_si)),
            trusted(regs, offset!(regs_dx)),
        ];
        if !compat {
            return [di, si, dx];
        }
        let [bx, cx]: [u64; 2] = [trusted(regs, offset!(regs_bx)), trusted(regs, offset!(regs_cx))];
        [bx as u32 as u64, cx as u32 as u64, dx as u32 as u64]
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod arch {
    use super::{Event, Task, offset, trusted};

    #[inline(always)]
    pub fn number(regs: *const u8) -> u32 {
        trusted(regs, offset!(regs_syscallno))
    }

    /// Whether that number is an event in the 64-bit or in the 32-bit table.
    #[inline(always)]
    pub fn maybe_event(number: u32) -> bool {
        matches!(number, 5 | 8 | 56 | 203 | 265 | 283 | 322 | 371 | 437)
    }

    /// `TIF_32BIT` of `thread_info.flags`, the first word of the task.
    #[inline(always)]
    pub fn is_compat(task: Task) -> bool {
        task.field::<u64>(0) & (1 << 22) != 0
    }

    #[inline(always)]
    pub fn event(number: u32, compat: bool) -> Event {
        match (number, compat) {
            (5, true) => Event::Open,
            (8, true) => Event::Creat,
            (56, false) | (322, true) => Event::OpenAt,
            (437, _) => Event::OpenAt2,
            (265, false) | (371, true) => Event::OpenByHandle,
            (203, false) | (283, true) => Event::Connect,
            _ => Event::None,
        }
    }

    #[inline(always)]
    pub fn arguments(regs: *const u8, _compat: bool) -> [u64; 3] {
        // The result has overwritten the first register; the kernel keeps a copy.
        let x = offset!(regs_regs);
        [trusted(regs, offset!(regs_orig_x0)), trusted(regs, x + 8), trusted(regs, x + 16)]
    }
}

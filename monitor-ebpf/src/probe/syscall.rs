//! The end of a system call. [`syscall_exit`] runs at the end of each one of the machine: it tells the few that
//! are events from all others by a table, and hands over to the program of their kind by a tail call. Arguments
//! come from the saved registers, which the caller cannot change (of two old 32-bit calls from its memory, which it can).

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use core::ptr::read_volatile;
use taffrail_common::call::{CallShape, MMAP, NO_CALL, NUMBERS, SOCKETCALL, SOCKETCALLS, SOCKETCALLS_MAX};
use taffrail_common::event::header_flag;
use taffrail_common::kind::{OPEN, WRITE};

use super::keep::keep;
use crate::emit::count_lost;
use crate::maps::{CALL_PROGRAMS, CALLS, SCRATCH, STRONG_ENDS, STRONG_KINDS};
use crate::read::{diagnose, kernel, mask, offset, trusted, unknown, user};
use crate::scope;
use crate::task::Task;

/// `sys_exit(struct pt_regs *regs, long ret)`. Calls that are no event cost the hook and two look-ups in an array.
#[btf_tracepoint(function = "sys_exit")]
pub fn syscall_exit(ctx: BtfTracePointContext) -> i32 {
    let (regs, result) = (Registers::argument(ctx.arg(0)), ctx.arg(1));
    keep::<true>(regs, result);
    hand_over(&ctx, regs, result)
}

/// [`syscall_exit`] for kernels without `atomic_fetch_add` (5.12).
#[btf_tracepoint(function = "sys_exit")]
pub fn syscall_exit_old(ctx: BtfTracePointContext) -> i32 {
    let (regs, result) = (Registers::argument(ctx.arg(0)), ctx.arg(1));
    keep::<false>(regs, result);
    hand_over(&ctx, regs, result)
}

/// [`syscall_exit`] for kernels that let a thread be preempted within that one (7.0), and skip it meanwhile for all
/// other threads of the CPU. This hook is entered with preemption off. The programs that it hands over to have to be
/// of its own sort.
#[tracepoint]
pub fn syscall_exit_classic(ctx: TracePointContext) -> u32 {
    let Some(regs) = Registers::current() else { return 0 };
    let result = classic_result(&ctx);
    keep::<true>(regs, result);
    hand_over(&ctx, regs, result) as u32
}

/// Does nothing: the daemon finds out by it whether programs of this sort can be attached.
#[tracepoint]
pub fn classic_trial(_ctx: TracePointContext) -> u32 {
    0
}

/// `raw_syscalls/sys_exit`: eight bytes that all tracepoints have, `long id`, `long ret`.
#[inline(always)]
fn classic_result(ctx: &TracePointContext) -> i64 {
    // SAFETY: the kernel's record has these bytes.
    unsafe { ctx.as_ptr().cast::<i64>().add(2).read() }
}

/// Hands a call that is an event over to the program of its kind.
#[inline(always)]
fn hand_over<C: EbpfContext>(ctx: &C, regs: Registers, result: i64) -> i32 {
    let Some((shape, compat)) = shape(regs) else { return 0 };
    // SAFETY: an entry of an array map.
    let kind = unsafe { read_volatile(&raw const (*shape).kind) };
    let cgroup_id = scope::cgroup_id();
    if is_strong(kind) || !is_watched(kind, cgroup_id) {
        return 0;
    }
    diagnose!(
        ctx,
        "call of kind {} in cgroup {} returned {}, compat: {}",
        kind,
        cgroup_id,
        result,
        compat as u8
    );
    // SAFETY: all programs of the array are of this type.
    unsafe { CALL_PROGRAMS.tail_call(ctx, kind as u32) };
    // There was no program: the daemon fills in calls only of kinds that have one.
    if scope::watched(kind, cgroup_id) {
        scope::count_offered(kind);
        count_lost(kind, cgroup_id);
    }
    0
}

/// Whether calls of that kind are seen at their own entry functions.
#[inline(always)]
pub fn is_strong(kind: u16) -> bool {
    STRONG_KINDS.get(STRONG_ENDS).is_some_and(|kinds| kinds >> (kind & 63) & 1 != 0)
}

/// How to read the call that ended, and whether it came by the 32-bit entry; `None` if it is no event.
#[inline(always)]
pub fn shape(regs: Registers) -> Option<(*const CallShape, bool)> {
    let (mut shape, is_compat) = entry(arch::number(regs))?;
    if shape.call == SOCKETCALL {
        let operation = arch::argument::<0>(regs, is_compat);
        if operation >= SOCKETCALLS_MAX as u64 {
            return None;
        }
        shape = CALLS.get(SOCKETCALLS as u32 + operation as u32)?;
    }
    (shape.kind != 0).then_some((core::ptr::from_ref(shape), is_compat))
}

/// Whether the acting task is in a call of that kind, whose end [`syscall_exit`] will see. If not, the error is the
/// id of the call that it is in.
#[inline(always)]
pub fn running(kind: u16) -> Result<(), u16> {
    let task = Task::current();
    let regs = task.call_registers();
    if regs.is_null() {
        return Err(NO_CALL);
    }
    let number = arch::running_number(regs);
    if number >= NUMBERS as u32 {
        return Err(NO_CALL);
    }
    let is_compat = arch::is_compat(task);
    let Some(mut shape) = CALLS.get(number + if is_compat { NUMBERS as u32 } else { 0 }) else {
        return Err(NO_CALL);
    };
    if shape.call == SOCKETCALL {
        let operation = arch::socketcall_operation(regs);
        let entry =
            CALLS.get(SOCKETCALLS as u32 + if operation < SOCKETCALLS_MAX as u32 { operation } else { 0 });
        let Some(entry) = entry else { return Err(NO_CALL) };
        shape = entry;
    }
    match shape.kind {
        0 => Err(NO_CALL),
        running if running == kind => Ok(()),
        _ => Err(shape.call),
    }
}

/// Whether the acting task does the work of an io_uring: in io_uring_enter(2), or as one of its workers. (Not what is
/// put off to the end of another call.)
#[inline(always)]
pub fn in_io_uring() -> bool {
    /// io_uring_enter(2), in all tables.
    const ENTER: u32 = 426;
    let task = Task::current();
    let regs = task.call_registers();
    task.is_io_worker() || !regs.is_null() && arch::running_number(regs) == ENTER
}

/// How to read the call that the acting thread is in, bits of `header_flag`, and its first two arguments; `None` if it is
/// no event. For programs that do not get the registers.
#[inline(always)]
pub fn of_thread(task: Task) -> Option<(CallShape, u16, [u64; 2])> {
    let regs = Registers::saved(task)?;
    let (shape, is_compat) = entry(arch::running_number(regs.address))?;
    let flags = if is_compat { header_flag::COMPAT } else { 0 };
    let arguments = [arch::argument::<0>(regs, is_compat), arch::argument::<1>(regs, is_compat)];
    (shape.kind != 0).then_some((*shape, flags, arguments))
}

/// The kind of the call that the acting thread was refused, 0 if it is no event.
#[inline(always)]
pub fn refused_kind(task: Task) -> u16 {
    let regs = Registers::saved(task);
    regs.and_then(shape).map_or(0, |(shape, _)| {
        // SAFETY: an entry of an array map.
        unsafe { read_volatile(&raw const (*shape).kind) }
    })
}

/// Whether the acting thread is replacing its image: then its credentials are part of the event `exec`.
#[inline(always)]
pub fn is_exec(task: Task) -> bool {
    let numbers = if arch::is_compat(task) { arch::COMPAT_EXEC } else { arch::EXEC };
    Registers::saved(task).is_some_and(|regs| numbers.contains(&arch::number(regs)))
}

/// Whether calls of that kind are of use for a cgroup.
#[inline(always)]
pub fn is_watched(kind: u16, cgroup_id: u64) -> bool {
    // An open also begins anew what `write` tells of a file.
    scope::watched(kind, cgroup_id) || kind == OPEN && scope::watched(WRITE, cgroup_id)
}

/// The row of the call of that number in the acting thread's table, and whether that is the 32-bit one.
#[inline(always)]
fn entry(number: u32) -> Option<(&'static CallShape, bool)> {
    if number >= NUMBERS as u32 {
        return None;
    }
    let (native, compat) = (CALLS.get(number)?, CALLS.get(number + NUMBERS as u32)?);
    if native.kind | compat.kind == 0 {
        return None;
    }
    let is_compat = arch::is_compat(Task::current());
    Some((if is_compat { compat } else { native }, is_compat))
}

/// Where a thread's registers were saved when it entered the kernel, and whether the verifier lets us load them directly.
#[derive(Clone, Copy)]
pub struct Registers {
    address: *const u8,
    trusted: bool,
}

impl Registers {
    /// Those that a program got as its argument.
    #[inline(always)]
    pub fn argument(address: *const u8) -> Self {
        Self { address, trusted: true }
    }

    /// Those of the acting task, for programs that the kernel lets load them directly.
    #[inline(always)]
    fn current() -> Option<Self> {
        Some(Self { trusted: true, ..Self::saved(Task::current())? })
    }

    /// Those of the acting task, if it can be in a call.
    #[inline(always)]
    fn saved(task: Task) -> Option<Self> {
        let address = task.call_registers();
        (!address.is_null()).then_some(Self { address, trusted: false })
    }

    #[inline(always)]
    fn load<T: Copy>(self, offset: usize) -> T {
        if self.trusted { trusted(self.address, offset) } else { kernel(self.address, offset) }
    }
}

/// A system call that ended.
#[derive(Clone, Copy)]
pub struct Ended {
    /// The caller.
    pub task: Task,
    /// The caller's cgroup.
    pub cgroup_id: u64,
    /// What it returned.
    pub result: i64,
    /// Bits of `header_flag`.
    pub flags: u16,
    /// The event kind.
    pub kind: u16,
    /// Id of the call.
    pub call: u16,
    /// How to read it.
    pub shape: CallShape,
    /// The program's own entry of the scratch map.
    pub scratch: u32,
    /// Whether the arguments were read from the caller's memory, after the kernel had read them.
    pub in_memory: bool,
    /// The arguments, in scratch memory: which of them is wanted is known only at run time.
    args: *const u64,
}

impl Ended {
    /// The call that a program was handed, with registers and result as its arguments. `scratch` is the entry of the
    /// scratch map that is the program's own.
    #[inline(always)]
    pub fn of(ctx: &BtfTracePointContext, scratch: u32) -> Option<Self> {
        Self::with(Registers::argument(ctx.arg(0)), ctx.arg(1), scratch)
    }

    /// As [`Ended::of`], for a program of the sort of [`syscall_exit_classic`].
    #[inline(always)]
    pub fn of_classic(ctx: &TracePointContext, scratch: u32) -> Option<Self> {
        Self::with(Registers::current()?, classic_result(ctx), scratch)
    }

    /// The call that a thread was refused before it began.
    #[inline(always)]
    pub fn refused(task: Task, scratch: u32) -> Option<Self> {
        let regs = Registers::saved(task)?;
        Self::with(regs, arch::result(regs), scratch)
    }

    #[inline(always)]
    fn with(regs: Registers, result: i64, scratch: u32) -> Option<Self> {
        let (shape, is_compat) = shape(regs)?;
        // SAFETY: an entry of an array map.
        let shape = unsafe { read_volatile(shape) };
        let memory = SCRATCH.get_ptr_mut(scratch)?;
        // SAFETY: an address within the entry.
        let args = unsafe { (&raw mut (*memory).args).cast::<u64>() };
        let direct = [
            arch::argument::<0>(regs, is_compat),
            arch::argument::<1>(regs, is_compat),
            arch::argument::<2>(regs, is_compat),
            arch::argument::<3>(regs, is_compat),
            arch::argument::<4>(regs, is_compat),
            arch::argument::<5>(regs, is_compat),
        ];
        // SAFETY: eight words of this CPU's own entry.
        unsafe { args.cast::<[u64; 6]>().write(direct) };
        // Two old 32-bit calls have their arguments in the caller's memory.
        let in_memory = match shape.call {
            _ if !is_compat => 0,
            MMAP => direct[0],
            _ if arch::is_socketcall(regs) => direct[1],
            _ => 0,
        };
        if in_memory != 0 {
            let mut words = [0u32; 6];
            // The number of words differs by call, and there may be an unmapped page after the last.
            let _ = user((&raw mut words).cast(), 24, in_memory)
                || user((&raw mut words).cast(), 12, in_memory)
                || user((&raw mut words).cast(), 8, in_memory);
            let [a, b, c, d, e, f] = words;
            // SAFETY: as above.
            unsafe {
                args.cast::<[u64; 6]>().write([a as u64, b as u64, c as u64, d as u64, e as u64, f as u64])
            };
        }
        Some(Self {
            task: Task::current(),
            cgroup_id: scope::cgroup_id(),
            result,
            flags: if is_compat { header_flag::COMPAT } else { 0 },
            kind: shape.kind,
            call: shape.call,
            shape,
            scratch,
            in_memory: in_memory != 0,
            args,
        })
    }

    /// The same.
    ///
    /// VERIFIER: what was asked of it so far is forgotten, which would else be a state for each answer to follow
    /// through the walks of paths.
    #[inline(always)]
    pub fn anew(self) -> Self {
        let byte = |value: u8| unknown(value as u64) as u8;
        let CallShape { dir, file, target_dir, target, text, .. } = self.shape;
        let shape = CallShape {
            dir: byte(dir),
            file: byte(file),
            target_dir: byte(target_dir),
            target: byte(target),
            text: byte(text),
            ..self.shape
        };
        let number = |value: u16| unknown(value as u64) as u16;
        Self { kind: number(self.kind), call: number(self.call), flags: number(self.flags), shape, ..self }
    }

    /// An argument by its place as [`CallShape`] counts: from 1.
    #[inline(always)]
    pub fn arg(&self, place: u8) -> u64 {
        let index = mask::<7>((place as u64).wrapping_sub(1));
        // SAFETY: within the eight words.
        unsafe { read_volatile(self.args.add(index as usize)) }
    }

    /// All arguments.
    #[inline(always)]
    pub fn args(&self) -> [u64; 6] {
        [self.arg(1), self.arg(2), self.arg(3), self.arg(4), self.arg(5), self.arg(6)]
    }
}

#[cfg(bpf_target_arch = "x86_64")]
pub(super) mod arch {
    use super::{Registers, Task, kernel, offset};

    /// Numbers of execve(2) and execveat(2).
    pub const EXEC: [u32; 2] = [59, 322];
    /// The same in the 32-bit table.
    pub const COMPAT_EXEC: [u32; 2] = [11, 358];

    /// Bit of the x32 calls, which else have the numbers of the 64-bit table, and some of their own from 512.
    const X32_BIT: u32 = 0x4000_0000;
    /// `TS_COMPAT` of `thread_info.status`: the call came in by the 32-bit entry.
    const TS_COMPAT: u32 = 2;
    /// Number of socketcall(2) in the 32-bit table.
    const SOCKETCALL: u32 = 102;

    #[inline(always)]
    pub fn number(regs: Registers) -> u32 {
        regs.load::<u64>(offset!(regs_orig_ax)) as u32 & !X32_BIT
    }

    /// What the call returns.
    #[inline(always)]
    pub fn result(regs: Registers) -> i64 {
        regs.load(offset!(regs_ax))
    }

    /// Number of the call that is running; beyond all numbers if it has ended: work that was put off runs then.
    #[inline(always)]
    pub fn running_number(regs: *const u8) -> u32 {
        /// What the kernel sets the result to at the entry.
        const NO_RESULT: i64 = -38;
        if kernel::<i64>(regs, offset!(regs_ax)) != NO_RESULT {
            return u32::MAX;
        }
        kernel::<u64>(regs, offset!(regs_orig_ax)) as u32 & !X32_BIT
    }

    #[inline(always)]
    pub fn is_socketcall(regs: Registers) -> bool {
        number(regs) == SOCKETCALL
    }

    /// The operation of the socketcall(2) that is running.
    #[inline(always)]
    pub fn socketcall_operation(regs: *const u8) -> u32 {
        kernel(regs, offset!(regs_bx))
    }

    #[inline(always)]
    pub fn is_compat(task: Task) -> bool {
        task.field::<u32>(offset!(task_status)) & TS_COMPAT != 0
    }

    /// An argument by its place from 0.
    #[inline(always)]
    pub fn argument<const PLACE: u32>(regs: Registers, compat: bool) -> u64 {
        let (native, in_32_bit) = match PLACE {
            0 => (offset!(regs_di), offset!(regs_bx)),
            1 => (offset!(regs_si), offset!(regs_cx)),
            2 => (offset!(regs_dx), offset!(regs_dx)),
            3 => (offset!(regs_r10), offset!(regs_si)),
            4 => (offset!(regs_r8), offset!(regs_di)),
            _ => (offset!(regs_r9), offset!(regs_bp)),
        };
        if compat { regs.load::<u64>(in_32_bit) as u32 as u64 } else { regs.load(native) }
    }
}

#[cfg(bpf_target_arch = "aarch64")]
pub(super) mod arch {
    use super::{Registers, Task, kernel, offset};

    /// Numbers of execve(2) and execveat(2).
    pub const EXEC: [u32; 2] = [221, 281];
    /// The same in the 32-bit table.
    pub const COMPAT_EXEC: [u32; 2] = [11, 387];

    /// Number of the call that is running; beyond all numbers if it has ended: work that was put off runs then.
    #[inline(always)]
    pub fn running_number(regs: *const u8) -> u32 {
        // The result takes the place of the first argument.
        if kernel::<u64>(regs, offset!(regs_regs)) != kernel::<u64>(regs, offset!(regs_orig_x0)) {
            return u32::MAX;
        }
        kernel(regs, offset!(regs_syscallno))
    }

    /// The 32-bit table has no socketcall(2).
    #[inline(always)]
    pub fn socketcall_operation(_regs: *const u8) -> u32 {
        0
    }

    #[inline(always)]
    pub fn number(regs: Registers) -> u32 {
        regs.load(offset!(regs_syscallno))
    }

    /// What the call returns.
    #[inline(always)]
    pub fn result(regs: Registers) -> i64 {
        regs.load(offset!(regs_regs))
    }

    /// The 32-bit table has no socketcall(2).
    #[inline(always)]
    pub fn is_socketcall(_regs: Registers) -> bool {
        false
    }

    /// `TIF_32BIT` of `thread_info.flags`, the first word of the task.
    #[inline(always)]
    pub fn is_compat(task: Task) -> bool {
        task.field::<u64>(0) & (1 << 22) != 0
    }

    /// An argument by its place from 0. The result has overwritten the first register; the kernel keeps a copy.
    #[inline(always)]
    pub fn argument<const PLACE: u32>(regs: Registers, compat: bool) -> u64 {
        let argument: u64 = match PLACE {
            0 => regs.load(offset!(regs_orig_x0)),
            place => regs.load(offset!(regs_regs) + place as usize * 8),
        };
        if compat { argument as u32 as u64 } else { argument }
    }
}

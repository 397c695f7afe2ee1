//! Keeps a program on its CPU until it is done, where another program could take its scratch memory else: `fexit`
//! programs of different calls share theirs, and on preemptible kernels one task can run in the middle of another's
//! program. Where the kernel has `bpf_preempt_disable` (6.10) they use it. A tracepoint's program needs none of that:
//! it shares with nobody, and the kernel never runs it twice at a time on one CPU. (From Linux 7.0 on tracepoints are
//! preemptible, and then it skips the program for the other task: such events are lost and counted.)

use crate::read::feature;
use taffrail_common::map::feature;

/// No other task runs on this CPU while this lives.
pub struct NoPreemption(());

/// A call of a kernel function by the number that its BTF has: the daemon puts the running kernel's number in the
/// place of `$number` before load. (`BPF_JMP | BPF_CALL` with `BPF_PSEUDO_KFUNC_CALL`.)
macro_rules! call_kernel_function {
    ($number:literal) => {
        #[cfg(target_arch = "bpf")]
        // SAFETY: a call without arguments or result, which spoils the registers of a call.
        unsafe {
            core::arch::asm!(
                concat!(".byte 0x85, 0x20, 0, 0\n.long ", $number),
                out("r0") _, out("r1") _, out("r2") _, out("r3") _, out("r4") _, out("r5") _,
            )
        }
    };
}

impl NoPreemption {
    /// From here on.
    #[inline(always)]
    pub fn begin() -> Self {
        if feature(feature::PREEMPT) {
            // `taffrail_common::map::PREEMPT_DISABLE`
            call_kernel_function!("0x7a660001");
        }
        Self(())
    }
}

impl Drop for NoPreemption {
    #[inline(always)]
    fn drop(&mut self) {
        if feature(feature::PREEMPT) {
            // `taffrail_common::map::PREEMPT_ENABLE`
            call_kernel_function!("0x7a660002");
        }
    }
}

//! A thread of another process, made to do system calls as whoever has taken it over would: by ptrace(2), at the
//! instruction by which it waits in the kernel. x86-64 only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use libc::{c_int, c_long, user_regs_struct};

use crate::daemon::wait_for;

/// The thread. It goes on where it was when this is dropped.
pub struct Taken {
    thread: c_int,
    memory: File,
    saved: user_regs_struct,
}

/// The machine's instruction for a system call.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

impl Taken {
    /// Stops it where it waits in the kernel.
    pub fn new(thread: c_int) -> io::Result<Self> {
        let memory = File::options().read(true).write(true).open(format!("/proc/{thread}/mem"))?;
        wait_for(|| Self::stop(thread, memory.try_clone()).transpose())
            .unwrap_or_else(|| Err(io::Error::other("it does not wait in the kernel")))
    }

    /// `None`: it was somewhere else, and goes on.
    fn stop(thread: c_int, memory: io::Result<File>) -> io::Result<Option<Self>> {
        // SAFETY: no pointers.
        checked(unsafe { libc::ptrace(libc::PTRACE_ATTACH, thread, 0, 0) })?;
        wait(thread)?;
        // SAFETY: integers, for which zero is a value.
        let saved = unsafe { std::mem::zeroed() };
        let mut taken = Self { thread, memory: memory?, saved };
        // SAFETY: the structure is there during the call.
        checked(unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread, 0, &raw mut taken.saved) })?;
        let mut behind = [0; 2];
        taken.memory.read_exact_at(&mut behind, taken.saved.rip - 2)?;
        Ok((behind == SYSCALL).then_some(taken))
    }

    /// Puts text, with NUL behind it, where nobody looks: below its stack. Gives the address.
    pub fn put(&self, text: &str) -> io::Result<u64> {
        let at = (self.saved.rsp - 8192) & !15;
        self.memory.write_all_at(&[text.as_bytes(), b"\0"].concat(), at)?;
        Ok(at)
    }

    /// What the kernel answers it.
    pub fn call(&self, number: c_long, arguments: [u64; 6]) -> io::Result<i64> {
        let mut registers = self.saved;
        registers.rip -= 2;
        // It is in no system call that could begin again.
        registers.orig_rax = u64::MAX;
        registers.rax = number as u64;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        self.set(&registers)?;
        // SAFETY: no pointers.
        checked(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.thread, 0, 0) })?;
        wait(self.thread)?;
        // SAFETY: the structure is there during the call.
        checked(unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.thread, 0, &raw mut registers) })?;
        Ok(registers.rax as i64)
    }

    fn set(&self, registers: &user_regs_struct) -> io::Result<()> {
        // SAFETY: the structure is there during the call.
        checked(unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.thread, 0, &raw const *registers) })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = self.set(&self.saved);
        // SAFETY: no pointers.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.thread, 0, 0) };
    }
}

fn checked(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits until it stops.
fn wait(thread: c_int) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: the number is there during the call.
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    checked(waited.into())?;
    if libc::WIFSTOPPED(status) { Ok(()) } else { Err(io::Error::other("it ended")) }
}

//! How many instructions the verifier looks at, program by program. Kernels before 5.16 do not tell once a program is
//! loaded, and aya shows the verifier's log of refused programs only. So the loading process is traced here, and each
//! of its `BPF_PROG_LOAD` calls is made to ask for the log's statistics. It changes nothing else of the call.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A program that the kernel took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The kernel's name for it: the first 15 bytes.
    pub name: String,
    /// Instructions that the verifier looked at.
    pub instructions: u64,
}

/// The most instructions that any of our programs may cost on any kernel. The kernel's own limit is a million; a
/// tenth of it leaves room for a verifier that gives up on merging states which the present ones merge.
pub const BUDGET: u64 = 100_000;

/// The same of a program for kernels before 5.17, which have no `bpf_loop`: each round of each walk is verified there.
pub const BOUNDED_BUDGET: u64 = 200_000;

/// `PTRACE_GET_SYSCALL_INFO` (5.3), which `libc` has for glibc only.
const GET_SYSCALL_INFO: libc::c_uint = 0x420e;

/// `struct ptrace_syscall_info` as words: the operation in the first byte, then instruction and stack pointer, then
/// number and arguments, or the result.
type SyscallInfo = [u64; 11];

/// Operations of [`SyscallInfo`].
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

/// `BPF_PROG_LOAD`.
const PROG_LOAD: u64 = 5;

/// `log_level`, `log_size` and `log_buf` in `union bpf_attr` for `BPF_PROG_LOAD`.
const LOG_AT: u64 = 24;
const LOG_LEN: usize = 16;

/// `prog_name` there.
const NAME_AT: u64 = 48;

/// `BPF_LOG_STATS` (5.2): a few lines, whatever the program.
const STATISTICS: u32 = 4;

/// Room for the log, that far below the stack pointer, where the tracee's libraries do not reach.
const SCRATCH_BELOW: u64 = 128 << 10;
const SCRATCH_LEN: u32 = 16 << 10;

/// A load that was entered and has not returned.
struct Pending {
    attributes: u64,
    original: [u8; LOG_LEN],
    name: String,
    log: u64,
}

/// Runs a command to its end and says which programs it loaded. Its output goes where the command says.
///
/// # Errors
/// If the process cannot be started or traced; a program that is refused is left out.
pub fn loads_of(command: &mut Command) -> io::Result<Vec<Loaded>> {
    let trace_me = || {
        // SAFETY: it asks to be traced by the parent; no pointers.
        match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: `trace_me` makes one system call and does not allocate.
    let child = unsafe { command.pre_exec(trace_me) }.spawn()?;
    let main = child.id() as i32;
    let mut pending: HashMap<i32, Pending> = HashMap::new();
    let mut loads = Vec::new();
    // The memory of the new program: before its exec it was ours.
    let mut memory = None;
    loop {
        let mut status = 0;
        // Only children of this thread: other tests have theirs.
        // SAFETY: `status` is ours.
        let thread = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
        if thread < 0 {
            return Err(io::Error::last_os_error());
        }
        if !libc::WIFSTOPPED(status) {
            if thread == main {
                return Ok(loads);
            }
            continue;
        }
        let mut signal = libc::WSTOPSIG(status);
        if memory.is_none() {
            let options = libc::PTRACE_O_TRACESYSGOOD
                | libc::PTRACE_O_TRACECLONE
                | libc::PTRACE_O_TRACEEXEC
                | libc::PTRACE_O_EXITKILL;
            // SAFETY: the thread is ours and stopped; no pointers.
            unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, thread, 0, options) };
            memory = Some(File::options().read(true).write(true).open(format!("/proc/{main}/mem"))?);
            signal = 0;
        } else if signal == libc::SIGTRAP | 0x80 {
            let memory = memory.as_ref().ok_or(io::ErrorKind::NotFound)?;
            at_syscall(thread, memory, &mut pending, &mut loads)?;
            signal = 0;
        } else if signal == libc::SIGTRAP || signal == libc::SIGSTOP {
            // A new thread's first stop, and events.
            signal = 0;
        }
        // SAFETY: the thread is ours and stopped; no pointers.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, thread, 0, signal) };
    }
}

fn at_syscall(
    thread: i32,
    memory: &File,
    pending: &mut HashMap<i32, Pending>,
    loads: &mut Vec<Loaded>,
) -> io::Result<()> {
    let mut info: SyscallInfo = [0; 11];
    // SAFETY: the kernel writes at most as many bytes as it is told, into an array of that size.
    let got = unsafe { libc::ptrace(GET_SYSCALL_INFO as _, thread, size_of_val(&info), &raw mut info) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    let [operation, _, stack, number, command, attributes, len, ..] = info;
    match operation as u8 {
        ENTRY if number == libc::SYS_bpf as u64 && command == PROG_LOAD && len >= NAME_AT + 16 => {
            let mut original = [0; LOG_LEN];
            memory.read_exact_at(&mut original, attributes + LOG_AT)?;
            if original[..4] != [0; 4] {
                // It asks for a log itself.
                return Ok(());
            }
            let mut name = [0; 16];
            memory.read_exact_at(&mut name, attributes + NAME_AT)?;
            let log = (stack - SCRATCH_BELOW) & !4095;
            let wanted =
                [&STATISTICS.to_ne_bytes()[..], &SCRATCH_LEN.to_ne_bytes(), &log.to_ne_bytes()].concat();
            memory.write_all_at(&wanted, attributes + LOG_AT)?;
            pending.insert(thread, Pending { attributes, original, name: text(&name), log });
        }
        EXIT => {
            let Some(Pending { attributes, original, name, log }) = pending.remove(&thread) else {
                return Ok(());
            };
            memory.write_all_at(&original, attributes + LOG_AT)?;
            if (number as i64) < 0 {
                return Ok(());
            }
            let mut bytes = vec![0; SCRATCH_LEN as usize];
            memory.read_exact_at(&mut bytes, log)?;
            if let Some(instructions) = processed(&text(&bytes)) {
                loads.push(Loaded { name, instructions });
            }
        }
        _ => {}
    }
    Ok(())
}

/// Up to the NUL.
fn text(bytes: &[u8]) -> String {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// The number in `processed 5321 insns (limit 1000000) max_states_per_insn 4 …`.
fn processed(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.strip_prefix("processed ")?.split(' ').next()?.parse().ok())
}

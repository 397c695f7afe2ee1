//! Does by system calls what no usual program does, for the tests of rules: `deed WHAT [PID]`. It is run in containers that
//! have the machine's programs. Exit code 77: this machine cannot do it.
#![allow(clippy::unwrap_used, reason = "a test's tool that cannot go on has failed")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::ExitCode;

use taffrail_tests::sandbox::{self, in_child, unsupported};
use taffrail_tests::{raw, syscall};

const CANNOT: u8 = 77;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = arguments.first().map_or("", String::as_str);
    let process = arguments.get(1).map(|pid| pid.parse().unwrap());
    match deed(what, process) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{what}: {error}");
            if error.kind() == io::ErrorKind::Unsupported {
                ExitCode::from(CANNOT)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn deed(what: &str, process: Option<i32>) -> io::Result<()> {
    match what {
        "program-in-memory" => {
            let memory = raw::descriptor(syscall!(libc::SYS_memfd_create, c"x".as_ptr(), libc::MFD_CLOEXEC))?;
            let bytes = raw::program();
            syscall!(libc::SYS_write, memory.as_raw_fd(), bytes.as_ptr(), bytes.len())?;
            start(&memory, &[c"x".as_ptr(), std::ptr::null()])
        }
        "program-deleted" => {
            std::fs::copy("/usr/local/bin/harmless", "/srv/gone")?;
            let file = raw::open("/srv/gone", libc::O_PATH)?;
            std::fs::remove_file("/srv/gone")?;
            start(&file, &[c"x".as_ptr(), std::ptr::null()])
        }
        "program" => start(&program()?, &[c"x".as_ptr(), std::ptr::null()]),
        "program-without-arguments" => start(&program()?, &[std::ptr::null()]),
        "clone-user-namespace" => {
            let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
            let child = syscall!(libc::SYS_clone, flags, 0, 0, 0, 0)?;
            if child == 0 {
                // SAFETY: the child has nothing to tidy up.
                unsafe { libc::_exit(0) };
            }
            sandbox::wait(child as i32).map(drop)
        }
        "rights-of-user-namespace" => {
            drop_rights()?;
            syscall!(libc::SYS_unshare, libc::CLONE_NEWUSER).map_err(unsupported)?;
            syscall!(libc::SYS_setresuid, -1i32, -1i32, -1i32).map(drop)
        }
        "rights-dropped" => {
            drop_rights()?;
            syscall!(libc::SYS_setresuid, -1i32, -1i32, -1i32).map(drop)
        }
        "write-memory" => with_child(|child| {
            let mut word = 7;
            let part = description(&mut word);
            syscall!(libc::SYS_process_vm_writev, child, part.as_ptr(), 1, part.as_ptr(), 1, 0).map(drop)
        }),
        "read-memory" => with_child(|child| {
            let mut word = 7;
            let part = description(&mut word);
            syscall!(libc::SYS_process_vm_readv, child, part.as_ptr(), 1, part.as_ptr(), 1, 0).map(drop)
        }),
        "poke" => with_child(|child| {
            let mut word = 7u64;
            syscall!(libc::SYS_ptrace, libc::PTRACE_ATTACH, child, 0, 0)?;
            syscall!(libc::SYS_wait4, child, 0, libc::__WALL, 0)?;
            syscall!(libc::SYS_ptrace, libc::PTRACE_POKEDATA, child, &raw mut word, 7).map(drop)
        }),
        "trace" => {
            let trace = |process| {
                syscall!(libc::SYS_ptrace, libc::PTRACE_ATTACH, process, 0, 0)?;
                syscall!(libc::SYS_wait4, process, 0, libc::__WALL, 0)?;
                syscall!(libc::SYS_ptrace, libc::PTRACE_DETACH, process, 0, 0).map(drop)
            };
            process.map_or_else(|| with_child(trace), trace)
        }
        "be-traced" => syscall!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0).map(drop),
        "take-descriptor" => {
            let take = |process| {
                let pidfd =
                    raw::descriptor(syscall!(libc::SYS_pidfd_open, process, 0)).map_err(unsupported)?;
                raw::descriptor(syscall!(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), 0, 0)).map(drop)
            };
            process.map_or_else(|| with_child(take), take)
        }
        "load-module" => {
            // It fails whoever calls: there is no such descriptor.
            let _ = syscall!(libc::SYS_finit_module, -1i32, c"".as_ptr(), 0);
            Ok(())
        }
        "load-program" => {
            // `r0 = 0; exit`, as a socket filter: type, number of instructions, these, and the licence.
            let code = [0xb7u64, 0x95];
            let attributes = [1 | 2 << 32, code.as_ptr() as u64, c"GPL".as_ptr() as u64, 0, 0, 0, 0, 0];
            raw::descriptor(syscall!(libc::SYS_bpf, 5, attributes.as_ptr(), 64)).map(drop)
        }
        "make-map" => {
            let attributes = [2u32, 4, 8, 1, 0, 0, 0, 0];
            raw::descriptor(syscall!(libc::SYS_bpf, 0, attributes.as_ptr(), 32)).map(drop)
        }
        "userfaultfd" => {
            const USER_MODE_ONLY: i32 = 1;
            let fd = syscall!(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY);
            raw::descriptor(fd).map(drop).map_err(unsupported)
        }
        "io_uring" => {
            let mut parameters = [0u32; 30];
            let ring = syscall!(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr());
            raw::descriptor(ring).map(drop).map_err(unsupported)
        }
        "epoll" => raw::descriptor(syscall!(libc::SYS_epoll_create1, libc::O_CLOEXEC)).map(drop),
        // The size of the log.
        "kernel-log" => syscall!(libc::SYS_syslog, 10, 0, 0).map(drop).map_err(unsupported),
        other => Err(io::Error::other(format!("{other}?"))),
    }
}

/// Starts a program in a child, with these arguments.
fn start(file: &OwnedFd, arguments: &[*const libc::c_char]) -> io::Result<()> {
    in_child(|| {
        let (file, path, flags) = (file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH);
        let nothing = &raw const arguments[arguments.len() - 1];
        let _ = syscall!(libc::SYS_execveat, file, path, arguments.as_ptr(), nothing, flags);
        1
    })
    .map(drop)
}

/// The program that ends at once, opened.
fn program() -> io::Result<OwnedFd> {
    raw::open("/usr/local/bin/harmless", libc::O_PATH)
}

/// With a child that waits until it is killed.
fn with_child(body: impl FnOnce(i32) -> io::Result<()>) -> io::Result<()> {
    let child = sandbox::fork(|| {
        loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        }
    })?;
    let result = body(child);
    // SAFETY: a child that was not waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    sandbox::wait(child)?;
    result
}

/// All capabilities go with the user id 0.
fn drop_rights() -> io::Result<()> {
    syscall!(libc::SYS_setresuid, 1000, 1000, 1000).map(drop)
}

/// The description of a word in memory: `struct iovec`.
fn description(of: &mut u64) -> [usize; 2] {
    [std::ptr::from_mut(of) as usize, 8]
}

//! Does things at full speed or by unusual ways, for tests: `act WHAT COUNT [PATH]`. It waits for a line on standard
//! input first, so that all that its start takes is done. It is run in a container's cgroup
//! ([`taffrail_tests::container::Container::command`]).
#![allow(clippy::unwrap_used, reason = "a test's tool that cannot go on has failed")]

use std::ffi::CString;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, count, rest @ ..] = arguments.as_slice() else { panic!("act WHAT COUNT [PATH]") };
    let count: u32 = count.parse().unwrap();
    let path = CString::new(rest.first().cloned().unwrap_or_default()).unwrap();
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    for _ in 0..count {
        match what.as_str() {
            "open" => open(&path),
            "fork" => fork(),
            "exec" => exec(&path),
            "getppid32" => getppid32(),
            // SAFETY: no arguments.
            "getppid" => drop(unsafe { libc::getppid() }),
            "keyctl" => keyctl(),
            other => panic!("{other}?"),
        }
    }
}

fn open(path: &CString) {
    // SAFETY: the path ends with NUL.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
    // SAFETY: the descriptor is this function's own.
    unsafe { libc::close(fd) };
}

fn fork() {
    // SAFETY: the child only ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no memory is touched.
        unsafe { libc::_exit(0) };
    }
    wait(child);
}

fn wait(child: i32) {
    assert!(child > 0);
    // SAFETY: a null status is allowed.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
}

/// A program with a long name and long arguments, as long as an event can have them, in a child.
fn exec(program: &CString) {
    const LONG: usize = 4_000;
    let argument = CString::new(vec![b'a'; LONG]).unwrap();
    let name = CString::new(
        ["/.".repeat(LONG / 2 - program.as_bytes().len()).as_bytes(), program.as_bytes()].concat(),
    );
    let (name, arguments) = (name.unwrap(), [argument.as_ptr(), std::ptr::null()]);
    // SAFETY: the child only starts the program, or ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: texts and lists end as they must.
        unsafe { libc::execve(name.as_ptr(), arguments.as_ptr(), arguments[1..].as_ptr()) };
        // SAFETY: no memory is touched.
        unsafe { libc::_exit(1) };
    }
    wait(child);
}

/// keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0).
fn keyctl() {
    // SAFETY: numbers only.
    unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0) };
}

/// getppid(2) by the 32-bit entry.
#[cfg(target_arch = "x86_64")]
fn getppid32() {
    const GETPPID: u32 = 64;
    // SAFETY: the call takes no arguments and touches no memory.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") GETPPID => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
    };
}

#[cfg(not(target_arch = "x86_64"))]
fn getppid32() {
    panic!("there is no 32-bit entry");
}

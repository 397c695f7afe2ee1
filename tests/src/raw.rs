//! System calls as a hostile program makes them: by number, by the 32-bit entry, and programs that are nothing but
//! a few instructions. For what the standard library or `libc` has a function for, use that.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Makes a system call by its number; arguments are integers or raw pointers.
#[macro_export]
macro_rules! syscall {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        $crate::raw::call($number as libc::c_long, &[$($argument as usize),*])
    };
}

/// A system call with at most six arguments. Whoever passes a pointer answers for the memory behind it until the
/// call returns: the tests in this crate are the only callers.
pub fn call(number: libc::c_long, arguments: &[usize]) -> io::Result<i64> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: the callers pass what that call's manual page asks for.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The new descriptor that a call has returned.
pub fn descriptor(result: io::Result<i64>) -> io::Result<OwnedFd> {
    let fd = result?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A name as the kernel takes it.
pub fn name(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).expect("names in tests have no NUL")
}

/// `openat` at the working directory.
pub fn open(path: impl Into<Vec<u8>>, flags: i32) -> io::Result<OwnedFd> {
    let path = name(path);
    descriptor(syscall!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, 0o600))
}

/// `mount`; empty texts are null.
pub fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let texts = [source, target, kind, data].map(name);
    let [source, target, kind, data] =
        [0, 1, 2, 3].map(|n| if texts[n].is_empty() { std::ptr::null() } else { texts[n].as_ptr() });
    syscall!(libc::SYS_mount, source, target, kind, flags, data)
        .map(drop)
        .map_err(|error| io::Error::new(error.kind(), format!("mount {:?}: {error}", texts[1])))
}

/// A whole program for this machine that ends at once with status 0: an ELF header and three instructions.
pub fn program() -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    // mov eax, 60; xor edi, edi; syscall
    const CODE: &[u8] = &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    #[cfg(target_arch = "aarch64")]
    // mov x8, 93; mov x0, 0; svc 0
    const CODE: &[u8] = &[0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 1, 0, 0, 0xd4];
    const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + CODE.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    let word = |elf: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    let long = |elf: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    // An executable whose program header follows at once.
    half(&mut elf, &[2, MACHINE]);
    word(&mut elf, &[1]);
    long(&mut elf, &[BASE + HEADERS, 64, 0]);
    word(&mut elf, &[0]);
    half(&mut elf, &[64, 56, 1, 64, 0, 0]);
    // PT_LOAD, read and execute: the whole file.
    word(&mut elf, &[1, 5]);
    long(&mut elf, &[0, BASE, BASE, size, size, 0x1_0000]);
    elf.extend(CODE);
    elf
}

/// The 32-bit entry of a 64-bit kernel.
#[cfg(target_arch = "x86_64")]
pub mod compat {
    use std::io;

    /// Why there is none here; `None` if there is.
    pub fn unavailable() -> Option<String> {
        const GETPID: u32 = 20;
        // A kernel without it answers by a signal: ask in a process that may die of it.
        let status = crate::sandbox::in_child(|| match call(GETPID, &[]) {
            Ok(_) => 0,
            Err(_) => 1,
        });
        match status {
            Ok((_, 0)) => None,
            Ok((_, status)) => Some(format!("no 32-bit entry (wait status {status})")),
            Err(error) => Some(format!("no 32-bit entry: {error}")),
        }
    }

    /// A system call of the 32-bit table with at most five arguments, through `int 0x80`.
    pub fn call(number: u32, arguments: &[u32]) -> io::Result<i64> {
        let mut all = [0; 5];
        all[..arguments.len()].copy_from_slice(arguments);
        let [a, b, c, d, e] = all;
        let result: i32;
        // SAFETY: as for `super::call`; the compiler keeps `rbx` to itself, so it is swapped in and out.
        unsafe {
            std::arch::asm!(
                "xchg {a}, rbx", "int 0x80", "xchg {a}, rbx",
                a = inout(reg) u64::from(a) => _,
                inlateout("eax") number => result,
                in("ecx") b, in("edx") c, in("esi") d, in("edi") e,
                lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            );
        }
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result.into()) }
    }

    /// Copies bytes to where a 32-bit pointer reaches. They stay there until the process ends.
    pub fn low(bytes: &[u8]) -> io::Result<u32> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping that nothing else uses.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes.len().max(1), access, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping has at least that many bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast(), bytes.len()) };
        u32::try_from(memory as usize).map_err(|_| io::Error::other("MAP_32BIT gave a high address"))
    }
}

//! The strong tier's system calls: which of the kernel's functions are their entries, and what is attached to their
//! ends. The kernel side is `monitor-ebpf/src/probe/strong/call.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aya::maps::{MapData, ProgramArray};
use aya::programs::links::FdLink;
use aya::programs::{FExit, Program, ProgramFd};
use aya::{Btf, Ebpf};
use hashbrown::HashMap;
use taffrail_common::call::CALLS;
use taffrail_common::kind::{self, KINDS};

use super::attach::{not_in_object, one_line};
use super::btf;
use super::call::{SOCKETCALL_OPERATIONS, compat_number, native_number};
use super::hook::bit;
use crate::event::field::KindSet;

#[cfg(target_arch = "aarch64")]
const NATIVE: &[&str] = &["__arm64_sys_"];
#[cfg(target_arch = "aarch64")]
const COMPAT: &[&str] = &["__arm64_compat_sys_", "__arm64_sys_"];
#[cfg(target_arch = "x86_64")]
const NATIVE: &[&str] = &["__x64_sys_", "__x64_compat_sys_"];
#[cfg(target_arch = "x86_64")]
const COMPAT: &[&str] = &["__ia32_compat_sys_", "__ia32_sys_"];

/// Calls whose function has another name than themselves, from the kernel's tables (`syscall_64.tbl`, `syscall_32.tbl`,
/// arm's `syscall.tbl`). A function that serves another call costs that call a look-up and does no harm: what a call is
/// is told by its number.
const NAMES: &[(&str, &[&str])] = &[
    ("clock_settime", &["clock_settime32"]),
    ("clock_settime64", &["clock_settime"]),
    ("fstat", &["newfstat"]),
    ("lstat", &["newlstat"]),
    ("mmap", &["old_mmap"]),
    ("mmap2", &["mmap_pgoff", "aarch32_mmap2"]),
    ("pwrite64", &["x86_pwrite", "aarch32_pwrite64"]),
    ("sendfile", &["sendfile64"]),
    ("stat", &["newstat"]),
    ("umount", &["oldumount"]),
    ("umount2", &["umount"]),
    ("uname", &["newuname"]),
];

/// What the name of a 32-bit call's function can have before or after the call's name.
const COMPAT_FORMS: &[(&str, &str)] =
    &[("ia32_", ""), ("x86_", ""), ("aarch32_", ""), ("", "16"), ("", "_time32"), ("", "32")];

/// The functions that can be the entry of a call in one of the two tables.
fn functions(name: &str, compat: bool) -> Vec<String> {
    let mut stems = vec![name.to_owned()];
    stems.extend(NAMES.iter().filter(|row| row.0 == name).flat_map(|row| row.1).map(|&stem| stem.to_owned()));
    if compat {
        stems.extend(COMPAT_FORMS.iter().map(|(before, after)| format!("{before}{name}{after}")));
        // setuid32 is what the other table calls setuid; utimensat_time64 likewise.
        stems.extend(name.strip_suffix("32").or(name.strip_suffix("_time64")).map(str::to_owned));
    }
    let prefixes = if compat { COMPAT } else { NATIVE };
    prefixes.iter().flat_map(|prefix| stems.iter().map(move |stem| format!("{prefix}{stem}"))).collect()
}

/// The entry functions, among those that `exists` knows, of the calls of these kinds, each with its kinds; `chosen` are
/// names of calls that are events of the kind `syscall`. A call that the kernel does not have has none.
pub fn entries(
    wanted: KindSet,
    chosen: &[String],
    exists: impl Fn(&str) -> bool,
) -> BTreeMap<String, KindSet> {
    let mut entries = BTreeMap::new();
    let mut add = |name: &str, kinds: KindSet| {
        for (number, compat) in [(native_number(name), false), (compat_number(name), true)] {
            if number.is_some() && kinds & wanted != 0 {
                for function in functions(name, compat).into_iter().filter(|function| exists(function)) {
                    *entries.entry(function).or_insert(0) |= kinds & wanted;
                }
            }
        }
    };
    CALLS.iter().for_each(|row| add(row.name, bit(row.kind)));
    chosen.iter().for_each(|name| add(name, bit(kind::SYSCALL)));
    for (_, operation) in SOCKETCALL_OPERATIONS {
        let rows = CALLS.iter().filter(|row| row.name == *operation).map(|row| bit(row.kind));
        let named = chosen.iter().filter(|name| name == operation).map(|_| bit(kind::SYSCALL));
        add("socketcall", rows.chain(named).fold(0, |kinds, kind| kinds | kind));
    }
    entries
}

/// [`entries`] of the running kernel.
pub fn kernel_entries(wanted: KindSet, chosen: &[String]) -> BTreeMap<String, KindSet> {
    let data = std::fs::read(btf::VMLINUX).unwrap_or_default();
    match btf::Btf::parse(&data) {
        Some(btf) => entries(wanted, chosen, |function| btf.has_function(function)),
        None => BTreeMap::new(),
    }
}

/// The two programs that hand over at the end of a function, for functions of two types: the kernel (6.12) lets a
/// program hand over only to programs that were loaded for functions of the same type, and describes some entries
/// with a parameter of another name.
const HAND_OVER: [&str; 2] = ["call_end", "call_end_other"];

/// What is attached to functions, with the links of all probes. They detach when this is dropped.
pub struct Ends {
    /// The links of all probes.
    pub links: Vec<FdLink>,
    /// Per type of function: the programs handed over to, by kind.
    programs: [ProgramArray<MapData>; 2],
    /// Per type of function: the names of programs that were put there.
    loaded: [Vec<&'static str>; 2],
    /// By function.
    attached: HashMap<String, Attached>,
    /// What is attached besides, with the program's name.
    copies: Vec<Copy>,
}

/// A program at a function.
struct Copy {
    name: &'static str,
    program: ProgramFd,
}

struct Attached {
    /// Its place in [`HAND_OVER`].
    ty: usize,
    program: ProgramFd,
}

impl Ends {
    /// Nothing yet.
    pub fn new(programs: [ProgramArray<MapData>; 2]) -> Self {
        Self {
            links: Vec::new(),
            programs,
            loaded: [Vec::new(), Vec::new()],
            attached: HashMap::new(),
            copies: Vec::new(),
        }
    }

    /// Lets a function hand over to the program `name` for these kinds. Returns how many instructions of that the verifier
    /// looked at, if this loaded it and the kernel tells; or why the kernel refused.
    pub fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        btf: &Btf,
        function: &str,
        name: &'static str,
        kinds: KindSet,
    ) -> Result<Option<u32>, String> {
        let ty = match self.attached.get(function) {
            Some(attached) => attached.ty,
            None => {
                // A first function decides what type the first array is for.
                if self.loaded[0].is_empty() {
                    self.load(ebpf, btf, function, name, kinds, 0)?;
                }
                let first = self.hand_over(ebpf, btf, function, 0);
                first.or_else(|why| {
                    // Of another type, or really refused: then the other one is too, for the same reason.
                    if self.loaded[1].is_empty() {
                        self.load(ebpf, btf, function, name, kinds, 1).map_err(|_| why)?;
                    }
                    self.hand_over(ebpf, btf, function, 1)
                })?
            }
        };
        if self.loaded[ty].contains(&name) {
            Ok(None)
        } else {
            self.load(ebpf, btf, function, name, kinds, ty)
        }
    }

    /// Loads a program for functions of the type of `function`, and puts it where those hand over to.
    fn load(
        &mut self,
        ebpf: &mut Ebpf,
        btf: &Btf,
        function: &str,
        name: &'static str,
        kinds: KindSet,
        ty: usize,
    ) -> Result<Option<u32>, String> {
        let program = fexit(ebpf, name)?;
        program.load(function, btf).map_err(one_line)?;
        let put = program.fd().map_err(one_line).and_then(|fd| {
            let mut wanted = (1..KINDS as u16).filter(|kind| kinds & bit(*kind) != 0);
            wanted
                .try_for_each(|kind| self.programs[ty].set(kind.into(), fd, 0))
                .map_err(|error| error.to_string())
        });
        let verified_instructions = program.info().ok().and_then(|info| info.verified_instruction_count());
        // The array keeps it.
        program.unload().map_err(one_line)?;
        put?;
        self.loaded[ty].push(name);
        Ok(verified_instructions)
    }

    /// Attaches one more copy of the program that hands over, to the end of a function.
    fn hand_over(&mut self, ebpf: &mut Ebpf, btf: &Btf, function: &str, ty: usize) -> Result<usize, String> {
        let program = fexit(ebpf, HAND_OVER[ty])?;
        program.load(function, btf).map_err(one_line)?;
        let attached = program.attach().and_then(|link| {
            let fd = program.fd()?.try_clone()?;
            Ok((Attached { ty, program: fd }, program.take_link(link)?))
        });
        program.unload().map_err(one_line)?;
        let (attached, link) = attached.map_err(one_line)?;
        self.links.push(link.into());
        self.attached.insert(function.to_owned(), attached);
        Ok(ty)
    }

    /// Attaches a copy of a program to the beginning or the end of a function that has one of these names, `|` between
    /// them. Returns how many instructions the verifier looked at, if the kernel tells.
    pub fn attach_copy(
        &mut self,
        ebpf: &mut Ebpf,
        btf: &Btf,
        name: &'static str,
        functions: &str,
    ) -> Result<Option<u32>, String> {
        let mut result = Err("the kernel has no such function".to_owned());
        for function in functions.split('|') {
            result = self.attach_copy_to(ebpf, btf, name, function);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn attach_copy_to(
        &mut self,
        ebpf: &mut Ebpf,
        btf: &Btf,
        name: &'static str,
        function: &str,
    ) -> Result<Option<u32>, String> {
        let program = ebpf.program_mut(name).ok_or_else(|| not_in_object(name))?;
        if let Program::FEntry(program) = program {
            program.load(function, btf).map_err(one_line)?;
        } else if let Program::FExit(program) = program {
            program.load(function, btf).map_err(one_line)?;
        }
        let verified_instructions = program.info().ok().and_then(|info| info.verified_instruction_count());
        let fd = program.fd().and_then(|fd| fd.try_clone().map_err(Into::into)).map_err(one_line)?;
        let link = match program {
            Program::FEntry(program) => {
                program.attach().and_then(|link| program.take_link(link)).map(FdLink::from)
            }
            Program::FExit(program) => {
                program.attach().and_then(|link| program.take_link(link)).map(FdLink::from)
            }
            _ => return Err(format!("`{name}` is no program for functions")),
        };
        match program {
            Program::FEntry(program) => program.unload(),
            Program::FExit(program) => program.unload(),
            _ => Ok(()),
        }
        .map_err(one_line)?;
        self.links.push(link.map_err(one_line)?);
        self.copies.push(Copy { name, program: fd });
        Ok(verified_instructions)
    }

    /// All programs here, with their names.
    pub fn programs(&self) -> impl Iterator<Item = (&'static str, &ProgramFd)> {
        let ends = self.attached.values().map(|attached| (HAND_OVER[attached.ty], &attached.program));
        ends.chain(self.copies.iter().map(|copy| (copy.name, &copy.program)))
    }
}

fn fexit<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut FExit, String> {
    let program = ebpf.program_mut(name).ok_or_else(|| not_in_object(name))?;
    program.try_into().map_err(one_line)
}

/// Whether the call's end tells what a program has missed, if in a poorer way.
pub fn is_made_up_for(program: &str) -> bool {
    ["file_opened", "fd_installed", "object_"].iter().any(|start| program.starts_with(start))
}

/// How long the end of the daemon may take.
const LETTING_GO: Duration = Duration::from_secs(5);

/// How long programs at so many functions would hold up the end of the daemon, if that is too long: most kernels take
/// them off one by one, and wait a tenth of a second or more for all tasks each time (seen up to 6.18). Found out by one
/// that does nothing; the error is why that is refused, as all others would be, after long verification.
pub fn takes_too_long(ebpf: &mut Ebpf, btf: &Btf, functions: usize) -> Result<Option<String>, String> {
    let Some(Program::FEntry(program)) = ebpf.program_mut("strong_trial") else {
        return Err(not_in_object("strong_trial"));
    };
    program.load("security_file_open", btf).and_then(|()| program.attach()).map_err(one_line)?;
    let start = Instant::now();
    program.unload().map_err(one_line)?;
    let all = start.elapsed() * functions as u32;
    Ok((all > LETTING_GO)
        .then(|| format!("{functions} functions would take {} s to let go of", all.as_secs())))
}

/// Lets this process open as many files as it may: each copy needs two.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // A process that may not keeps its limit, and hears of it when an attach fails.
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::call::CALL_TABLE_KINDS;

    #[test]
    fn entry_functions_are_those_of_both_tables_and_carry_their_kinds() {
        let entries = entries(CALL_TABLE_KINDS, &["getpid".to_owned()], |_| true);
        let kinds = |function: &str| entries.get(function).copied().unwrap_or(0);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(kinds("__x64_sys_openat"), bit(kind::OPEN));
            assert_eq!(kinds("__x64_sys_umount"), bit(kind::MOUNT));
            assert_eq!(kinds("__x64_sys_getpid"), bit(kind::SYSCALL));
            assert_eq!(kinds("__ia32_sys_setuid16"), bit(kind::CRED));
            assert_eq!(kinds("__ia32_sys_setuid"), bit(kind::CRED));
            assert_eq!(kinds("__ia32_sys_chown"), bit(kind::CHANGE));
            assert_eq!(kinds("__ia32_compat_sys_ia32_mmap"), bit(kind::MEMORY));
            assert!(kinds("__ia32_compat_sys_socketcall") & bit(kind::CONNECT) != 0);
            assert!(kinds("__ia32_compat_sys_socketcall") & bit(kind::SOCKET) != 0);
        } else {
            assert_eq!(kinds("__arm64_sys_openat"), bit(kind::OPEN));
            assert_eq!(kinds("__arm64_compat_sys_open"), bit(kind::OPEN));
        }
        assert_eq!(kinds("__x64_sys_read") | kinds("__arm64_sys_read"), 0);
    }

    #[test]
    fn kinds_that_nothing_wants_have_no_entry_functions() {
        assert!(entries(bit(kind::EXEC), &[], |_| true).is_empty());
        assert!(entries(bit(kind::MOUNT), &[], |_| true).values().all(|kinds| *kinds == bit(kind::MOUNT)));
        assert!(entries(CALL_TABLE_KINDS, &[], |_| false).is_empty());
    }
}

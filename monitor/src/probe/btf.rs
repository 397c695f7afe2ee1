//! Where the running kernel keeps its fields: a reader of BTF (the kernel's type information) for just
//! that. It resolves `struct.member.member` to a byte offset, also through anonymous members, and knows
//! an enum's names. It never panics: damaged BTF resolves to nothing.
//!
//! Format: the kernel's `Documentation/bpf/btf.rst`.

use hashbrown::HashMap;
use taffrail_common::kernel::Offsets;
use taffrail_common::map::feature;

use crate::enrich::cgroup::CONTROLLERS;

/// Where the kernel shows its own type information.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC: u32 = 12;

/// Parsed type information, borrowed from its bytes.
pub struct Btf<'a> {
    data: &'a [u8],
    strings: usize,
    /// Where each type starts, by id; 0 is void.
    types: Vec<u32>,
    /// The ids of structs, unions and enums that have a name.
    named: HashMap<&'a [u8], u32>,
    /// The ids of typedefs.
    typedefs: HashMap<&'a [u8], u32>,
    /// The ids of functions.
    functions: HashMap<&'a [u8], u32>,
}

impl<'a> Btf<'a> {
    /// Parses BTF of this machine's byte order. `None`: it is none, or damaged.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        if data.get(..2)? != 0xeb9f_u16.to_ne_bytes() {
            return None;
        }
        let header_len = word(data, 4)?;
        let types_start = header_len.checked_add(word(data, 8)?)?;
        let types_end = types_start.checked_add(word(data, 12)?)?;
        let strings = header_len.checked_add(word(data, 16)?)? as usize;
        let mut btf = Self {
            data,
            strings,
            types: vec![0],
            named: HashMap::new(),
            typedefs: HashMap::new(),
            functions: HashMap::new(),
        };
        let mut at = types_start;
        while at < types_end {
            let info = word(data, at as usize + 4)?;
            let (kind, members) = (info >> 24 & 0x1f, info & 0xffff);
            if matches!(kind, KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_TYPEDEF) {
                let name = btf.string(word(data, at as usize)?)?;
                let names = if kind == KIND_TYPEDEF { &mut btf.typedefs } else { &mut btf.named };
                if !name.is_empty() {
                    names.entry(name).or_insert(btf.types.len() as u32);
                }
            }
            if kind == KIND_FUNC {
                let name = btf.string(word(data, at as usize)?)?;
                btf.functions.entry(name).or_insert(btf.types.len() as u32);
            }
            btf.types.push(at);
            let body = match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * members,
                KIND_ENUM | 13 => 8 * members,
                _ => 0,
            };
            at = at.checked_add(12 + body)?;
        }
        Some(btf)
    }

    /// The byte offset that a path names, by the first of its spellings that the kernel has. `sizeof struct` is the
    /// struct's size.
    pub fn offset(&self, path: &str) -> Option<u32> {
        if let Some(name) = path.strip_prefix("sizeof ") {
            let (_, _, at) = self.head(*self.named.get(name.as_bytes())?)?;
            return word(self.data, at + 8);
        }
        path.trim_end_matches('?').split('|').find_map(|spelling| {
            let mut names = spelling.split('.');
            let mut id = *self.named.get(names.next()?.as_bytes())?;
            let mut offset = 0;
            for name in names {
                let member = self.member(id, name.as_bytes(), 0)?;
                offset += member.0;
                id = member.1;
            }
            Some(offset)
        })
    }

    /// How many arguments a tracepoint has, 0 if there is no such tracepoint.
    pub fn tracepoint_arguments(&self, name: &str) -> u32 {
        const KIND_POINTER: u32 = 2;
        const KIND_FUNCTION: u32 = 13;
        let pointed = |id: u32, wanted: u32| {
            let (kind, _, at) = self.head(id)?;
            (kind == wanted).then(|| word(self.data, at + 8))?
        };
        let prototype = self
            .typedefs
            .get(format!("btf_trace_{name}").as_bytes())
            .and_then(|id| pointed(*id, KIND_TYPEDEF))
            .and_then(|id| pointed(id, KIND_POINTER));
        match prototype.and_then(|id| self.head(id)) {
            // The first one is the kernel's own.
            Some((KIND_FUNCTION, count, _)) => count.saturating_sub(1),
            _ => 0,
        }
    }

    /// Whether the kernel has a function of that name that programs can attach to.
    pub fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name.as_bytes())
    }

    /// How many arguments a function has.
    pub fn function_arguments(&self, name: &str) -> Option<u32> {
        let (KIND_FUNC, _, at) = self.head(*self.functions.get(name.as_bytes())?)? else { return None };
        self.head(word(self.data, at + 8)?).map(|(_, count, _)| count)
    }

    /// The value of a name of an enum.
    pub fn enumerator(&self, of: &str, name: &str) -> Option<u32> {
        let (KIND_ENUM, count, at) = self.head(*self.named.get(of.as_bytes())?)? else { return None };
        let entries = (0..count as usize).map(|n| at + 12 + 8 * n);
        let is_its = |entry: &usize| {
            word(self.data, *entry).and_then(|offset| self.string(offset)) == Some(name.as_bytes())
        };
        word(self.data, entries.into_iter().find(is_its)? + 4)
    }

    /// Kind, number of members and place of a type.
    fn head(&self, id: u32) -> Option<(u32, u32, usize)> {
        if id == 0 {
            return None;
        }
        let at = *self.types.get(id as usize)? as usize;
        let info = word(self.data, at + 4)?;
        Some((info >> 24 & 0x1f, info & 0xffff, at))
    }

    /// Offset and type of a member, also of one in an anonymous struct or union.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        /// Anonymous members nest a few levels deep in the kernel; damaged BTF could nest for ever.
        const MAX_DEPTH: u32 = 16;
        let (KIND_STRUCT | KIND_UNION, count, at) = self.head(id)? else { return None };
        if depth > MAX_DEPTH {
            return None;
        }
        let has_bit_fields = word(self.data, at + 4)? >> 31 == 1;
        for n in 0..count as usize {
            let member = at + 12 + 12 * n;
            let bits = word(self.data, member + 8)?;
            let offset = if has_bit_fields { bits & 0xff_ffff } else { bits } / 8;
            let member_name = self.string(word(self.data, member)?)?;
            let ty = self.strip(word(self.data, member + 4)?)?;
            if member_name == name {
                return Some((offset, ty));
            }
            if member_name.is_empty()
                && let Some((inner, ty)) = self.member(ty, name, depth + 1)
            {
                return Some((offset + inner, ty));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Option<u32> {
        /// Typedef, volatile, const, restrict, type tag.
        const TRANSPARENT: [u32; 5] = [8, 9, 10, 11, 18];
        // A chain is short in the kernel; damaged BTF could make a ring.
        for _ in 0..64 {
            match self.head(id) {
                Some((kind, _, at)) if TRANSPARENT.contains(&kind) => id = word(self.data, at + 8)?,
                _ => return Some(id),
            }
        }
        None
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let text = self.data.get(self.strings.checked_add(offset as usize)?..)?;
        Some(&text[..memchr::memchr(0, text)?])
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// What the probes need to know of a kernel.
pub struct KernelFacts {
    /// The value of the probes' global `OFFSETS`, word by word.
    pub offsets: Vec<u32>,
    /// Fields that the kernel does not have, by their path.
    pub missing: Vec<&'static str>,
    /// Bits of `taffrail_common::map::feature`.
    pub features: u32,
    /// The places of controllers of cgroups among the kernel's, by their names.
    pub controllers: HashMap<&'static str, u32>,
    /// The value of the probes' global `IO_URING_ARGUMENTS`.
    pub io_uring_arguments: [u32; 2],
}

impl KernelFacts {
    /// Reads them from a kernel's BTF.
    pub fn from_btf(btf: &Btf) -> Self {
        let mut missing = Vec::new();
        let offsets = Offsets::PATHS
            .iter()
            .map(|(_, path)| {
                btf.offset(path).unwrap_or_else(|| {
                    if !path.ends_with('?') {
                        missing.push(*path);
                    }
                    Offsets::ABSENT
                })
            })
            .collect();
        let mut features = 0;
        for (helper, bit) in [
            ("BPF_FUNC_get_current_task_btf", feature::TASK_BTF),
            ("BPF_FUNC_loop", feature::LOOP),
            ("BPF_FUNC_task_pt_regs", feature::TASK_REGS),
        ] {
            if btf.enumerator("bpf_func_id", helper).is_some() {
                features |= bit;
            }
        }
        if btf.function_arguments("__seccomp_filter") == Some(3) {
            features |= feature::SECCOMP_DATA;
        }
        // Fields of the other architecture are no loss.
        let foreign = if cfg!(target_arch = "x86_64") {
            ["pt_regs.orig_x0", "pt_regs.regs", "pt_regs.syscallno"].as_slice()
        } else {
            &[
                "pt_regs.ax",
                "pt_regs.bp",
                "pt_regs.bx",
                "pt_regs.cx",
                "pt_regs.di",
                "pt_regs.dx",
                "pt_regs.orig_ax",
                "pt_regs.r10",
                "pt_regs.r8",
                "pt_regs.r9",
                "pt_regs.si",
                "task_struct.thread_info.status",
            ]
        };
        missing.retain(|path| !foreign.contains(path));
        let arguments = |name: &str| btf.tracepoint_arguments(name);
        let submit = arguments("io_uring_submit_req").max(arguments("io_uring_submit_sqe"));
        let io_uring_arguments = [submit, arguments("io_uring_complete")];
        let place = |name: &str| btf.enumerator("cgroup_subsys_id", &format!("{name}_cgrp_id"));
        let controllers = CONTROLLERS.iter().filter_map(|name| Some((*name, place(name)?))).collect();
        Self { offsets, missing, features, controllers, io_uring_arguments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_kernel_has_every_field_that_the_probes_read() {
        let Ok(data) = std::fs::read(VMLINUX) else {
            crate::testing::skipped(
                "running_kernel_has_every_field_that_the_probes_read",
                format_args!("no {VMLINUX}"),
            );
            return;
        };
        let btf = Btf::parse(&data).expect("the kernel's BTF");
        let facts = KernelFacts::from_btf(&btf);
        assert_eq!(facts.missing, Vec::<&str>::new());
        assert_eq!(btf.offset("list_head.prev"), Some(8));
        assert_eq!(btf.offset("list_head.nonsense"), None);
        assert_eq!(btf.offset("sizeof list_head"), Some(16));
        assert_eq!(btf.tracepoint_arguments("sys_exit"), 2);
        assert_eq!(btf.tracepoint_arguments("nonsense"), 0);
        assert_eq!(btf.enumerator("bpf_map_type", "BPF_MAP_TYPE_RINGBUF"), Some(27));
        assert_eq!(btf.enumerator("bpf_map_type", "BPF_MAP_TYPE_NONSENSE"), None);
        assert!(facts.controllers.contains_key("cpu"), "{:?}", facts.controllers);
    }

    #[test]
    fn damaged_btf_is_none_or_resolves_to_nothing_but_never_panics() {
        let Ok(data) = std::fs::read(VMLINUX) else {
            crate::testing::skipped(
                "damaged_btf_is_none_or_resolves_to_nothing_but_never_panics",
                format_args!("no {VMLINUX}"),
            );
            return;
        };
        for cut in (0..data.len()).step_by(data.len() / 40 + 1) {
            if let Some(btf) = Btf::parse(&data[..cut]) {
                btf.offset("task_struct.thread_info.status");
            }
        }
        let mut state = 1u64;
        for _ in 0..20 {
            let mut damaged = data.clone();
            for _ in 0..200 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (state >> 16) as usize % damaged.len();
                damaged[at] = state as u8;
            }
            if let Some(btf) = Btf::parse(&damaged) {
                KernelFacts::from_btf(&btf);
            }
        }
    }
}

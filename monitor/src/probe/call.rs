//! From the table of system calls that are events (`monitor-common/src/call.rs`) to what the kernel side looks up:
//! by number, for the running machine's own table and for the 32-bit one.

use std::str::FromStr as _;

use taffrail_common::call::{self, CALLS, CHOSEN, CallRow, CallShape, NUMBERS, SOCKETCALLS, filter};
use taffrail_common::kind;

use crate::event::field::KindSet;
use crate::event::model::{Role, arguments};
use crate::probe::hook::bit;

#[cfg(target_arch = "aarch64")]
use syscalls::{aarch64 as native, arm as compat};
#[cfg(target_arch = "x86_64")]
use syscalls::{x86 as compat, x86_64 as native};

/// Number of a call of this machine's own table.
pub fn native_number(name: &str) -> Option<u32> {
    native::Sysno::from_str(name).ok().map(|number| number.id() as u32)
}

/// Number of a call of the 32-bit table.
pub fn compat_number(name: &str) -> Option<u32> {
    compat::Sysno::from_str(name).ok().map(|number| number.id() as u32)
}

/// The name of a call by its number.
pub fn name(number: u32, is_compat: bool) -> &'static str {
    let number = number as usize;
    let name = if is_compat {
        compat::Sysno::new(number).map(|call| call.name())
    } else {
        native::Sysno::new(number).map(|call| call.name())
    };
    name.unwrap_or("unknown")
}

/// Operations of socketcall(2), from the kernel's `net.h`, with the calls that they are.
const SOCKETCALL_OPERATIONS: &[(u32, u16)] = &[
    (1, call::SOCKET),
    (2, call::BIND),
    (3, call::CONNECT),
    (4, call::LISTEN),
    (5, call::ACCEPT),
    (17, call::RECVMSG),
    (18, call::ACCEPT4),
    (19, call::RECVMMSG),
];

/// The entries of the map `CALLS` that the wanted kinds need: place and value. `chosen` are names of calls that are
/// to be events of the kind `syscall`.
pub fn entries(wanted: KindSet, chosen: &[String]) -> Vec<(u32, CallShape)> {
    let is_wanted = |row: &&(usize, &CallRow)| bit(row.1.kind) & wanted != 0;
    let rows: Vec<(usize, &CallRow)> = CALLS.iter().enumerate().collect();
    let mut entries = Vec::new();
    let mut put = |native: Option<u32>, compat: Option<u32>, shape: CallShape| {
        let compat = compat.map(|number| number + NUMBERS as u32);
        entries.extend(native.into_iter().chain(compat).map(|place| (place, shape)));
    };
    for name in chosen {
        for (native, compat) in [(native_number(name), None), (None, compat_number(name))] {
            let number = native.or(compat).unwrap_or(0) as u16;
            let shape = CallShape { call: CHOSEN | number, kind: kind::SYSCALL, ..CallShape::default() };
            put(native, compat, shape);
        }
    }
    for (id, row) in rows.iter().filter(is_wanted) {
        // The operations have kinds of their own.
        if *id == usize::from(call::SOCKETCALL) {
            continue;
        }
        put(native_number(row.name), compat_number(row.name), shape(*id as u16, row));
    }
    let mut operations = Vec::new();
    for (operation, id) in SOCKETCALL_OPERATIONS {
        let row = &CALLS[usize::from(*id)];
        if bit(row.kind) & wanted != 0 {
            operations.push((SOCKETCALLS as u32 + operation, shape(*id, row)));
        }
    }
    if let (Some(number), Some((_, first))) = (compat_number("socketcall"), operations.first()) {
        // Any kind will do: the operation decides.
        let shape = CallShape { call: call::SOCKETCALL, kind: first.kind, ..CallShape::default() };
        entries.push((number + NUMBERS as u32, shape));
    }
    entries.extend(operations);
    entries
}

/// How to read a call of the table.
fn shape(id: u16, row: &CallRow) -> CallShape {
    let mut shape = CallShape { call: id, kind: row.kind, ..CallShape::default() };
    for (place, argument) in (1..).zip(arguments(id.into())) {
        match argument.role {
            Role::File => shape.fd = place,
            Role::Dir => shape.dir = place,
            Role::Name => shape.file = place,
            Role::TargetDir => shape.target_dir = place,
            Role::Target => shape.target = place,
            Role::Text => shape.text = place,
            Role::Number
            | Role::Int
            | Role::Long
            | Role::Octal
            | Role::Descriptor
            | Role::Process
            | Role::Pointer => {}
        }
        if let Some((kind, mask)) = argument.filter {
            shape.filter = if kind == "any" { filter::ANY_BIT } else { filter::IN_SET };
            shape.filtered = place;
            shape.mask = mask;
        }
    }
    shape.filter = match id {
        call::MMAP | call::MMAP2 => filter::MAPPING,
        call::SOCKET => filter::UNUSUAL_SOCKET,
        call::RECVMSG | call::RECVMMSG | call::RECVMMSG_TIME64 => filter::PASSED_FILE,
        call::PIDFD_GETFD => filter::TAKEN_FILE,
        _ if row.kind == kind::WRITE => filter::FIRST_WRITE,
        _ => shape.filter,
    };
    shape
}

/// Kinds that the table has calls of.
pub const CALL_TABLE_KINDS: KindSet = {
    let mut kinds = bit(kind::SYSCALL);
    let mut id = 0;
    while id < CALLS.len() {
        kinds |= bit(CALLS[id].kind);
        id += 1;
    }
    kinds
};

/// Kinds that have a call with an argument of that role.
pub const fn kinds_with_role(role: &str) -> KindSet {
    let role = role.as_bytes();
    let mut kinds = 0;
    let mut id = 0;
    while id < CALLS.len() {
        let text = CALLS[id].arguments.as_bytes();
        let mut at = 0;
        while at + role.len() < text.len() {
            let end = at + 1 + role.len();
            let mut same = 0;
            while same < role.len() && text[at + 1 + same] == role[same] {
                same += 1;
            }
            if text[at] == b':' && same == role.len() && (end == text.len() || text[end] == b' ') {
                kinds |= bit(CALLS[id].kind);
            }
            at += 1;
        }
        id += 1;
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_call_of_one_table_at_least_and_its_arguments_are_understood() {
        for (id, row) in CALLS.iter().enumerate() {
            let (native, compat) = (native_number(row.name), compat_number(row.name));
            let is_call = !call::NOT_CALLS.contains(&(id as u16));
            assert_eq!(native.is_some() || compat.is_some(), is_call, "{}", row.name);
            assert!(native.unwrap_or(0).max(compat.unwrap_or(0)) < NUMBERS as u32, "{}", row.name);
            let arguments = arguments(id as u32);
            assert!(arguments.len() <= 6 && arguments.len() == row.arguments.split_whitespace().count());
            for argument in arguments {
                assert!(!argument.name.is_empty() && !argument.name.contains('='), "{}", row.name);
            }
        }
    }

    #[test]
    fn shape_has_the_places_of_the_table() {
        let entries = entries(KindSet::MAX, &["getpid".to_owned()]);
        let of = |place: u32| entries.iter().find(|(at, _)| *at == place).map(|(_, shape)| *shape);
        let rename = of(native_number("renameat2").unwrap_or(0)).unwrap_or_default();
        assert_eq!((rename.dir, rename.file, rename.target_dir, rename.target), (1, 2, 3, 4));
        let mprotect = of(native_number("mprotect").unwrap_or(0)).unwrap_or_default();
        assert_eq!((mprotect.filter, mprotect.filtered, mprotect.mask), (filter::ANY_BIT, 3, 4));
        let prctl = of(native_number("prctl").unwrap_or(0)).unwrap_or_default();
        assert_eq!((prctl.filter, prctl.filtered), (filter::IN_SET, 1));
        let getpid = of(native_number("getpid").unwrap_or(0)).unwrap_or_default();
        assert_eq!((getpid.kind, getpid.call & CHOSEN), (kind::SYSCALL, CHOSEN));
        assert_eq!(name(u32::from(getpid.call & !CHOSEN), false), "getpid");
    }

    #[test]
    fn role_tells_which_kinds_have_it() {
        assert_eq!(kinds_with_role("process"), bit(kind::ACCESS) | bit(kind::KERNEL));
        assert_eq!(kinds_with_role("target"), bit(kind::CHANGE) | bit(kind::MOUNT));
        assert_eq!(kinds_with_role("tex"), 0);
    }

    #[test]
    fn kinds_that_nothing_wants_have_no_entries() {
        assert!(entries(bit(kind::EXEC), &[]).is_empty());
        assert!(entries(bit(kind::MOUNT), &[]).iter().all(|(_, shape)| shape.kind == kind::MOUNT));
    }
}

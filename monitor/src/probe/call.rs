//! From the table of system calls that are events (`monitor-common/src/call.rs`) to what the kernel side looks up:
//! by number, for the running machine's own table and for the 32-bit one.

use std::str::FromStr as _;

use taffrail_common::call::{self, CALLS, CHOSEN, CallRow, CallShape, NUMBERS, SOCKETCALLS, filter};
use taffrail_common::kind;
use taffrail_common::map::{COMPAT, NO_NUMBER};

use crate::diagnostic::Diagnostic;
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

/// Calls that return in the child too, with 0, as the kernel side has their numbers.
pub fn returns_twice() -> [u32; 8] {
    const NAMES: [&str; 4] = ["fork", "vfork", "clone", "clone3"];
    std::array::from_fn(|n| {
        let name = NAMES[n % 4];
        let number =
            if n < 4 { native_number(name) } else { compat_number(name).map(|number| number | COMPAT) };
        number.unwrap_or(NO_NUMBER)
    })
}

/// Calls that do not come back: no end of them is seen.
const NEVER_RETURN: [&str; 4] = ["exit", "exit_group", "rt_sigreturn", "sigreturn"];

/// Whether a call can be an event by its name.
pub fn is_seen(name: &str) -> bool {
    let exists = native_number(name).or(compat_number(name)).is_some();
    exists && !NEVER_RETURN.contains(&name) && name != "socketcall"
}

/// What is wrong with the name of a call that is to be an event.
pub fn check(name: &str) -> Result<(), Diagnostic> {
    if is_seen(name) {
        return Ok(());
    }
    let error = |message: String| Diagnostic::error("C107", message);
    Err(match name {
        "exit" | "exit_group" => {
            error(format!("`{name}` never returns, and calls are seen when they return"))
                .hint("the event `exit` tells how processes end")
        }
        "rt_sigreturn" | "sigreturn" => {
            error(format!("`{name}` does not return to where it was called, and is not seen"))
        }
        "socketcall" => error("`socketcall` is told as the call that it stands for".to_owned())
            .hint("name that call, such as `connect` or `sendto`"),
        _ => error(format!("there is no system call `{name}`")).did_you_mean(name, names()),
    })
}

/// All names of calls that can be events.
fn names() -> impl Iterator<Item = &'static str> {
    let all = (0..NUMBERS as u32).flat_map(|number| [name(number, false), name(number, true)]);
    all.filter(|name| is_seen(name))
}

/// Operations of socketcall(2), from the kernel's `net.h`, with the calls that they are; send and recv have no
/// number of their own in all tables, and are the beginning of others.
pub const SOCKETCALL_OPERATIONS: &[(u32, &str)] = &[
    (1, "socket"),
    (2, "bind"),
    (3, "connect"),
    (4, "listen"),
    (5, "accept"),
    (6, "getsockname"),
    (7, "getpeername"),
    (8, "socketpair"),
    (9, "sendto"),
    (10, "recvfrom"),
    (11, "sendto"),
    (12, "recvfrom"),
    (13, "shutdown"),
    (14, "setsockopt"),
    (15, "getsockopt"),
    (16, "sendmsg"),
    (17, "recvmsg"),
    (18, "accept4"),
    (19, "recvmmsg"),
    (20, "sendmmsg"),
];

/// The entries of the map `CALLS` that the wanted kinds need: place and value. `chosen` are names of calls that are
/// to be events whether they are of a wanted kind or not: each is an event of its own kind where that is wanted and
/// lets it pass, else one of the kind `syscall`.
pub fn entries(wanted: KindSet, chosen: &[String]) -> Vec<(u32, CallShape)> {
    let chosen = if wanted & bit(kind::SYSCALL) != 0 { chosen } else { &[] };
    let is_chosen = |name: &str| chosen.iter().any(|chosen| chosen == name);
    let of = |name: &str, number: u32| {
        let row = CALLS.iter().enumerate().find(|(_, row)| row.name == name);
        match row {
            Some((id, row)) if bit(row.kind) & wanted != 0 => {
                Some(CallShape { rest: is_chosen(name).into(), ..shape(id as u16, row) })
            }
            _ if !is_chosen(name) => None,
            Some((id, row)) => {
                Some(CallShape { kind: kind::SYSCALL, filter: filter::NONE, ..shape(id as u16, row) })
            }
            None => {
                Some(CallShape { call: CHOSEN | number as u16, kind: kind::SYSCALL, ..CallShape::default() })
            }
        }
    };
    let mut entries = Vec::new();
    for is_compat in [false, true] {
        let first = if is_compat { NUMBERS as u32 } else { 0 };
        let all = (0..NUMBERS as u32).map(|number| (number, name(number, is_compat)));
        entries.extend(
            all.filter(|(_, name)| *name != "socketcall")
                .filter_map(|(number, name)| Some((first + number, of(name, number)?))),
        );
    }
    let operations: Vec<(u32, CallShape)> = SOCKETCALL_OPERATIONS
        .iter()
        .filter_map(|(operation, name)| {
            Some((SOCKETCALLS as u32 + operation, of(name, compat_number(name).unwrap_or(0))?))
        })
        .collect();
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

/// The kinds that have an argument of one of these names.
pub const fn kinds_with_argument(names: &[&str]) -> KindSet {
    let mut kinds = 0;
    let mut id = 0;
    while id < CALLS.len() {
        let text = CALLS[id].arguments.as_bytes();
        let mut at = 0;
        while at < text.len() {
            let mut end = at;
            while end < text.len() && !matches!(text[end], b' ' | b':') {
                end += 1;
            }
            let mut name = 0;
            while name < names.len() {
                if is_at(text, at, end, names[name].as_bytes()) {
                    kinds |= bit(CALLS[id].kind);
                }
                name += 1;
            }
            while end < text.len() && text[end] != b' ' {
                end += 1;
            }
            at = end + 1;
        }
        id += 1;
    }
    kinds
}

const fn is_at(text: &[u8], start: usize, end: usize, name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() && start + at < end && text[start + at] == name[at] {
        at += 1;
    }
    at == name.len() && start + at == end
}

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
    fn chosen_call_is_an_event_of_its_own_kind_where_that_lets_it_pass_and_of_its_own_else() {
        let chosen = ["ptrace", "getpid", "sendto"].map(str::to_owned);
        let of = |wanted: KindSet, place: u32| {
            let entries = entries(wanted, &chosen);
            let shapes = entries.iter().filter(|(at, _)| *at == place).map(|(_, shape)| *shape);
            shapes.collect::<Vec<_>>()
        };
        let ptrace = native_number("ptrace").unwrap_or(0);
        let both = of(bit(kind::ACCESS) | bit(kind::SYSCALL), ptrace);
        assert_eq!(
            both.iter().map(|shape| (shape.kind, shape.rest)).collect::<Vec<_>>(),
            [(kind::ACCESS, 1)]
        );
        let alone = of(bit(kind::SYSCALL), ptrace);
        let alone: Vec<_> = alone.iter().map(|shape| (shape.kind, shape.filter, shape.call)).collect();
        assert_eq!(alone, [(kind::SYSCALL, filter::NONE, call::PTRACE)]);
        let compat = NUMBERS as u32 + compat_number("getpid").unwrap_or(0);
        assert_eq!(of(bit(kind::SYSCALL), compat).len(), 1);
        assert_eq!(of(bit(kind::ACCESS), compat).len(), 0);
        let operation = of(bit(kind::SYSCALL), SOCKETCALLS as u32 + 11);
        let sendto = compat_number("sendto").unwrap_or(0) as u16;
        assert_eq!(operation.iter().map(|shape| shape.call).collect::<Vec<_>>(), [CHOSEN | sendto]);
    }

    #[test]
    fn name_of_no_call_and_of_one_that_is_never_seen_are_told() {
        for (name, hint) in [
            ("ptrce", Some("did you mean `ptrace`?")),
            ("exit_group", Some("the event `exit` tells how processes end")),
            ("rt_sigreturn", None),
            ("nonsense_of_mine", None),
        ] {
            assert_eq!(check(name).err().map(|found| found.hint), Some(hint.map(str::to_owned)), "{name}");
        }
        for name in ["getpid", "ptrace", "socket"] {
            assert_eq!(check(name), Ok(()));
        }
    }

    #[test]
    fn kinds_that_nothing_wants_have_no_entries() {
        assert!(entries(bit(kind::EXEC), &[]).is_empty());
        assert!(entries(bit(kind::MOUNT), &[]).iter().all(|(_, shape)| shape.kind == kind::MOUNT));
    }
}

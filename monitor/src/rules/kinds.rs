//! Which kinds of event a test of `evt.type` or `evt.kind` lets through.

use taffrail_common::call::CALLS;
use taffrail_common::kind::{self, KINDS};

use super::typed::Item;
use crate::event::field::{Field, KindSet};
use crate::event::kind_name;
use crate::probe::call;
use crate::probe::hook::bit;

/// In a set of kinds: executables are to be read for their hash. The kernel has nothing to do with it.
pub const EXE_HASH: KindSet = 1 << 61;
const _: () = assert!(KINDS < 61);

/// The kinds that a test of the event's name or kind lets through.
pub fn kinds_by_name(field: &Field, items: &[Item<'_>]) -> Option<KindSet> {
    let is_name = matches!(field.name, "evt.type" | "evt.kind");
    is_name.then(|| items.iter().fold(0, |kinds, item| kinds | kinds_of(field, &item.word.text)))
}

/// The kinds of the events of that name or kind.
pub fn kinds_of(field: &Field, name: &str) -> KindSet {
    if field.name == "evt.kind" {
        return (1..KINDS as u16)
            .filter(|kind| kind_name(*kind) == name)
            .fold(0, |set, kind| set | bit(kind));
    }
    match name {
        "execve" | "execveat" => bit(kind::EXEC),
        "clone" => bit(kind::FORK),
        "procexit" => bit(kind::EXIT),
        "signal" => bit(kind::SIGNAL),
        "cgroup_mkdir" | "cgroup_rmdir" => bit(kind::CGROUP),
        "cgroup_attach_task" => bit(kind::CGROUP_MOVE),
        "flow" => bit(kind::FLOW),
        "udp" => bit(kind::UDP),
        "dns" => bit(kind::DNS),
        name => {
            let rows = CALLS.iter().filter(|row| row.name == name);
            rows.fold(if call::is_seen(name) { bit(kind::SYSCALL) } else { 0 }, |set, row| {
                set | bit(row.kind)
            })
        }
    }
}

/// What has to be watched for a field to have values, beside the events that have them.
pub fn needs(field: &Field) -> KindSet {
    match field.name {
        "fd.nameraw" => bit(kind::ASKED_NAME),
        "proc.exe_sha256" | "proc.pexe_sha256" | "proc.aexe_sha256" => EXE_HASH,
        "fd.cip.name" | "fd.sip.name" | "fd.lip.name" | "fd.rip.name" => bit(kind::DNS),
        _ => 0,
    }
}

/// Whether a name is that of a call which is no event kind of its own, or only in few of its uses.
pub fn is_chosen_only(name: &str) -> bool {
    // These are names of the kinds `exec` and `fork`.
    !matches!(name, "execve" | "execveat" | "clone")
        && call::is_seen(name)
        && CALLS.iter().all(|row| row.name != name || row.kind == kind::DUP)
}

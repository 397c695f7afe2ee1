//! Tricks by which a program in a container does something without being seen, each beside its benign twin: the
//! same effect, done plainly. Each trick first proves that it worked. The verdicts are the rows of
//! `docs/evasion.md`; what is missed silently and is not in [`BLIND`] fails.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod calls;
mod doors;
mod exec;
mod identity;
mod links;
mod monitor;
mod names;
mod network;
mod process;
mod stage;
mod swap;
mod uring;

/// Records every event in containers.
const ALL: &str = "log.record=container.id != host";

/// A trick that is known not to be seen.
struct Blind {
    trick: &'static str,
    tiers: &'static [&'static str],
    reason: &'static str,
}

const NO_RING: &str = "only the making of the ring is seen: no probe looks at its operations yet";
const NO_UDP: &str = "no probe looks at datagrams of sockets that are not connected yet";

/// What is not seen, on which tier, and why.
#[rustfmt::skip]
const BLIND: &[Blind] = &[
    Blind { trick: "open: chroot to the file's folder", tiers: &["portable"],
        reason: "device and inode are right, but the path starts at the process's own root and nothing says so" },
    Blind { trick: "process: same id again, within the same clock tick (clone3 set_tid)", tiers: &["portable", "strong"],
        reason: "keys count clock ticks, as /proc does; only who may choose process ids on the host can do it" },
    Blind { trick: "identity: move to the host's root cgroup, then open", tiers: &["portable", "strong"],
        reason: "only the move is seen: files and peers are watched by cgroup, and the host's is not" },
    Blind { trick: "memory: memfd mapped twice, writable here and executable there", tiers: &["portable"],
        reason: "the memfd and its writable mapping are seen, the executable one is not" },
    Blind { trick: "io_uring: openat", tiers: &["portable"], reason: NO_RING },
    Blind { trick: "io_uring: openat by the kernel's polling thread (SQPOLL)", tiers: &["portable"], reason: NO_RING },
    Blind { trick: "io_uring: openat into a registered slot (no descriptor)", tiers: &["portable"], reason: NO_RING },
    Blind { trick: "io_uring: renameat", tiers: &["portable"], reason: NO_RING },
    Blind { trick: "io_uring: unlinkat", tiers: &["portable"], reason: NO_RING },
    Blind { trick: "udp: sendto without connect", tiers: &["portable"], reason: NO_UDP },
    Blind { trick: "udp: sendmmsg to several peers, the last one counts", tiers: &["portable"], reason: NO_UDP },
];

/// A count for this machine: a tenth where `TAFFRAIL_SLOW` says that it is an emulated one.
fn scaled(count: usize) -> usize {
    if std::env::var_os("TAFFRAIL_SLOW").is_some() { count / 10 } else { count }
}

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
    when: When,
    reason: &'static str,
}

/// Where a trick is not seen.
enum When {
    /// On these tiers.
    #[allow(dead_code, reason = "nothing is blind for a tier alone at present")]
    Tier(&'static [&'static str]),
    /// Where one of these probes could not be attached, which the log says.
    Without(&'static [&'static str]),
}

const NO_RING: &str = "the probes `io_uring_submit` and `io_uring_complete` are not both there";
const RING: When = When::Without(&["io_uring_submit", "io_uring_complete"]);

/// What is not seen, where, and why.
#[rustfmt::skip]
const BLIND: &[Blind] = &[
    Blind { trick: "io_uring: openat", when: RING, reason: NO_RING },
    Blind { trick: "io_uring: openat by the kernel's polling thread (SQPOLL)", when: RING, reason: NO_RING },
    Blind { trick: "io_uring: openat into a registered slot (no descriptor)", when: RING, reason: NO_RING },
    Blind { trick: "io_uring: renameat", when: RING, reason: NO_RING },
    Blind { trick: "io_uring: unlinkat", when: RING, reason: NO_RING },
];

/// A count for this machine: a tenth where `TAFFRAIL_SLOW` says that it is an emulated one.
fn scaled(count: usize) -> usize {
    if std::env::var_os("TAFFRAIL_SLOW").is_some() { count / 10 } else { count }
}

//! The table of hooks: what each one needs, what it sees, and what goes blind without it.

use taffrail_common::kind;
use taffrail_common::map::COUNTED;

use super::call::CALL_TABLE_KINDS;
use crate::event::decode::CALL_KINDS;
use crate::event::field::KindSet;

/// How a program gets to its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A tracepoint with typed arguments (`tp_btf`); `|` separates its names in different kernels.
    BtfTracepoint(&'static str),
    /// A hook of the root cgroup.
    Cgroup(CgroupHook),
    /// The program that the probe `syscall_exit` hands the calls of its kinds to (a tail call).
    Calls,
}

/// A hook of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupHook {
    /// Where a socket's address is given: `connect4`, `sendmsg6` …, which the program names itself.
    Address,
    /// Where a socket is made.
    Create,
    /// Packets that come in.
    Ingress,
    /// Packets that go out.
    Egress,
}

/// One probe.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// The program's name in the kernel object.
    pub program: &'static str,
    /// The program for kernels without `bpf_loop` (5.17) or `atomic_fetch_add` (5.12), tried when they refuse the first.
    pub fallback: Option<&'static str>,
    /// Where it attaches.
    pub attach: Attach,
    /// `portable` or `strong`.
    pub tier: &'static str,
    /// The oldest kernel that has it.
    pub since: &'static str,
    /// The kinds of event that need it.
    pub kinds: KindSet,
    /// Whether these kinds are blind without it; else it only adds to them.
    pub vital: bool,
    /// What is not seen without it.
    pub blinds: &'static str,
}

impl Hook {
    /// The hook's name as people know it.
    pub fn hook_name(&self) -> &'static str {
        match self.attach {
            Attach::BtfTracepoint(name) => name.split('|').next().unwrap_or(name),
            Attach::Cgroup(_) => self.program,
            Attach::Calls => "sys_exit",
        }
    }
}

/// The bit of a kind in a [`KindSet`].
pub const fn bit(kind: u16) -> KindSet {
    1 << kind
}

/// Kinds that the process table lives on: always on, for every cgroup.
pub const PROCESS_KINDS: KindSet = bit(kind::EXEC) | bit(kind::FORK) | bit(kind::EXIT);

macro_rules! all_kinds {
    ($( ($id:literal, $name:ident, $record:ident, $lane:ident) )*) => { 0 $( | bit($id) )* };
}

/// All kinds.
pub const ALL_KINDS: KindSet = taffrail_common::for_each_kind!(all_kinds);

/// All probes, in the order in which they attach: what a probe hands over to comes before it.
pub const HOOKS: &[Hook] = &[
    Hook {
        program: "fork",
        fallback: None,
        attach: Attach::BtfTracepoint("sched_process_fork"),
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::FORK),
        vital: true,
        blinds: "new processes before their first exec; lineage has gaps",
    },
    Hook {
        program: "exec",
        fallback: Some("exec_bounded"),
        attach: Attach::BtfTracepoint("sched_process_exec"),
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::EXEC),
        vital: true,
        blinds: "programs that are started, and all rules on them",
    },
    Hook {
        program: "exit",
        fallback: None,
        attach: Attach::BtfTracepoint("sched_process_exit"),
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::EXIT),
        vital: true,
        blinds: "ends of processes and how they ended",
    },
    Hook {
        program: "signal",
        fallback: None,
        attach: Attach::BtfTracepoint("signal_generate"),
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::SIGNAL),
        vital: true,
        blinds: "signals that end processes or go to other containers",
    },
    Hook {
        program: "cgroup_move",
        fallback: None,
        attach: Attach::BtfTracepoint("cgroup_attach_task"),
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::CGROUP_MOVE),
        vital: true,
        blinds: "processes that are moved to another cgroup",
    },
    Hook {
        program: "flow",
        fallback: None,
        attach: Attach::BtfTracepoint("inet_sock_set_state"),
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::FLOW),
        vital: true,
        blinds: "how TCP connections ended, and what went over them",
    },
    Hook {
        program: "io_uring_submit",
        fallback: Some("io_uring_submit_bounded"),
        attach: Attach::BtfTracepoint("io_uring_submit_req|io_uring_submit_sqe"),
        tier: "portable",
        since: "5.10",
        kinds: bit(kind::IO_URING) | bit(kind::CHANGE),
        vital: true,
        blinds: "operations that are asked for through an io_uring",
    },
    Hook {
        program: "io_uring_complete",
        fallback: Some("io_uring_complete_bounded"),
        attach: Attach::BtfTracepoint("io_uring_complete"),
        tier: "portable",
        since: "5.10",
        kinds: bit(kind::IO_URING) | bit(kind::OPEN) | bit(kind::WRITE),
        vital: true,
        blinds: "files opened and written through an io_uring, and how its operations ended",
    },
    Hook {
        program: "connect4",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Address),
        tier: "portable",
        since: "5.7",
        kinds: bit(kind::CONNECT),
        vital: false,
        blinds: "IPv4 connects by io_uring, MSG_FASTOPEN and MPTCP; of a failed connect the kernel's copy of the address",
    },
    Hook {
        program: "connect6",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Address),
        tier: "portable",
        since: "5.7",
        kinds: bit(kind::CONNECT),
        vital: false,
        blinds: "IPv6 connects by io_uring, MSG_FASTOPEN and MPTCP; of a failed connect the kernel's copy of the address",
    },
    Hook {
        program: "egress",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Egress),
        tier: "portable",
        since: "5.8",
        kinds: bit(kind::UDP) | bit(kind::DNS),
        vital: true,
        blinds: "datagrams and DNS messages that are sent",
    },
    Hook {
        program: "ingress",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Ingress),
        tier: "portable",
        since: "5.8",
        kinds: bit(kind::UDP) | bit(kind::DNS),
        vital: true,
        blinds: "datagrams and DNS messages that come in",
    },
    Hook {
        program: "sock_create",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Create),
        tier: "portable",
        since: "5.10",
        kinds: bit(kind::UDP) | bit(kind::DNS),
        vital: false,
        blinds: "which process a datagram came for, if the socket has not sent one yet",
    },
    Hook {
        program: "sendmsg4",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Address),
        tier: "portable",
        since: "5.7",
        kinds: bit(kind::DNS),
        vital: false,
        blinds: "DNS over IPv4 that the container's own network translates to another port",
    },
    Hook {
        program: "sendmsg6",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Address),
        tier: "portable",
        since: "5.7",
        kinds: bit(kind::DNS),
        vital: false,
        blinds: "DNS over IPv6 that the container's own network translates to another port",
    },
    Hook {
        program: "syscall_exit",
        fallback: Some("syscall_exit_old"),
        attach: Attach::BtfTracepoint("sys_exit"),
        tier: "portable",
        since: "5.5",
        kinds: CALL_TABLE_KINDS | COUNTED,
        vital: true,
        blinds: "all that is a system call: files, connections, credentials, mounts …",
    },
    Hook {
        program: "open",
        fallback: Some("open_bounded"),
        attach: Attach::Calls,
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::OPEN),
        vital: true,
        blinds: "opened files",
    },
    Hook {
        program: "connect",
        fallback: Some("connect_bounded"),
        attach: Attach::Calls,
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::CONNECT) | bit(kind::BIND) | bit(kind::LISTEN) | bit(kind::ACCEPT),
        vital: true,
        blinds: "connects, and sockets that wait for them",
    },
    Hook {
        program: "cred",
        fallback: None,
        attach: Attach::Calls,
        tier: "portable",
        since: "5.5",
        kinds: bit(kind::CRED),
        vital: true,
        blinds: "changes of identity and capabilities",
    },
    Hook {
        program: "call",
        fallback: Some("call_bounded"),
        attach: Attach::Calls,
        tier: "portable",
        since: "5.5",
        kinds: CALL_KINDS,
        vital: true,
        blinds: "changed files, mounts, namespaces, access to other processes, kernel interfaces",
    },
];

/// What became of a probe.
#[derive(Clone, Debug)]
pub struct ProbeState {
    /// Which one.
    pub hook: &'static Hook,
    /// The program that is, or was to be, attached.
    pub program: &'static str,
    /// Attached, or why not.
    pub status: Status,
    /// Instructions that the verifier looked at, if the kernel tells (5.16).
    pub verified_instructions: Option<u32>,
}

/// Whether a probe sees anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Attached,
    /// Nothing that is configured needs it.
    NotNeeded,
    /// The kernel refused it: why, in a line.
    Failed(String),
}

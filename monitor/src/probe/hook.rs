//! The table of hooks: what each one needs, what it sees, and what goes blind without it.

use taffrail_common::kind;
use taffrail_common::map::COUNTED;

use super::call::CALL_TABLE_KINDS;
use crate::event::decode::CALL_KINDS;
use crate::event::field::KindSet;

/// Two kinds of hooks that see the same. Where the kernel allows a hook of the strong tier, those of the portable tier
/// for its kinds are not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Tracepoints and cgroup programs, which every kernel allows.
    Portable,
    /// `fentry` and `fexit`: cost nothing where nothing is watched, and see the objects that the kernel works on.
    Strong,
}

impl Tier {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Portable => "portable",
            Tier::Strong => "strong",
        }
    }
}

/// How a program gets to its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A tracepoint with typed arguments (`tp_btf`); `|` separates its names in different kernels.
    BtfTracepoint(&'static str),
    /// A hook of the root cgroup.
    Cgroup(CgroupHook),
    /// The program that the probe `syscall_exit` hands the calls of its kinds to (a tail call).
    Calls,
    /// The program that the ends of the entry functions of its kinds' calls (`fexit`) hand over to.
    CallEnds,
    /// Calls that a seccomp filter refuses, which have no end of their own (`fexit/__seccomp_filter`).
    Refused,
    /// The beginning of functions (`fentry`), a copy of the program for each; `|` stands between names of different kernels.
    Begin(&'static [&'static str]),
    /// As `Begin`, the end of functions (`fexit`).
    End(&'static [&'static str]),
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
    /// Which of the two kinds of hooks it is.
    pub tier: Tier,
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
    /// Whether it is not needed for kinds that hooks of the strong tier deliver.
    pub fn is_replaceable(&self) -> bool {
        self.attach == Attach::Calls || self.program == "syscall_exit"
    }

    /// The program in its place on kernels that let a thread be preempted within a program at a tracepoint (7.0): they
    /// skip the program meanwhile for all other threads of the CPU, which the classic sort of tracepoint program is
    /// safe from.
    pub fn classic(&self) -> Option<&'static str> {
        match self.program {
            "syscall_exit" => Some("syscall_exit_classic"),
            "open" => Some("open_classic"),
            "connect" => Some("connect_classic"),
            "cred" => Some("cred_classic"),
            "call" => Some("call_classic"),
            _ => None,
        }
    }

    /// The hook's name as people know it.
    pub fn hook_name(&self) -> &'static str {
        match self.attach {
            Attach::BtfTracepoint(name) => name.split('|').next().unwrap_or(name),
            Attach::Cgroup(_) => self.program,
            Attach::Calls => "sys_exit",
            Attach::CallEnds => "fexit on system calls",
            Attach::Refused => "__seccomp_filter",
            Attach::Begin(names) | Attach::End(names) => names.first().unwrap_or(&""),
        }
    }
}

/// The bit of a kind in a [`KindSet`].
pub const fn bit(kind: u16) -> KindSet {
    1 << kind
}

/// Kinds that the process table lives on: always on, for every cgroup.
pub const PROCESS_KINDS: KindSet =
    bit(kind::EXEC) | bit(kind::FORK) | bit(kind::EXIT) | bit(kind::CGROUP) | bit(kind::CGROUP_MOVE);

macro_rules! all_kinds {
    ($( ($id:literal, $name:ident, $record:ident, $lane:ident) )*) => { 0 $( | bit($id) )* };
}

/// Kinds with addresses of sockets that a system call ends.
const CONNECT_KINDS: KindSet =
    bit(kind::CONNECT) | bit(kind::BIND) | bit(kind::LISTEN) | bit(kind::ACCEPT) | bit(kind::DUP);

/// All kinds.
pub const ALL_KINDS: KindSet = taffrail_common::for_each_kind!(all_kinds);

/// The oldest kernels that have hooks of the strong tier.
const STRONG_SINCE: &str = "5.10, on aarch64 6.4";

/// All probes, in the order in which they attach: those of the strong tier before those that are needed without them.
pub const HOOKS: &[Hook] = &[
    Hook {
        program: "fork",
        fallback: None,
        attach: Attach::BtfTracepoint("sched_process_fork"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::FORK),
        vital: true,
        blinds: "new processes before their first exec; lineage has gaps",
    },
    Hook {
        program: "exec",
        fallback: Some("exec_bounded"),
        attach: Attach::BtfTracepoint("sched_process_exec"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::EXEC),
        vital: true,
        blinds: "programs that are started, and all rules on them",
    },
    Hook {
        program: "exit",
        fallback: None,
        attach: Attach::BtfTracepoint("sched_process_exit"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::EXIT),
        vital: true,
        blinds: "ends of processes and how they ended",
    },
    Hook {
        program: "signal",
        fallback: None,
        attach: Attach::BtfTracepoint("signal_generate"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::SIGNAL),
        vital: true,
        blinds: "signals that end processes or go to other containers",
    },
    Hook {
        program: "cgroup_made",
        fallback: None,
        attach: Attach::BtfTracepoint("cgroup_mkdir"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::CGROUP),
        vital: true,
        blinds: "new cgroups before their first process: a container that ends at once may stay nameless",
    },
    Hook {
        program: "cgroup_removed",
        fallback: None,
        attach: Attach::BtfTracepoint("cgroup_rmdir"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::CGROUP),
        vital: false,
        blinds: "the end of cgroups",
    },
    Hook {
        program: "cgroup_move",
        fallback: None,
        attach: Attach::BtfTracepoint("cgroup_attach_task"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::CGROUP_MOVE),
        vital: true,
        blinds: "processes that are moved to another cgroup",
    },
    Hook {
        program: "flow",
        fallback: None,
        attach: Attach::BtfTracepoint("inet_sock_set_state"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::FLOW),
        vital: true,
        blinds: "how TCP connections ended, and what went over them",
    },
    Hook {
        program: "io_uring_submit",
        fallback: Some("io_uring_submit_bounded"),
        attach: Attach::BtfTracepoint("io_uring_submit_req|io_uring_submit_sqe"),
        tier: Tier::Portable,
        since: "5.10",
        kinds: bit(kind::IO_URING) | bit(kind::CHANGE),
        vital: true,
        blinds: "operations that are asked for through an io_uring",
    },
    Hook {
        program: "io_uring_complete",
        fallback: Some("io_uring_complete_bounded"),
        attach: Attach::BtfTracepoint("io_uring_complete"),
        tier: Tier::Portable,
        since: "5.10",
        kinds: bit(kind::IO_URING) | bit(kind::OPEN) | bit(kind::WRITE),
        vital: true,
        blinds: "files opened and written through an io_uring, and how its operations ended",
    },
    Hook {
        program: "connect4",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Address),
        tier: Tier::Portable,
        since: "5.7",
        kinds: bit(kind::CONNECT),
        vital: false,
        blinds: "IPv4 connects by io_uring, MSG_FASTOPEN and MPTCP; of a failed connect the kernel's copy of the address",
    },
    Hook {
        program: "connect6",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Address),
        tier: Tier::Portable,
        since: "5.7",
        kinds: bit(kind::CONNECT),
        vital: false,
        blinds: "IPv6 connects by io_uring, MSG_FASTOPEN and MPTCP; of a failed connect the kernel's copy of the address",
    },
    Hook {
        program: "egress",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Egress),
        tier: Tier::Portable,
        since: "5.8",
        kinds: bit(kind::UDP) | bit(kind::DNS),
        vital: true,
        blinds: "datagrams and DNS messages that are sent",
    },
    Hook {
        program: "ingress",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Ingress),
        tier: Tier::Portable,
        since: "5.8",
        kinds: bit(kind::UDP) | bit(kind::DNS),
        vital: true,
        blinds: "datagrams and DNS messages that come in",
    },
    Hook {
        program: "sock_create",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Create),
        tier: Tier::Portable,
        since: "5.10",
        kinds: bit(kind::UDP) | bit(kind::DNS),
        vital: false,
        blinds: "which process a datagram came for, if the socket has not sent one yet",
    },
    Hook {
        program: "sendmsg4",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Address),
        tier: Tier::Portable,
        since: "5.7",
        kinds: bit(kind::DNS),
        vital: false,
        blinds: "DNS over IPv4 that the container's own network translates to another port",
    },
    Hook {
        program: "sendmsg6",
        fallback: None,
        attach: Attach::Cgroup(CgroupHook::Address),
        tier: Tier::Portable,
        since: "5.7",
        kinds: bit(kind::DNS),
        vital: false,
        blinds: "DNS over IPv6 that the container's own network translates to another port",
    },
    Hook {
        program: "file_opened",
        fallback: Some("file_opened_bounded"),
        attach: Attach::End(&["do_filp_open|do_file_open"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::OPEN),
        vital: false,
        blinds: "the kernel's copy of the name when an open fails; the caller's is taken and marked",
    },
    Hook {
        program: "fd_installed",
        fallback: Some("fd_installed_bounded"),
        attach: Attach::Begin(&["fd_install"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::OPEN),
        vital: false,
        blinds: "opened files that another thread closes at once: what has their descriptor when the call ends is told",
    },
    Hook {
        program: "creds_changed",
        fallback: None,
        attach: Attach::Begin(&["commit_creds"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::CRED),
        vital: false,
        blinds: "changes of identity that no call for it made, and what was before in the moment of a change",
    },
    Hook {
        program: "object_name",
        fallback: Some("object_name_bounded"),
        attach: Attach::Begin(&[
            "security_path_unlink",
            "security_path_rmdir",
            "security_path_mkdir",
            "security_path_mknod",
            "security_path_symlink",
        ]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::CHANGE),
        vital: false,
        blinds: "the object that a call makes or removes: the caller's name is taken and marked",
    },
    Hook {
        program: "object_path",
        fallback: Some("object_path_bounded"),
        attach: Attach::Begin(&[
            "security_path_truncate",
            "security_path_chmod",
            "security_path_chown",
            "security_path_chroot",
        ]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::CHANGE) | bit(kind::MOUNT),
        vital: false,
        blinds: "the object that a call changes, the new root directory: the caller's name is taken and marked",
    },
    Hook {
        program: "object_rename",
        fallback: Some("object_rename_bounded"),
        attach: Attach::Begin(&["security_path_rename"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::CHANGE),
        vital: false,
        blinds: "the object that is renamed: the caller's names are taken and marked",
    },
    Hook {
        program: "object_link",
        fallback: Some("object_link_bounded"),
        attach: Attach::Begin(&["security_path_link"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::CHANGE),
        vital: false,
        blinds: "the object that gets one more name: the caller's names are taken and marked",
    },
    Hook {
        program: "object_move",
        fallback: Some("object_move_bounded"),
        attach: Attach::Begin(&["security_move_mount"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::MOUNT),
        vital: false,
        blinds: "the mount that is moved: the caller's names are taken and marked",
    },
    Hook {
        program: "object_pivot",
        fallback: Some("object_pivot_bounded"),
        attach: Attach::Begin(&["security_sb_pivotroot"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::MOUNT),
        vital: false,
        blinds: "the new root: the caller's names are taken and marked",
    },
    Hook {
        program: "object_mount",
        fallback: Some("object_mount_bounded"),
        attach: Attach::Begin(&["security_sb_mount"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::MOUNT),
        vital: false,
        blinds: "the directory that is mounted on: the caller's name is taken and marked",
    },
    Hook {
        program: "object_umount",
        fallback: Some("object_umount_bounded"),
        attach: Attach::Begin(&["security_sb_umount"]),
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::MOUNT),
        vital: false,
        blinds: "the mount that is taken off: the caller's name is taken and marked",
    },
    Hook {
        program: "refused_open",
        fallback: Some("refused_open_bounded"),
        attach: Attach::Refused,
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::OPEN),
        vital: false,
        blinds: "nothing: `end_open` is not used without it, since calls that a seccomp filter refuses have no end of their own",
    },
    Hook {
        program: "refused_connect",
        fallback: Some("refused_connect_bounded"),
        attach: Attach::Refused,
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: CONNECT_KINDS,
        vital: false,
        blinds: "nothing: `end_connect` is not used without it, since calls that a seccomp filter refuses have no end of their own",
    },
    Hook {
        program: "refused_cred",
        fallback: Some("refused_cred_bounded"),
        attach: Attach::Refused,
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::CRED),
        vital: false,
        blinds: "nothing: `end_cred` is not used without it, since calls that a seccomp filter refuses have no end of their own",
    },
    Hook {
        program: "refused_call",
        fallback: Some("refused_call_bounded"),
        attach: Attach::Refused,
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: CALL_KINDS,
        vital: false,
        blinds: "nothing: `end_call` is not used without it, since calls that a seccomp filter refuses have no end of their own",
    },
    Hook {
        program: "end_open",
        fallback: Some("end_open_bounded"),
        attach: Attach::CallEnds,
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::OPEN),
        vital: true,
        blinds: "nothing: the portable tier sees opened files too, at a cost to every system call of the machine",
    },
    Hook {
        program: "end_connect",
        fallback: Some("end_connect_bounded"),
        attach: Attach::CallEnds,
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: CONNECT_KINDS,
        vital: true,
        blinds: "nothing: the portable tier sees connects too, at a cost to every system call of the machine",
    },
    Hook {
        program: "end_cred",
        fallback: None,
        attach: Attach::CallEnds,
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: bit(kind::CRED),
        vital: true,
        blinds: "nothing: the portable tier sees changes of identity too, at a cost to every system call of the machine",
    },
    Hook {
        program: "end_call",
        fallback: Some("end_call_bounded"),
        attach: Attach::CallEnds,
        tier: Tier::Strong,
        since: STRONG_SINCE,
        kinds: CALL_KINDS,
        vital: true,
        blinds: "nothing: the portable tier sees all other calls too, at a cost to every system call of the machine",
    },
    Hook {
        program: "syscall_exit",
        fallback: Some("syscall_exit_old"),
        attach: Attach::BtfTracepoint("sys_exit"),
        tier: Tier::Portable,
        since: "5.5",
        kinds: CALL_TABLE_KINDS | COUNTED,
        vital: true,
        blinds: "all that is a system call: files, connections, credentials, mounts …",
    },
    Hook {
        program: "open",
        fallback: Some("open_bounded"),
        attach: Attach::Calls,
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::OPEN),
        vital: true,
        blinds: "opened files",
    },
    Hook {
        program: "connect",
        fallback: Some("connect_bounded"),
        attach: Attach::Calls,
        tier: Tier::Portable,
        since: "5.5",
        kinds: CONNECT_KINDS,
        vital: true,
        blinds: "connects, and sockets that wait for them",
    },
    Hook {
        program: "cred",
        fallback: None,
        attach: Attach::Calls,
        tier: Tier::Portable,
        since: "5.5",
        kinds: bit(kind::CRED),
        vital: true,
        blinds: "changes of identity and capabilities",
    },
    Hook {
        program: "call",
        fallback: Some("call_bounded"),
        attach: Attach::Calls,
        tier: Tier::Portable,
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
    /// The kinds of event that it was to deliver.
    pub wanted: KindSet,
    /// The kinds of event that it delivers.
    pub kinds: KindSet,

    /// Instructions that the verifier looked at, if the kernel tells (5.16).
    pub verified_instructions: Option<u32>,
}

impl ProbeState {
    /// One that is not attached.
    pub(super) fn failed(hook: &'static Hook, wanted: KindSet, why: String) -> Self {
        let status = Status::Failed(why);
        Self { hook, program: hook.program, status, wanted, kinds: 0, verified_instructions: None }
    }
}

/// Whether a probe sees anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Attached,
    /// Nothing that is configured needs it, or the strong tier sees the same.
    NotNeeded,
    /// The kernel refused it, for some of its kinds at least: why, in a line. The portable tier sees those.
    Replaced(String),
    /// The kernel refused it: why, in a line.
    Failed(String),
}

#[cfg(test)]
mod tests;

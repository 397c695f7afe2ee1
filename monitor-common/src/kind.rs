//! The event table: id, name, lane and record of each event kind. Ids are never reused.

/// Calls `$with!` with the whole event table, one row per kind: `(id, name, Record, Lane)`.
///
/// Adding an event kind is one row here, its record in `event/`, its probe and its model; a kind that is system
/// calls is rows in `call.rs` instead.
#[macro_export]
macro_rules! for_each_kind {
    ($with:ident) => {
        $with! {
            (1, exec, Exec, Urgent)
            (2, fork, Fork, Urgent)
            (3, exit, Exit, Urgent)
            (4, open, Open, Bulk)
            (5, connect, Connect, Bulk)
            (6, cred, Cred, Urgent)
            (7, namespace, Call, Urgent)
            (8, access, Call, Urgent)
            (9, signal, Signal, Urgent)
            (10, setting, Call, Urgent)
            (11, memory, Call, Bulk)
            (12, memfd, Call, Urgent)
            (13, cgroup_move, CgroupMove, Urgent)
            (14, change, Call, Bulk)
            (15, write, Call, Bulk)
            (16, mount, Call, Urgent)
            (17, socket, Call, Urgent)
            (18, bind, Connect, Bulk)
            (19, listen, Connect, Bulk)
            (20, accept, Connect, Bulk)
            (21, flow, Flow, Bulk)
            (22, bpf, Call, Urgent)
            (23, module, Call, Urgent)
            (24, io_uring, Call, Urgent)
            (25, key, Call, Bulk)
            (26, kernel, Call, Urgent)
            (27, syscall, Call, Bulk)
            (28, udp, Udp, Bulk)
            (29, dns, Dns, Bulk)
            (30, dup, Connect, Bulk)
            (31, cgroup, Cgroup, Urgent)
        }
    };
}

/// One more than the highest kind id: the size of tables indexed by kind.
pub const KINDS: usize = 32;

/// A process replaced its image.
pub const EXEC: u16 = 1;
/// A process was created.
pub const FORK: u16 = 2;
/// The last thread of a process ended.
pub const EXIT: u16 = 3;
/// A file was opened, or an open failed.
pub const OPEN: u16 = 4;
/// A socket was connected, or a connect failed.
pub const CONNECT: u16 = 5;
/// A task set its ids or capabilities.
pub const CRED: u16 = 6;
/// A task entered or made namespaces.
pub const NAMESPACE: u16 = 7;
/// A process reached into another: traced it, read or wrote its memory, took a descriptor.
pub const ACCESS: u16 = 8;
/// A signal was sent that ends a process, or to another cgroup.
pub const SIGNAL: u16 = 9;
/// A process changed how it is seen or confined: its name, seccomp, no_new_privs.
pub const SETTING: u16 = 10;
/// Memory became executable in an unusual way, or a file was mapped writable and shared.
pub const MEMORY: u16 = 11;
/// A file that is only in memory was made.
pub const MEMFD: u16 = 12;
/// A process was put into another cgroup.
pub const CGROUP_MOVE: u16 = 13;
/// A file or directory was made, renamed, removed, or its attributes were changed.
pub const CHANGE: u16 = 14;
/// The first write to an open file.
pub const WRITE: u16 = 15;
/// The tree of mounts or the root directory was changed.
pub const MOUNT: u16 = 16;
/// A socket of an unusual family or type was made.
pub const SOCKET: u16 = 17;
/// A socket was bound to an address.
pub const BIND: u16 = 18;
/// A socket began to listen.
pub const LISTEN: u16 = 19;
/// A connection was accepted.
pub const ACCEPT: u16 = 20;
/// A TCP connection ended, or was never made.
pub const FLOW: u16 = 21;
/// A BPF program or map was made or used.
pub const BPF: u16 = 22;
/// Kernel code was loaded or removed: modules, kexec.
pub const MODULE: u16 = 23;
/// An io_uring was made or set up.
pub const IO_URING: u16 = 24;
/// The kernel's key rings were used.
pub const KEY: u16 = 25;
/// An interface that acts on the whole machine was used: perf, userfaultfd, clock, swap, reboot.
pub const KERNEL: u16 = 26;
/// A system call that was asked for by name.
pub const SYSCALL: u16 = 27;
/// The first datagram of a UDP flow.
pub const UDP: u16 = 28;
/// A DNS message.
pub const DNS: u16 = 29;
/// A socket became a process's standard input, output or error.
pub const DUP: u16 = 30;

/// A cgroup was made or removed.
pub const CGROUP: u16 = 31;

/// No kind: its bit in a set of kinds says that opens are to carry the name that the caller gave.
pub const ASKED_NAME: u16 = 62;

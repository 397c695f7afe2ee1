//! The table of fields, by topic. One line of table is one field; how to get it stands beside its name, so
//! that nothing can be named that cannot be had.

use std::net::SocketAddr;

use taffrail_common::event::{Path, header_flag, path_flag};
use taffrail_common::kind;

use super::decode::CALL_KINDS;
use super::field::{Field, Get, GetMany, Inline, KindSet, Type, Value};
use super::model::open::{reads, writes};
use super::model::{Target, cred, flow, signal, udp};
use super::{Call, Connect, Dns, Event, Open, capability, constant, errno};
use crate::enrich::Subject;
use crate::enrich::container::Container;
use crate::enrich::process::{Image, Process};
use crate::probe::call::kinds_with_role;
use crate::probe::hook::{ALL_KINDS, bit};

const ALL: KindSet = ALL_KINDS;
const EXEC: KindSet = bit(kind::EXEC);
const FORK: KindSet = bit(kind::FORK);
const EXIT: KindSet = bit(kind::EXIT);
const OPEN: KindSet = bit(kind::OPEN);
const SOCKETS: KindSet = bit(kind::CONNECT) | bit(kind::BIND) | bit(kind::LISTEN) | bit(kind::ACCEPT);
const FLOW: KindSet = bit(kind::FLOW);
const CRED: KindSet = bit(kind::CRED);
const SIGNAL: KindSet = bit(kind::SIGNAL);
const MOVE: KindSet = bit(kind::CGROUP_MOVE);
const UDP: KindSet = bit(kind::UDP);
const DNS: KindSet = bit(kind::DNS);
const NET: KindSet = SOCKETS | FLOW | UDP | DNS;
/// Kinds that are system calls.
const CALLS: KindSet = OPEN | SOCKETS | CRED | CALL_KINDS;
/// Kinds with an open file; the files of `access` came over from another process.
const FILES: KindSet = OPEN | kinds_with_role("fd") | bit(kind::ACCESS);
const OBJECTS: KindSet = FILES | SOCKETS;
/// Kinds with a path.
const PATHS: KindSet = OBJECTS | kinds_with_role("file");
const FD: KindSet = PATHS | NET;
const FS: KindSet = PATHS & CALL_KINDS;
const TARGETS: KindSet = SIGNAL | MOVE | kinds_with_role("process");

const fn one(
    name: &'static str,
    ty: Type,
    kinds: KindSet,
    doc: &'static str,
    get: for<'a> fn(&Subject<'a>) -> Option<Value<'a>>,
) -> Field {
    Field { name, ty, kinds, doc, get: Get::One(get) }
}

const fn ancestors(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: for<'a> fn(&'a Process) -> Option<Value<'a>>,
) -> Field {
    Field { name, ty, kinds: ALL, doc, get: Get::Ancestors(get) }
}

const fn many(kinds: KindSet, name: &'static str, doc: &'static str, get: GetMany) -> Field {
    Field { name, ty: Type::TextList, kinds, doc, get: Get::Many(get) }
}

/// The names of a number that a call was given.
macro_rules! argument {
    ($name:literal, $more:expr, $doc:literal) => {
        many(constant::kinds_with($name) | $more, concat!("evt.arg.", $name), $doc, |s, test| {
            argument_names(s, $name, test)
        })
    };
}

/// All fields.
#[rustfmt::skip]
pub static FIELDS: &[Field] = &[
    // The event.
    one("evt.type", Type::Text, ALL, "Name of the event as Falco has it: `execve`, `clone`, `procexit`, and of system calls their name.", |s| Some(Value::Text(s.event.model().type_name().as_bytes()))),
    one("evt.dir", Type::Text, ALL, "`<`: events are told when they are over, as Falco's leaving of a call.", |_| Some(Value::Text(b"<"))),
    one("evt.kind", Type::Text, ALL, "Kind of event: `exec`, `fork`, `open` … ([all](../events.md)).", |s| Some(Value::Text(s.event.kind().as_bytes()))),
    one("evt.rawtime", Type::Number, ALL, "When, in nanoseconds since 1970 (`CLOCK_REALTIME`).", |s| number(s.time_ns as i64)),
    one("evt.boottime", Type::Number, ALL, "When, in nanoseconds since the machine started (`CLOCK_BOOTTIME`).", |s| number(s.event.header().boot_ns as i64)),
    one("evt.time", Type::Text, ALL, "When, as UTC text (RFC 3339).", |s| Some(Value::Inline(crate::clock::rfc3339(s.time_ns)))),
    one("evt.rawres", Type::Number, CALLS, "What the call returned: 0 or more, or a negative error number.", |s| number(s.event.model().result()?)),
    one("evt.res", Type::Text, CALLS, "`SUCCESS`, or the error's name such as `ENOENT`.", |s| Some(result_name(s.event.model().result()?))),
    one("evt.failed", Type::Bool, CALLS, "Whether the call failed.", |s| Some(Value::Bool(s.event.model().result()? < 0))),
    one("evt.is_compat", Type::Bool, CALLS, "Whether the call came by the 32-bit entry.", |s| s.event.model().result().map(|_| Value::Bool(s.event.header().flags & header_flag::COMPAT != 0))),
    one("evt.is_open_read", Type::Bool, OPEN, "Whether the file was opened for reading.", |s| Some(Value::Bool(reads(flags(s)?)))),
    one("evt.is_open_write", Type::Bool, OPEN, "Whether the file was opened for writing.", |s| Some(Value::Bool(writes(flags(s)?)))),
    one("evt.is_open_create", Type::Bool, OPEN, "Whether the call was to create the file if it is not there (`O_CREAT`).", |s| Some(Value::Bool(flags(s)? & libc::O_CREAT as u32 != 0))),
    one("evt.open_flags", Type::Number, OPEN, "Flags of the open call (`O_*`).", |s| number(flags(s)?.into())),
    one("evt.text", Type::Text, kinds_with_role("text"), "What the call was given as a text that names no file: type of a file system, name of a module, an extended attribute, a memfd.", |s| call(s).and_then(|call| non_empty(call.text()?))),
    Field { name: "evt.rawarg", ty: Type::Number, kinds: CALL_KINDS, doc: "Arguments of the call as numbers: any of them, or with `[n]` the n-th (0 is the first).", get: Get::Indexed(raw_argument) },
    argument!("flags", OPEN | FORK, "Names of the call's flags: `CLONE_NEWPID`, `O_CREAT`, `MS_BIND` …; a bit without a name in hexadecimal."),
    argument!("request", 0, "Name of the request of ptrace: `PTRACE_ATTACH` …"),
    argument!("option", 0, "Name of the option of prctl: `PR_SET_NAME` …"),
    argument!("operation", 0, "Name of the operation of seccomp, keyctl or io_uring_register: `SECCOMP_SET_MODE_FILTER` …"),
    argument!("opcode", 0, "Name of the operation of an io_uring: `IORING_OP_OPENAT` …"),
    argument!("command", 0, "Name of the command of bpf, fsconfig, syslog or reboot: `BPF_PROG_LOAD` …"),
    argument!("protection", 0, "Names of the protection of memory: `PROT_EXEC` …"),
    argument!("family", SOCKETS, "Name of a socket's family: `AF_PACKET` …"),
    argument!("type", 0, "Name of a socket's type and its flags: `SOCK_RAW` …"),
    // The process.
    one("proc.name", Type::Text, ALL, "Command name of the process (at most 15 bytes).", |s| Some(Value::Text(s.process.name()))),
    one("proc.exe", Type::Text, ALL, "First argument of the command line.", |s| first_argument(s.process)),
    one("proc.exepath", Type::Path, ALL, "Path of the executable, resolved by the kernel.", |s| exe_path(s.process)),
    one("proc.exe_ino", Type::Number, ALL, "Inode number of the executable.", |s| number(s.process.image.exe_ino as i64)),
    one("proc.filename", Type::Path, ALL, "The name that exec was asked for: for a script, the script.", |s| non_empty(&s.process.image.filename)),
    one("proc.cmdline", Type::Text, ALL, "The whole command line, joined by spaces; Falco has the command name in place of the first argument.", |s| cmdline(s.process)),
    one("proc.args", Type::Text, ALL, "The command line without its first argument, joined by spaces.", |s| arguments(&s.process.image)),
    many(ALL, "proc.arg", "Arguments of the command line without its first, one by one.", |s, test| each_argument(s.process, test)),
    one("proc.nargs", Type::Number, ALL, "Number of arguments, the first included.", |s| known(&s.process.image, s.process.image.arg_count.into())),
    one("proc.cmdnargs", Type::Number, ALL, "Number of arguments without the first, as Falco counts them.", |s| known(&s.process.image, i64::from(s.process.image.arg_count).saturating_sub(1).max(0))),
    one("proc.args_len", Type::Number, ALL, "Bytes of all arguments as there were, which may be more than were kept.", |s| known(&s.process.image, s.process.image.args_full_len.into())),
    one("proc.cwd", Type::Path, ALL, "Working directory at exec.", |s| non_empty(&s.process.cwd)),
    one("proc.pid", Type::Number, ALL, "Process id in the host's pid namespace.", |s| number(s.process.key.tgid.into())),
    one("proc.vpid", Type::Number, ALL, "Process id in its own pid namespace.", |s| number(s.process.ns_tgid.into())),
    one("proc.pvpid", Type::Number, ALL, "Process id of the parent in its own pid namespace.", |s| number(s.processes.parent(s.process)?.ns_tgid.into())),
    one("proc.key", Type::Text, ALL, "Identity of the process that survives reuse of its id: pid and start in clock ticks.", |s| Some(Value::Inline(Inline::format(format_args!("{}", s.process.key))))),
    one("proc.ppid", Type::Number, ALL, "Process id of the parent.", |s| number(s.process.parent.tgid.into())),
    one("proc.pkey", Type::Text, ALL, "Identity of the parent.", |s| Some(Value::Inline(Inline::format(format_args!("{}", s.process.parent))))),
    ancestors("proc.akey", Type::TextList, "Identities of the ancestors; `[n]` as for `proc.aname`.", |p| Some(Value::Inline(Inline::format(format_args!("{}", p.key))))),
    many(ALL, "proc.lineage", "Identity of the process and those of its ancestors: to find what a descendant does.", |s, test| lineage(s, test)),
    one("proc.pname", Type::Text, ALL, "Command name of the parent.", |s| Some(Value::Text(s.processes.parent(s.process)?.name()))),
    one("proc.pexe", Type::Text, ALL, "First argument of the parent's command line.", |s| first_argument(s.processes.parent(s.process)?)),
    one("proc.pexepath", Type::Path, ALL, "Path of the parent's executable.", |s| exe_path(s.processes.parent(s.process)?)),
    one("proc.pcmdline", Type::Text, ALL, "Command line of the parent.", |s| cmdline(s.processes.parent(s.process)?)),
    ancestors("proc.aname", Type::TextList, "Command names of the ancestors: any of them, or with `[n]` the n-th (1 is the parent, 0 the process).", |p| Some(Value::Text(p.name()))),
    ancestors("proc.apid", Type::Number, "Process ids of the ancestors; `[n]` as for `proc.aname`.", |p| number(p.key.tgid.into())),
    ancestors("proc.aexe", Type::TextList, "First arguments of the ancestors' command lines; `[n]` as for `proc.aname`.", first_argument),
    ancestors("proc.aexepath", Type::TextList, "Paths of the ancestors' executables; `[n]` as for `proc.aname`.", exe_path),
    ancestors("proc.acmdline", Type::TextList, "Command lines of the ancestors; `[n]` as for `proc.aname`.", cmdline),
    one("proc.sid", Type::Number, ALL, "Session id in the host's pid namespace.", |s| number(s.process.session.into())),
    one("proc.sname", Type::Text, ALL, "Command name of the session's leader: the eldest ancestor of the same session.", session_name),
    one("proc.pgid", Type::Number, ALL, "Process group id in the host's pid namespace.", |s| number(s.process.process_group.into())),
    one("proc.tty", Type::Number, ALL, "Controlling terminal at exec, as in `/proc/PID/stat`; 0 if none.", |s| number(s.process.tty.into())),
    one("proc.duration", Type::Number, ALL, "How long the process has run, in nanoseconds.", |s| number(s.event.header().boot_ns.saturating_sub(s.event.header().start_ns) as i64)),
    one("proc.is_exe_deleted", Type::Bool, ALL, "Whether the executable was unlinked when it was started.", |s| image_flag(s, path_flag::DELETED)),
    one("proc.is_exe_memfd", Type::Bool, ALL, "Whether the executable is in memory only (memfd) or on a detached mount.", |s| image_flag(s, path_flag::DETACHED)),
    one("proc.is_exe_from_memfd", Type::Bool, ALL, "Whether the executable is a memfd.", is_exe_from_memfd),
    one("proc.is_exe_upper_layer", Type::Bool, ALL, "Whether the executable lies in the container's own writable layer: it was made or changed since the container started.", |s| image_flag(s, path_flag::UPPER_LAYER)),
    one("proc.is_from_host", Type::Bool, ALL, "Whether the process runs a program that was started outside of its container: the runtime that sets the container up.", |s| Some(Value::Bool(s.process.from_host && s.container.is_some()))),
    one("proc.exit_code", Type::Number, EXIT, "Status that the process ended with.", |s| { let status = exit_status(s)?; number((status >> 8 & 0xff).into()) }),
    one("proc.exit_signal", Type::Number, EXIT, "Number of the signal that ended the process, 0 if none did.", |s| number((exit_status(s)? & 0x7f).into())),
    one("proc.core_dumped", Type::Bool, EXIT, "Whether the process left a core dump.", |s| Some(Value::Bool(exit_status(s)? & 0x80 != 0))),
    one("proc.child.pid", Type::Number, FORK, "Process id of the new process.", |s| match s.event { Event::Fork(fork) => number(fork.child_tgid.into()), _ => None }),
    one("proc.child.vpid", Type::Number, FORK, "Process id of the new process in its own pid namespace.", |s| match s.event { Event::Fork(fork) => number(fork.child_ns_tgid.into()), _ => None }),
    one("proc.child.key", Type::Text, FORK, "Identity of the new process.", |s| match s.event { Event::Fork(fork) => Some(Value::Inline(Inline::format(format_args!("{}", s.processes.key(fork.child_tgid, fork.child_start_ns))))), _ => None }),
    one("proc.clone_flags", Type::Number, FORK, "What the new process shares and what it has of its own (`CLONE_*`).", |s| match s.event { Event::Fork(fork) => number(fork.clone_flags as i64), _ => None }),
    one("proc.exec_tid", Type::Number, EXEC, "Thread that called exec, which need not be the main thread.", |s| match s.event { Event::Exec(exec) => number(exec.record.old_tid.into()), _ => None }),
    one("proc.nenv", Type::Number, EXEC, "Number of environment variables.", |s| match s.event { Event::Exec(exec) => number(exec.record.env_count.into()), _ => None }),
    one("proc.cap_effective", Type::Number, ALL, "Effective capabilities, bit n being capability n.", |s| number(s.process.credentials.cap_effective as i64)),
    one("proc.cap_permitted", Type::Number, ALL, "Permitted capabilities, bit n being capability n.", |s| number(s.process.credentials.cap_permitted as i64)),
    one("thread.tid", Type::Number, ALL, "Thread id in the host's pid namespace.", |s| number(s.event.header().tid.into())),
    one("thread.vtid", Type::Number, ALL, "Thread id in its own pid namespace.", |s| number(s.event.header().ns_tid.into())),
    one("thread.name", Type::Text, ALL, "Command name of the thread.", thread_name),
    many(ALL, "thread.cap_effective", "Effective capabilities of the process, by name (`CAP_SYS_ADMIN`).", |s, test| named(s.process.credentials.cap_effective, test)),
    many(ALL, "thread.cap_permitted", "Permitted capabilities of the process, by name.", |s, test| named(s.process.credentials.cap_permitted, test)),
    many(ALL, "thread.cap_inheritable", "Inheritable capabilities of the process, by name.", |s, test| named(s.process.credentials.cap_inheritable, test)),
    // Who.
    one("user.uid", Type::Number, ALL, "Effective user id as the host sees it.", |s| number(s.event.header().euid.into())),
    one("user.ruid", Type::Number, ALL, "Real user id.", |s| user(s.process.credentials.uid)),
    one("user.loginuid", Type::Number, ALL, "Login user id, -1 if unset.", |s| number((s.process.login_uid as i32).into())),
    many(CRED, "user.gained_caps", "Permitted capabilities that the process did not have before, by name.", |s, test| changed_capabilities(s).is_some_and(|(gained, _)| named(gained, test))),
    many(CRED, "user.lost_caps", "Permitted capabilities that the process had before and has no more, by name.", |s, test| changed_capabilities(s).is_some_and(|(_, lost)| named(lost, test))),
    one("user.old_ruid", Type::Number, CRED, "Real user id before the change, if known.", |s| user(old_credentials(s)?.uid)),
    one("user.old_uid", Type::Number, CRED, "Effective user id before the change, if known.", |s| user(old_credentials(s)?.euid)),
    one("group.gid", Type::Number, ALL, "Effective group id as the host sees it.", |s| number(s.event.header().egid.into())),
    // Where.
    one("container.id", Type::Text, ALL, "First 12 characters of the container's id; `host` for processes of the host.", |s| Some(Value::Text(container_id(s)))),
    one("container.full_id", Type::Text, ALL, "The container's whole id.", |s| Some(Value::Text(s.container?.id.as_bytes()))),
    one("container.type", Type::Text, ALL, "Which runtime made the container: `docker`, `podman`, `containerd`, `cri-o`, `oci` (runc or crun by hand), `kubernetes` (not known which).", |s| Some(Value::Text(s.container?.runtime.name().as_bytes()))),
    one("container.cgroup_path", Type::Path, ALL, "The container's cgroup below the v2 root.", |s| Some(Value::Text(s.container?.cgroup_path.as_bytes()))),
    one("k8s.pod.uid", Type::Text, ALL, "Uid of the container's pod.", |s| Some(Value::Text(s.container?.pod_uid.as_ref()?.as_bytes()))),
    one("cgroup.id", Type::Number, ALL, "v2 cgroup id of the thread at the event.", |s| number(s.event.header().cgroup_id as i64)),
    one("ns.mnt", Type::Number, ALL, "Inode number of the mount namespace.", |s| number(s.event.header().mnt_ns.into())),
    one("ns.pid", Type::Number, ALL, "Inode number of the pid namespace.", |s| number(s.event.header().pid_ns.into())),
    // To whom it was done.
    one("target.pid", Type::Number, TARGETS, "Process id of the other process in the host's pid namespace, if known.", |s| number(s.target?.key.tgid.into())),
    one("target.vpid", Type::Number, TARGETS, "Process id of the other process: in its own pid namespace, or as the caller named it.", |s| match s.event.model().target()? { Target::Known { ns_tgid, .. } => number(ns_tgid.into()), Target::Numbered(pid) => number(pid.into()) }),
    one("target.key", Type::Text, TARGETS, "Identity of the other process.", |s| Some(Value::Inline(Inline::format(format_args!("{}", s.target?.key))))),
    one("target.name", Type::Text, TARGETS, "Command name of the other process.", |s| Some(Value::Text(s.target?.name()))),
    one("target.exepath", Type::Path, TARGETS, "Executable of the other process.", |s| exe_path(s.target?)),
    one("target.container.id", Type::Text, TARGETS, "Container of the other process, as `container.id`.", |s| Some(Value::Text(short_id(s.target?.container.as_deref())))),
    one("target.is_other_container", Type::Bool, TARGETS, "Whether the other process is of another container, or of the host.", |s| Some(Value::Bool(s.target?.container.as_deref() != s.container))),
    one("signal.number", Type::Number, SIGNAL, "Number of the signal.", |s| number(sent(s)?.signal.into())),
    one("signal.name", Type::Text, SIGNAL, "Name of the signal: `SIGKILL` …", |s| Some(Value::Text(constant::SIGNAL.name(sent(s)?.signal.into())?.as_bytes()))),
    one("signal.outcome", Type::Text, SIGNAL, "What became of it: `delivered`, `ignored`, `already_pending`, `lost`.", |s| Some(Value::Text(signal::outcome(sent(s)?).as_bytes()))),
    // The file or the connection.
    one("fd.name", Type::Path, FD, "The file's path, the Unix socket's path, or the connection as `ip:port->ip:port`.", fd_name),
    one("fd.directory", Type::Path, PATHS, "Directory part of the path.", |s| Some(Value::Text(split(fd_path(s)?).0))),
    one("fd.filename", Type::Text, PATHS, "Last part of the path.", |s| Some(Value::Text(split(fd_path(s)?).1))),
    one("fd.num", Type::Number, OPEN | SOCKETS, "Number of the file descriptor.", |s| match s.event { Event::Open(open) if open.record.result >= 0 => number(open.record.result.into()), Event::Connect(connect) => number(connect.record.fd.into()), _ => None }),
    one("fd.type", Type::Text, OBJECTS | NET, "`file`, `directory`, `device`, `pipe`, `ipv4`, `ipv6`, `unix`, `other`.", |s| Some(Value::Text(fd_type(s)?.as_bytes()))),
    one("fd.typechar", Type::Text, OBJECTS | NET, "`fd.type` as Falco's one character: `f` file or device, `d` directory, `p` pipe, `4`, `6`, `u` Unix socket, `o` other.", |s| Some(Value::Text(fd_type_char(fd_type(s)?)))),
    one("fd.ino", Type::Number, OBJECTS, "Inode number of the file or of the Unix socket's file.", |s| object(s).map(|path| Value::Number(path.ino as i64))),
    one("fd.dev", Type::Number, OBJECTS, "Device of the file system (major << 20, minor).", |s| object(s).map(|path| Value::Number(path.dev.into()))),
    one("fd.dev.major", Type::Number, OBJECTS, "Major number of the file system's device.", |s| object(s).map(|path| Value::Number((path.dev >> 20).into()))),
    one("fd.dev.minor", Type::Number, OBJECTS, "Minor number of the file system's device.", |s| object(s).map(|path| Value::Number((path.dev & 0xf_ffff).into()))),
    one("fd.mode", Type::Number, FILES, "Type and permissions of the file (`st_mode`).", |s| mode(s).map(|mode| Value::Number(mode.into()))),
    one("fd.links", Type::Number, OPEN, "Number of hard links of the file.", |s| number(opened(s)?.record.links.into())),
    one("fd.owner", Type::Number, OPEN, "User id of the file's owner as the host sees it.", |s| number(opened(s)?.record.owner.into())),
    one("fd.is_set_id", Type::Bool, FILES, "Whether the file is a regular one with a set-user-id or set-group-id bit.", |s| mode(s).map(|mode| Value::Bool(mode & libc::S_IFMT == libc::S_IFREG && mode & 0o6000 != 0))),
    one("fd.is_unverified", Type::Bool, PATHS, "Whether the path is only what the caller passed, since no object is left to ask.", |s| path_is(s, path_flag::UNVERIFIED)),
    one("fd.is_outside_root", Type::Bool, OBJECTS, "Whether the object lies outside the process's root directory.", |s| object_is(s, path_flag::OUTSIDE_ROOT)),
    one("fd.is_in_chroot", Type::Bool, OBJECTS, "Whether the process's root directory is not that of its container (chroot); the path is from the container's root.", |s| object_is(s, path_flag::CHROOT)),
    one("fd.is_deleted", Type::Bool, OBJECTS, "Whether the name was unlinked already.", |s| object_is(s, path_flag::DELETED)),
    one("fd.is_cut", Type::Bool, PATHS, "Whether the start of the path is missing.", |s| path_is(s, path_flag::INCOMPLETE)),
    one("fd.is_upper_layer", Type::Bool, OBJECTS, "Whether the file lies in the container's own writable layer: it was made or changed since the container started.", |s| object_is(s, path_flag::UPPER_LAYER)),
    one("fd.is_image_layer", Type::Bool, OBJECTS, "Whether the file is the image's, unchanged.", |s| object_is(s, path_flag::IMAGE_LAYER)),
    one("fd.is_tmpfs", Type::Bool, OBJECTS, "Whether the file is in memory only.", |s| object_is(s, path_flag::TMPFS)),
    one("fd.is_host_mount", Type::Bool, OBJECTS, "Whether the file lies on another mount than the process's root, which shows a disk or a part of a file system: in a container, a volume or what else the host lends it.", |s| object_is(s, path_flag::HOST_MOUNT)),
    one("fd.l4proto", Type::Text, NET, "`tcp`, `udp`, `mptcp`, `icmp`, `raw` or `other`.", |s| match s.event { Event::Flow(_) => Some(Value::Text(b"tcp")), Event::Udp(_) => Some(Value::Text(b"udp")), Event::Dns(dns) => Some(Value::Text(dns.protocol().as_bytes())), _ => Some(Value::Text(connect(s)?.protocol()?.as_bytes())) }),
    one("fd.rip", Type::Address, NET, "Peer's address.", |s| address(s.event.remote())),
    one("fd.rport", Type::Number, NET, "Peer's port.", |s| port(s.event.remote())),
    one("fd.lip", Type::Address, NET, "Own address.", |s| address(s.event.local())),
    one("fd.lport", Type::Number, NET, "Own port.", |s| port(s.event.local())),
    one("fd.sip", Type::Address, NET, "Server's address: of what was accepted or waits the own, else the peer's.", |s| address(ends(s).0)),
    one("fd.sport", Type::Number, NET, "Server's port.", |s| port(ends(s).0)),
    one("fd.cip", Type::Address, NET, "Client's address.", |s| address(ends(s).1)),
    one("fd.cport", Type::Number, NET, "Client's port.", |s| port(ends(s).1)),
    one("fd.source", Type::Text, SOCKETS, "Where the peer's address was read: `socket`, `kernel_copy`, `caller` (another thread can have changed it), `none`.", |s| Some(Value::Text(connect(s)?.source_name().as_bytes()))),
    one("flow.direction", Type::Text, FLOW, "`out` if the process connected, `in` if it accepted.", |s| Some(Value::Text(flow::direction(flow_of(s)?).as_bytes()))),
    one("flow.sent", Type::Number, FLOW, "Bytes of payload that were sent, each counted once.", |s| number(flow_of(s)?.bytes_sent as i64)),
    one("flow.received", Type::Number, FLOW, "Bytes of payload that came from the peer.", |s| number(flow_of(s)?.bytes_received as i64)),
    one("flow.duration", Type::Number, FLOW, "How long the connection stood, in nanoseconds.", |s| match flow_of(s)?.established_ns { 0 => None, begin => number(s.event.header().boot_ns.saturating_sub(begin) as i64) }),
    one("flow.error", Type::Text, FLOW, "Why it failed or broke: `ECONNREFUSED`, `ETIMEDOUT`, `ECONNRESET` and others.", |s| Some(Value::Text(errno::name(flow_of(s)?.error)?.as_bytes()))),
    one("flow.is_established", Type::Bool, FLOW, "Whether it was ever made.", |s| Some(Value::Bool(flow::is_established(flow_of(s)?)))),
    one("udp.direction", Type::Text, UDP, "`out` if the process sent the datagram, `in` if it came for it.", |s| match s.event { Event::Udp(event) => Some(Value::Text(udp::direction_name(event.direction).as_bytes())), _ => None }),
    one("udp.bytes", Type::Number, UDP, "Bytes that the flow's first datagram carries.", |s| match s.event { Event::Udp(event) => number(event.bytes.into()), _ => None }),
    one("dns.question.name", Type::Text, DNS, "The name that is asked for, in lower case and without a dot at its end; a dot within a label has a backslash before it.", |s| dns(s)?.question_name().map(Value::Text)),
    one("dns.question.type", Type::Text, DNS, "The type of record that is asked for: `A`, `AAAA`, `TXT` … or `TYPE` and its number.", |s| dns(s)?.question_type().map(Value::Inline)),
    one("dns.type", Type::Text, DNS, "`query` or `answer`.", |s| Some(Value::Text(dns(s)?.message_type()?.as_bytes()))),
    one("dns.id", Type::Number, DNS, "Number that an answer shares with its query.", |s| number(dns(s)?.message?.id.into())),
    one("dns.rcode", Type::Text, DNS, "How it went, of an answer: `NOERROR`, `NXDOMAIN`, `SERVFAIL` and others.", |s| dns(s)?.response_code().map(Value::Inline)),
    Field { name: "dns.answers", ty: Type::TextList, kinds: DNS, doc: "What the answers say: addresses, names, texts.", get: Get::Many(|s, test| dns(s).is_some_and(|dns| dns.any_answer(test))) },
    one("dns.direction", Type::Text, DNS, "`out` if the process sent the message, `in` if it came for it.", |s| Some(Value::Text(udp::direction_name(dns(s)?.record.direction).as_bytes()))),
    one("dns.bytes", Type::Number, DNS, "Bytes of the whole message.", |s| number(dns(s)?.record.message.full_len.into())),
    one("dns.is_cut", Type::Bool, DNS, "Whether only the start of the message was seen.", |s| Some(Value::Bool(dns(s)?.is_cut()))),
    one("dns.is_malformed", Type::Bool, DNS, "Whether what went over port 53 is no message of DNS.", |s| Some(Value::Bool(dns(s)?.message.is_none()))),
    one("fs.path.name", Type::Path, FS, "The path that a call is about; of two the first.", |s| call(s).and_then(|call| non_empty(call.file))),
    one("fs.path.source", Type::Path, kinds_with_role("target"), "Of a call with two paths (rename, link, mount …) the first.", |s| call(s).filter(|call| call.target_path().is_some()).and_then(|call| non_empty(call.file))),
    one("fs.path.target", Type::Path, kinds_with_role("target"), "Of a call with two paths the second.", |s| call(s).and_then(|call| non_empty(call.target))),
];

fn number<'a>(value: i64) -> Option<Value<'a>> {
    Some(Value::Number(value))
}

fn non_empty(text: &[u8]) -> Option<Value<'_>> {
    (!text.is_empty()).then_some(Value::Text(text))
}

fn result_name<'a>(result: i64) -> Value<'a> {
    match (result, u32::try_from(result.unsigned_abs()).ok().and_then(errno::name)) {
        (0.., _) => Value::Text(b"SUCCESS"),
        (_, Some(name)) => Value::Text(name.as_bytes()),
        (_, None) => Value::Inline(Inline::format(format_args!("E{}", result.unsigned_abs()))),
    }
}

/// The open call's flags, if they could be read.
fn flags(subject: &Subject<'_>) -> Option<u32> {
    match subject.event {
        Event::Open(open) => open.flags(),
        _ => None,
    }
}

/// The identities of a process and its ancestors, its own first.
fn lineage(subject: &Subject<'_>, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let ancestors = subject.processes.ancestors(subject.process);
    let mut all = std::iter::once(subject.process).chain(ancestors);
    all.any(|process| test(Value::Inline(Inline::format(format_args!("{}", process.key)))))
}

fn first_argument(process: &Process) -> Option<Value<'_>> {
    non_empty(process.image.args.split(|&byte| byte == 0).next()?)
}

fn exe_path(process: &Process) -> Option<Value<'_>> {
    non_empty(&process.image.exe)
}

fn cmdline(process: &Process) -> Option<Value<'_>> {
    non_empty(&process.image.cmdline)
}

fn arguments(image: &Image) -> Option<Value<'_>> {
    let first = image.args.iter().position(|&byte| byte == 0)?;
    Some(Value::Text(image.cmdline.get(first + 1..).unwrap_or_default()))
}

fn each_argument(process: &Process, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let args = &process.image.args;
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    args.split(|&byte| byte == 0).skip(1).any(|argument| test(Value::Text(argument)))
}

/// A number of the command line, if there is one at all.
fn known<'a>(image: &Image, value: i64) -> Option<Value<'a>> {
    (!image.args.is_empty()).then_some(Value::Number(value))
}

fn image_flag<'a>(subject: &Subject<'a>, flag: u32) -> Option<Value<'a>> {
    (!subject.process.image.exe.is_empty())
        .then_some(Value::Bool(subject.process.image.exe_flags & flag != 0))
}

fn is_exe_from_memfd<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    let Image { exe, exe_flags, .. } = &*subject.process.image;
    let name = exe.strip_prefix(b"/").unwrap_or(exe);
    // Detached alone could be a mount; the name alone anybody can give a file.
    let memfd = exe_flags & path_flag::DETACHED != 0 && name.starts_with(b"memfd:");
    (!exe.is_empty()).then_some(Value::Bool(memfd))
}

fn session_name<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    let session = subject.process.session;
    let same = |process: &&Process| process.session == session;
    let eldest = subject.processes.ancestors(subject.process).take_while(same).last();
    (session != 0).then(|| Value::Text(eldest.unwrap_or(subject.process).name()))
}

fn named(set: u64, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    capability::names(set).any(|name| test(Value::Text(name.as_bytes())))
}

/// A user id; none if it is not known.
fn user<'a>(id: u32) -> Option<Value<'a>> {
    (id != u32::MAX).then_some(Value::Number(id.into()))
}

fn old_credentials<'a>(subject: &Subject<'a>) -> Option<&'a taffrail_common::event::Credentials> {
    match subject.event {
        Event::Cred(cred) => cred::old(cred, subject),
        _ => None,
    }
}

/// Gained and lost.
fn changed_capabilities(subject: &Subject<'_>) -> Option<(u64, u64)> {
    match subject.event {
        Event::Cred(cred) => Some(cred::changed_capabilities(cred, cred::old(cred, subject)?)),
        _ => None,
    }
}

fn sent<'a>(subject: &Subject<'a>) -> Option<&'a taffrail_common::event::Signal> {
    match subject.event {
        Event::Signal(signal) => Some(signal),
        _ => None,
    }
}

/// Names of the number that an argument is, one after the other, and what has no name.
fn argument_names<'a>(subject: &Subject<'a>, name: &str, test: &mut dyn FnMut(Value<'a>) -> bool) -> bool {
    let (value, names) = match (subject.event, name) {
        (Event::Open(open), "flags") => (open.flags().map(u64::from), &constant::OPEN),
        (Event::Fork(fork), "flags") => (Some(fork.clone_flags), &constant::CLONE),
        (Event::Connect(connect), "family") => (Some(connect.record.family.into()), &constant::FAMILY),
        (Event::Call(call), _) => match call.numbers().find(|(argument, _)| argument.name == name) {
            Some((argument, value)) if let Some(names) = argument.names => (Some(value as u64), names),
            _ => return false,
        },
        _ => return false,
    };
    let Some(value) = value else { return false };
    let mut holds = false;
    let rest = names.each(value, |name| holds = holds || test(Value::Text(name.as_bytes())));
    holds || rest != 0 && test(Value::Inline(Inline::format(format_args!("{rest:#x}"))))
}

fn exit_status(subject: &Subject<'_>) -> Option<u32> {
    match subject.event {
        Event::Exit(exit) => Some(exit.wait_status),
        _ => None,
    }
}

fn thread_name<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    Some(Value::Text(crate::enrich::process::trim_nul(&subject.event.header().comm)))
}

/// Falco's short id.
pub fn container_id<'a>(subject: &Subject<'a>) -> &'a [u8] {
    short_id(subject.container)
}

fn short_id(container: Option<&Container>) -> &[u8] {
    const SHORT: usize = 12;
    match container {
        Some(container) if container.id.len() == 64 => &container.id.as_bytes()[..SHORT],
        Some(container) => container.id.as_bytes(),
        None => b"host",
    }
}

fn opened<'a>(subject: &Subject<'a>) -> Option<&'a Open<'a>> {
    match subject.event {
        Event::Open(open) if open.record.result >= 0 => Some(open),
        _ => None,
    }
}

fn connect<'a>(subject: &Subject<'a>) -> Option<&'a Connect<'a>> {
    match subject.event {
        Event::Connect(connect) => Some(connect),
        _ => None,
    }
}

fn call<'a>(subject: &Subject<'a>) -> Option<&'a Call<'a>> {
    match subject.event {
        Event::Call(call) => Some(call),
        _ => None,
    }
}

fn flow_of<'a>(subject: &Subject<'a>) -> Option<&'a taffrail_common::event::Flow> {
    match subject.event {
        Event::Flow(flow) => Some(flow),
        _ => None,
    }
}

fn dns<'a>(subject: &Subject<'a>) -> Option<&'a Dns<'a>> {
    match subject.event {
        Event::Dns(dns) => Some(dns),
        _ => None,
    }
}

fn raw_argument<'a>(subject: &Subject<'a>, index: u32) -> Option<Value<'a>> {
    let value = call(subject)?.record.args.get(index as usize)?;
    Some(Value::Number(*value as i64))
}

/// Server and client.
fn ends(subject: &Subject<'_>) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let (remote, local) = (subject.event.remote(), subject.event.local());
    let serves = match subject.event {
        Event::Flow(flow) => flow::direction(flow) == "in",
        // Of a datagram that came in the own end is the server.
        Event::Udp(udp) => udp::direction_name(udp.direction) == "in",
        // Whoever answers is the server.
        Event::Dns(dns) => dns.is_answer() == (udp::direction_name(dns.record.direction) == "out"),
        event => event.header().kind != kind::CONNECT,
    };
    if serves { (local, remote) } else { (remote, local) }
}

fn mode(subject: &Subject<'_>) -> Option<u32> {
    let mode = match subject.event {
        Event::Open(open) => open.record.mode,
        Event::Call(call) => call.record.mode,
        _ => 0,
    };
    (mode != 0).then_some(mode)
}

/// The object behind the path, if there is one.
fn object(subject: &Subject<'_>) -> Option<Path> {
    let (_, path) = subject.event.model().path()?;
    (path.ino != 0).then_some(path)
}

/// A flag of the object behind the path; none of a name without an object.
fn object_is<'a>(subject: &Subject<'a>, flag: u32) -> Option<Value<'a>> {
    Some(Value::Bool(object(subject)?.flags & flag != 0))
}

fn path_is<'a>(subject: &Subject<'a>, flag: u32) -> Option<Value<'a>> {
    Some(Value::Bool(subject.event.model().path()?.1.flags & flag != 0))
}

fn fd_path<'a>(subject: &Subject<'a>) -> Option<&'a [u8]> {
    let path = match subject.event {
        Event::Open(open) => open.file,
        Event::Connect(connect) => connect.path,
        Event::Call(call) => call.file,
        _ => return None,
    };
    (!path.is_empty()).then_some(path)
}

fn fd_name<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    if let Some(path) = fd_path(subject) {
        return Some(Value::Text(path));
    }
    let (remote, local) = (subject.event.remote()?, subject.event.local()?);
    Some(Value::Inline(Inline::format(format_args!("{local}->{remote}"))))
}

/// Directory and last part.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn fd_type(subject: &Subject<'_>) -> Option<&'static str> {
    if let Some(mode) = mode(subject) {
        return Some(match mode & libc::S_IFMT {
            libc::S_IFREG => "file",
            libc::S_IFDIR => "directory",
            libc::S_IFCHR | libc::S_IFBLK => "device",
            libc::S_IFIFO => "pipe",
            _ => "other",
        });
    }
    match (subject.event, subject.event.remote().or(subject.event.local())) {
        (Event::Connect(connect), _) if i32::from(connect.record.family) == libc::AF_UNIX => Some("unix"),
        (_, Some(address)) => Some(if address.is_ipv4() { "ipv4" } else { "ipv6" }),
        (Event::Connect(_), None) => Some("other"),
        _ => None,
    }
}

/// Falco's one character for a type.
fn fd_type_char(name: &str) -> &'static [u8] {
    match name {
        // Falco does not tell devices from files.
        "file" | "device" => b"f",
        "directory" => b"d",
        "pipe" => b"p",
        "ipv4" => b"4",
        "ipv6" => b"6",
        "unix" => b"u",
        _ => b"o",
    }
}

fn address<'a>(address: Option<SocketAddr>) -> Option<Value<'a>> {
    Some(Value::Address(address?.ip()))
}

fn port<'a>(address: Option<SocketAddr>) -> Option<Value<'a>> {
    number(address?.port().into())
}

#[cfg(test)]
mod tests {
    use super::super::field::{Values, find};
    use taffrail_common::kind::KINDS;

    use super::super::text::escaped;
    use super::*;
    use crate::testing::{self, with_subject};

    /// A parent with a terminal, and one event of each kind and shape of its child.
    fn subjects() -> Vec<Vec<Vec<u8>>> {
        let before = [
            testing::exec(6, 500, (1, 10), "/usr/sbin/sshd", &["sshd: x"]),
            testing::exec(7, 1_000, (6, 500), "/bin/sh", &["-sh", "-c", "a b"]),
        ];
        let last = [
            testing::exec(7, 1_000, (6, 500), "/bin/sh", &["-sh", "-c", "a b"]),
            testing::fork(7, 1_000, (8, 2_000)),
            testing::exit(7, 1_000, 0x100),
            testing::open(7, 1_000, "/etc/passwd", libc::O_RDWR as u32, 3),
            testing::open(7, 1_000, "/etc/missing", 0, -2),
            testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0),
            testing::connect_unix(7, 1_000, "/run/x.sock"),
            testing::cred(7, 1_000, (1000, 1 << 21), 0),
            testing::signal(7, 1_000, (6, 500), 9),
            testing::cgroup_move(7, 1_000, (6, 500), "/elsewhere"),
            testing::flow(7, 1_000, ([10, 0, 0, 1], 443), 104),
            testing::of_kind(testing::connect_unix(7, 1_000, "/run/x.sock"), kind::BIND),
            testing::of_kind(testing::connect_unix(7, 1_000, "/run/x.sock"), kind::LISTEN),
            testing::of_kind(testing::connect_unix(7, 1_000, "/run/x.sock"), kind::ACCEPT),
            testing::of_kind(testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0), kind::BIND),
            testing::of_kind(testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0), kind::LISTEN),
            testing::of_kind(testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0), kind::ACCEPT),
            testing::udp(7, 1_000, ([10, 0, 0, 1], 123)),
            testing::dns(7, 1_000, testing::DNS_ANSWER),
        ];
        let last = last.into_iter().chain(testing::calls(7, 1_000));
        last.map(|last| before.iter().cloned().chain([last]).collect()).collect()
    }

    /// All values of a field, as text.
    fn values(subject: &Subject<'_>, name: &str, index: Option<u32>) -> Vec<String> {
        let field = find(name).unwrap_or_else(|| panic!("no field {name}"));
        let mut values = Vec::new();
        subject.any(field, index, &mut |value| {
            values.push(match value {
                Value::Number(number) => number.to_string(),
                Value::Bool(bool) => bool.to_string(),
                Value::Address(address) => address.to_string(),
                Value::Text(_) | Value::Inline(_) => escaped(value.text().unwrap_or_default()),
            });
            false
        });
        values
    }

    #[test]
    fn field_has_no_value_outside_of_its_kinds_and_one_of_its_type_within() {
        let mut seen = std::collections::HashSet::new();
        for records in subjects() {
            with_subject(&records, |subject| {
                let kind = bit(subject.event.header().kind);
                for field in FIELDS {
                    subject.any(field, None, &mut |value| {
                        assert!(field.kinds & kind != 0, "{} of {}", field.name, subject.event.kind());
                        let fits = matches!(
                            (field.ty, value),
                            (Type::Text | Type::Path | Type::TextList, Value::Text(_) | Value::Inline(_))
                                | (Type::Number, Value::Number(_))
                                | (Type::Bool, Value::Bool(_))
                                | (Type::Address, Value::Address(_))
                        );
                        assert!(fits, "{} is {value:?}", field.name);
                        seen.insert((field.name, kind));
                        false
                    });
                }
            });
        }
        // No sample has an inheritable capability.
        let fields = FIELDS.iter().filter(|field| field.name != "thread.cap_inheritable");
        let wanted = fields.flat_map(|field| {
            (1..KINDS as u16).filter(|kind| field.kinds & bit(*kind) != 0).map(|kind| (field.name, kind))
        });
        let missing: Vec<_> = wanted.filter(|(name, kind)| !seen.contains(&(*name, bit(*kind)))).collect();
        assert!(missing.is_empty(), "no value of field for kind: {missing:?}");
    }

    #[test]
    fn fields_have_falcos_values() {
        let table: &[(usize, &str, Option<u32>, &[&str])] = &[
            (0, "evt.type", None, &["execve"]),
            (0, "proc.exe", None, &["-sh"]),
            (0, "proc.args", None, &["-c a b"]),
            (0, "proc.arg", None, &["-c", "a b"]),
            (0, "proc.nargs", None, &["3"]),
            (0, "proc.cmdnargs", None, &["2"]),
            (0, "proc.aname", None, &["sshd"]),
            (0, "proc.aname", Some(0), &["sh"]),
            (0, "proc.aname", Some(2), &[]),
            (0, "proc.apid", Some(1), &["6"]),
            (0, "proc.apid", None, &["6"]),
            (0, "proc.sname", None, &["sshd"]),
            (0, "proc.is_exe_from_memfd", None, &["false"]),
            (1, "proc.child.key", None, &["8-0"]),
            (1, "proc.child.vpid", None, &["2"]),
            (2, "proc.exit_code", None, &["1"]),
            (3, "fd.typechar", None, &["f"]),
            (3, "fd.dev.major", None, &["8"]),
            (3, "fd.dev.minor", None, &["1"]),
            (3, "evt.is_open_write", None, &["true"]),
            (4, "fd.typechar", None, &[]),
            (4, "evt.res", None, &["ENOENT"]),
            (5, "fd.typechar", None, &["4"]),
            (5, "fd.name", None, &["10.0.0.2:40000->10.0.0.1:443"]),
            (6, "fd.typechar", None, &["u"]),
            (6, "fd.rip", None, &[]),
            (17, "fd.sip", None, &["10.0.0.1"]),
            (17, "fd.l4proto", None, &["udp"]),
            (18, "dns.question.name", None, &["www.example.com"]),
            (18, "dns.answers", None, &["other.example.com", "192.0.2.7"]),
            (18, "dns.rcode", None, &["NOERROR"]),
            (18, "fd.sport", None, &["53"]),
            (18, "fd.cport", None, &["40000"]),
        ];
        let subjects = subjects();
        for (number, name, index, expected) in table {
            with_subject(&subjects[*number], |subject| {
                assert_eq!(values(subject, name, *index), *expected, "{name} of {}", subject.event.kind());
            });
        }
        with_subject(&subjects[0], |subject| {
            let names = values(subject, "thread.cap_effective", None);
            assert!(names.contains(&"CAP_CHOWN".to_owned()) && !names.contains(&"CAP_SYS_ADMIN".to_owned()));
        });
    }

    #[test]
    fn fields_of_a_topic_stand_together() {
        let mut topics = Vec::new();
        for field in FIELDS {
            let topic = field.name.split('.').next().unwrap_or_default();
            if topics.last() != Some(&topic) {
                assert!(!topics.contains(&topic), "{} is apart from its topic", field.name);
                topics.push(topic);
            }
        }
    }
}

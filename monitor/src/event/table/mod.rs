//! The table of fields, by topic. One line of table is one field; how to get it stands beside its name, so
//! that nothing can be named that cannot be had.

pub mod argument;
mod get;
mod pending;
#[cfg(test)]
pub mod tests;

use taffrail_common::event::{header_flag, path_flag};
use taffrail_common::kind;

use super::decode::CALL_KINDS;
use super::field::{Field, Get, GetMany, Inline, KindSet, Type, Value};
use super::model::open::{reads, writes};
use super::model::{Target, flow, signal, udp};
use super::{Event, capability, constant, errno};
use crate::clock::Calendar;
use crate::enrich::Subject;
use crate::enrich::metadata::Mount;
use crate::enrich::process::Process;
use crate::probe::call::kinds_with_role;
use crate::probe::hook::{ALL_KINDS, bit};

use get::*;
pub use get::{
    category, container_id, file_type, is_exe_new, is_nested, result_name, sha256_missing, short, split,
    type_char,
};

const ALL: KindSet = ALL_KINDS;
const EXEC: KindSet = bit(kind::EXEC);
const FORK: KindSet = bit(kind::FORK);
const EXIT: KindSet = bit(kind::EXIT);
const OPEN: KindSet = bit(kind::OPEN);
pub(super) const SOCKETS: KindSet =
    bit(kind::CONNECT) | bit(kind::BIND) | bit(kind::LISTEN) | bit(kind::ACCEPT) | bit(kind::DUP);
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

const fn many_of(ty: Type, kinds: KindSet, name: &'static str, doc: &'static str, get: GetMany) -> Field {
    Field { name, ty, kinds, doc, get: Get::Many(get) }
}

const fn keyed(
    name: &'static str,
    doc: &'static str,
    get: for<'a> fn(&Subject<'a>, &[u8]) -> Option<Value<'a>>,
) -> Field {
    Field { name, ty: Type::Text, kinds: ALL, doc, get: Get::Keyed(get) }
}

const fn many(kinds: KindSet, name: &'static str, doc: &'static str, get: GetMany) -> Field {
    Field { name, ty: Type::TextList, kinds, doc, get: Get::Many(get) }
}

const TABLES: &[&[Field]] = &[OWN, argument::FIELDS, argument::RAW, argument::PENDING, pending::FIELDS];

const COUNT: usize = {
    let (mut count, mut table) = (0, 0);
    while table < TABLES.len() {
        count += TABLES[table].len();
        table += 1;
    }
    count
};

/// All fields.
pub static FIELDS: &[Field] = &{
    let mut fields = [OWN[0]; COUNT];
    let (mut count, mut table) = (0, 0);
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            fields[count] = TABLES[table][row];
            count += 1;
            row += 1;
        }
        table += 1;
    }
    fields
};

/// What is more than an argument of a call.
#[rustfmt::skip]
const OWN: &[Field] = &[
    // The event.
    one("evt.type", Type::Text, ALL, "Name of the event as Falco has it: `execve`, `clone`, `procexit`, and of system calls their name.", |s| Some(Value::Text(s.event.model().type_name().as_bytes()))),
    one("evt.dir", Type::Text, ALL, "`<`: events are told when they are over, as Falco's leaving of a call.", |_| Some(Value::Text(b"<"))),
    one("evt.kind", Type::Text, ALL, "Kind of event: `exec`, `fork`, `open` … ([all](../events.md)).", |s| Some(Value::Text(s.event.kind().as_bytes()))),
    one("evt.num", Type::Number, ALL, "How many events there were since the start, this one included.", |s| number(s.number as i64)),
    one("evt.source", Type::Text, ALL, "Source of the event: always `syscall`.", |_| Some(Value::Text(b"syscall"))),
    one("evt.category", Type::Text, ALL, "Falco's category: `file`, `net`, `process`, `user`, `signal`, `memory`, `IO-write`, `other`.", |s| Some(Value::Text(category(s.event.header().kind)))),
    one("evt.is_async", Type::Bool, ALL, "Whether the event was made by a plugin: never.", |_| Some(Value::Bool(false))),
    one("evt.hostname", Type::Text, ALL, "This machine's host name.", |_| Some(Value::Text(HOST_NAME.as_bytes()))),
    one("evt.rawtime", Type::Number, ALL, "When, in nanoseconds since 1970 (`CLOCK_REALTIME`).", |s| number(s.time_ns as i64)),
    one("evt.rawtime.s", Type::Number, ALL, "The same in whole seconds.", |s| number((s.time_ns / SECOND) as i64)),
    one("evt.rawtime.ns", Type::Number, ALL, "The rest below a second, in nanoseconds.", |s| number((s.time_ns % SECOND) as i64)),
    one("evt.boottime", Type::Number, ALL, "When, in nanoseconds since the machine started (`CLOCK_BOOTTIME`).", |s| number(s.event.header().boot_ns as i64)),
    one("evt.time", Type::Text, ALL, "When, as UTC text (RFC 3339).", |s| Some(Value::Inline(crate::clock::rfc3339(s.time_ns)))),
    one("evt.time.s", Type::Text, ALL, "Time of the day in UTC, in whole seconds: `12:00:00`.", |s| time(s, 11..19, "")),
    one("evt.time.iso8601", Type::Text, ALL, "As `evt.time`, with `+0000` in place of `Z`.", |s| time(s, 0..29, "+0000")),
    one("evt.datetime", Type::Text, ALL, "Date and time in UTC: `2026-11-24 12:00:00.123456789`.", |s| date_time(s, 29)),
    one("evt.datetime.s", Type::Text, ALL, "Date and time in UTC, in whole seconds.", |s| date_time(s, 19)),
    one("evt.time.minute", Type::Number, ALL, "Minute of the hour, 0 to 59.", |s| number(Calendar::of(s.time_ns).minute as i64)),
    one("evt.time.hour", Type::Number, ALL, "Hour of the day in UTC, 0 to 23.", |s| number(Calendar::of(s.time_ns).hour as i64)),
    one("evt.time.day", Type::Number, ALL, "Day of the month in UTC, 1 to 31.", |s| number(Calendar::of(s.time_ns).day as i64)),
    one("evt.time.week", Type::Number, ALL, "Week of the year in UTC, as ISO 8601 numbers them.", |s| number(Calendar::of(s.time_ns).week as i64)),
    one("evt.time.month", Type::Number, ALL, "Month in UTC, 1 to 12.", |s| number(Calendar::of(s.time_ns).month as i64)),
    one("evt.time.year", Type::Number, ALL, "Year in UTC.", |s| number(Calendar::of(s.time_ns).year as i64)),
    one("evt.rawres", Type::Number, CALLS, "What the call returned: 0 or more, or a negative error number.", |s| number(s.event.model().result()?)),
    one("evt.res", Type::Text, CALLS, "`SUCCESS`, or the error's name such as `ENOENT`.", |s| Some(result_name(s.event.model().result()?))),
    one("evt.failed", Type::Bool, CALLS, "Whether the call failed.", |s| Some(Value::Bool(s.event.model().result()? < 0))),
    one("evt.is_compat", Type::Bool, CALLS, "Whether the call came by the 32-bit entry.", |s| s.event.model().result().map(|_| Value::Bool(s.event.header().flags & header_flag::COMPAT != 0))),
    one("evt.is_open_read", Type::Bool, OPEN, "Whether the file was opened for reading.", |s| Some(Value::Bool(reads(flags(s)?)))),
    one("evt.is_open_write", Type::Bool, OPEN, "Whether the file was opened for writing.", |s| Some(Value::Bool(writes(flags(s)?)))),
    one("evt.is_open_create", Type::Bool, OPEN, "Whether the call was to create the file if it is not there (`O_CREAT`).", |s| Some(Value::Bool(flags(s)? & libc::O_CREAT as u32 != 0))),
    one("evt.is_open_exec", Type::Bool, OPEN, "Whether the call was to create the file if it is not there, and it can be executed.", |s| Some(Value::Bool(flags(s)? & libc::O_CREAT as u32 != 0 && mode(s)? & 0o111 != 0))),
    one("evt.open_flags", Type::Number, OPEN, "Flags of the open call (`O_*`).", |s| number(flags(s)?.into())),
    one("evt.text", Type::Text, kinds_with_role("text"), "What the call was given as a text that names no file: type of a file system, name of a module, an extended attribute, a memfd.", |s| call(s).and_then(|call| non_empty(call.text()?))),
    many_of(Type::Text, ALL, "evt.args", "All that is special to the event, as one text.", |s, test| with_line(s, test)),
    many_of(Type::Text, ALL, "evt.info", "The same as `evt.args`.", |s, test| with_line(s, test)),
    many_of(Type::Path, FS, "evt.abspath", "The whole path that a call is about; of two the first.", |s, test| call(s).is_some_and(|call| shown(call.file, call.base, test))),
    many_of(Type::Path, kinds_with_role("target"), "evt.abspath.src", "Of a call with two paths the first, whole.", |s, test| call_with_target(s).is_some_and(|call| shown(call.file, call.base, test))),
    many_of(Type::Path, kinds_with_role("target"), "evt.abspath.dst", "Of a call with two paths the second, whole.", |s, test| call_with_target(s).is_some_and(|call| shown(call.target, call.target_base, test))),
    one("evt.is_io", Type::Bool, ALL, "Whether it is a write to a file.", |s| Some(Value::Bool(is_write(s)))),
    one("evt.is_io_read", Type::Bool, ALL, "Whether it is a read from a file: these are no events.", |_| Some(Value::Bool(false))),
    one("evt.is_io_write", Type::Bool, ALL, "Whether it is a write to a file.", |s| Some(Value::Bool(is_write(s)))),
    one("evt.count", Type::Number, ALL, "Always 1.", |_| number(1)),
    one("evt.count.exit", Type::Number, ALL, "Always 1: events are told when they are over.", |_| number(1)),
    one("evt.count.error", Type::Number, CALLS, "1 if the call failed, else 0.", |s| number((s.event.model().result()? < 0).into())),
    Field { name: "evt.rawarg", ty: Type::Number, kinds: CALL_KINDS, doc: "Arguments of the call as numbers: any of them, or with `[n]` the n-th (0 is the first).", get: Get::Indexed(raw_argument) },
    one("syscall.type", Type::Text, CALLS | EXEC | FORK, "Name of the system call.", |s| (bit(s.event.header().kind) & (CALLS | EXEC | FORK) != 0).then(|| Value::Text(s.event.model().type_name().as_bytes()))),
    // The process.
    one("proc.name", Type::Text, ALL, "Command name of the process (at most 15 bytes).", |s| Some(Value::Text(s.process.name()))),
    one("proc.exe", Type::Text, ALL, "First argument of the command line.", |s| first_argument(s.process)),
    one("proc.exepath", Type::Path, ALL, "Path of the executable, resolved by the kernel.", |s| exe_path(s.process)),
    one("proc.exe_ino", Type::Number, ALL, "Inode number of the executable.", |s| number(s.process.image.version.ino as i64)),
    one("proc.exe_ino.ctime", Type::Number, ALL, "When the executable's inode was changed last before it was started, in nanoseconds since 1970: nobody can set that time.", |s| ctime(s).and_then(|ctime| number(ctime as i64))),
    one("proc.exe_ino.ctime_duration_proc_start", Type::Number, ALL, "How long that was before the process started, in nanoseconds.", |s| number(real_ns(s, s.process.start())?.checked_sub(ctime(s)?)? as i64)),
    one("proc.exe_ino.ctime_duration_pidns_start", Type::Number, ALL, "How long that was before the first process of the pid namespace started, in nanoseconds.", |s| number(s.time_ns.checked_sub(container_age(s)?)?.checked_sub(ctime(s)?)? as i64)),
    one("proc.exe_sha256", Type::Text, ALL, "SHA-256 of the executable in hexadecimal digits; of a script that of its interpreter. Executables are read only if something asks for this ([how](../events.md#hashes)).", |s| sha256(s.process)),
    one("proc.pexe_sha256", Type::Text, ALL, "SHA-256 of the parent's executable.", |s| sha256(s.processes.parent(s.process)?)),
    ancestors("proc.aexe_sha256", Type::TextList, "SHA-256 of the ancestors' executables; `[n]` as for `proc.aname`.", sha256),
    one("proc.exe_sha256_missing", Type::Text, EXEC, "Why there is no hash: `too_large`, `gone`, `changed`, `unreadable`, `crowded`; `late` if it was not there in time.", |s| Some(Value::Text(sha256_missing(s)?.as_bytes()))),
    one("proc.is_exe_new_in_container", Type::Bool, ALL, "Whether the executable was made, written or changed in any other way (`ctime`) since the container's first process started.", |s| is_exe_new(s).map(Value::Bool)),
    one("proc.filename", Type::Path, ALL, "The name that exec was asked for: for a script, the script.", |s| non_empty(&s.process.image.filename)),
    one("proc.cmdline", Type::Text, ALL, "The command name and all arguments but the first, joined by spaces, as Falco has it.", |s| cmdline(s.process)),
    one("proc.exeline", Type::Text, ALL, "The whole command line as it was given, joined by spaces.", |s| non_empty(&s.process.image.exeline)),
    one("proc.cmdlenargs", Type::Number, ALL, "Bytes of the arguments without the first, spaces between them not counted.", |s| arguments_len(&s.process.image)),
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
    one("proc.pfilename", Type::Path, ALL, "The name that the parent's exec was asked for.", |s| non_empty(&s.processes.parent(s.process)?.image.filename)),
    one("proc.pcmdline", Type::Text, ALL, "Command line of the parent.", |s| cmdline(s.processes.parent(s.process)?)),
    one("proc.pexeline", Type::Text, ALL, "Command line of the parent as it was given.", |s| non_empty(&s.processes.parent(s.process)?.image.exeline)),
    ancestors("proc.aname", Type::TextList, "Command names of the ancestors: any of them, or with `[n]` the n-th (1 is the parent, 0 the process).", |p| Some(Value::Text(p.name()))),
    ancestors("proc.apid", Type::Number, "Process ids of the ancestors; `[n]` as for `proc.aname`.", |p| number(p.key.tgid.into())),
    ancestors("proc.aexe", Type::TextList, "First arguments of the ancestors' command lines; `[n]` as for `proc.aname`.", first_argument),
    ancestors("proc.aexepath", Type::TextList, "Paths of the ancestors' executables; `[n]` as for `proc.aname`.", exe_path),
    ancestors("proc.acmdline", Type::TextList, "Command lines of the ancestors; `[n]` as for `proc.aname`.", cmdline),
    ancestors("proc.aargs", Type::TextList, "Arguments of the ancestors, without the first; `[n]` as for `proc.aname`.", |p| arguments(&p.image)),
    one("proc.sid", Type::Number, ALL, "Session id in the host's pid namespace.", |s| number(s.process.session.into())),
    one("proc.sname", Type::Text, ALL, "Command name of the session's leader: the eldest ancestor of the same session.", |s| Some(Value::Text(leader(s, |process| process.session)?.name()))),
    one("proc.sid.exe", Type::Text, ALL, "First argument of the command line of the session's leader.", |s| first_argument(leader(s, |process| process.session)?)),
    one("proc.sid.exepath", Type::Path, ALL, "Path of the executable of the session's leader.", |s| exe_path(leader(s, |process| process.session)?)),
    one("proc.is_sid_leader", Type::Bool, ALL, "Whether the process leads its session.", |s| leads(s, s.process.session)),
    one("proc.pgid", Type::Number, ALL, "Process group id in the host's pid namespace.", |s| number(s.process.process_group.into())),
    one("proc.pgid.name", Type::Text, ALL, "Command name of the process group's leader: the eldest ancestor of the same group.", |s| Some(Value::Text(leader(s, |process| process.process_group)?.name()))),
    one("proc.pgid.exe", Type::Text, ALL, "First argument of the command line of the process group's leader.", |s| first_argument(leader(s, |process| process.process_group)?)),
    one("proc.pgid.exepath", Type::Path, ALL, "Path of the executable of the process group's leader.", |s| exe_path(leader(s, |process| process.process_group)?)),
    one("proc.is_pgid_leader", Type::Bool, ALL, "Whether the process leads its process group.", |s| leads(s, s.process.process_group)),
    one("proc.vpgid", Type::Number, ALL, "Process group id in its own pid namespace, if the leader is known.", virtual_group),
    one("proc.vpgid.name", Type::Text, ALL, "The same as `proc.pgid.name`.", |s| Some(Value::Text(leader(s, |process| process.process_group)?.name()))),
    one("proc.vpgid.exe", Type::Text, ALL, "The same as `proc.pgid.exe`.", |s| first_argument(leader(s, |process| process.process_group)?)),
    one("proc.vpgid.exepath", Type::Path, ALL, "The same as `proc.pgid.exepath`.", |s| exe_path(leader(s, |process| process.process_group)?)),
    one("proc.is_vpgid_leader", Type::Bool, ALL, "The same as `proc.is_pgid_leader`.", |s| leads(s, s.process.process_group)),
    one("proc.tty", Type::Number, ALL, "Controlling terminal at exec, as in `/proc/PID/stat`; 0 if none.", |s| number(s.process.tty.into())),
    one("proc.duration", Type::Number, ALL, "How long the process has run, in nanoseconds.", |s| number(s.event.header().boot_ns.saturating_sub(s.event.header().start_ns) as i64)),
    one("proc.ppid.duration", Type::Number, ALL, "How long the parent has run, in nanoseconds.", |s| number(s.event.header().boot_ns.checked_sub(parent_start_ns(s)?)? as i64)),
    one("proc.pid.ts", Type::Number, ALL, "When the process was started, in nanoseconds since 1970.", |s| real_time(s, s.event.header().start_ns)),
    one("proc.ppid.ts", Type::Number, ALL, "When the parent was started, in nanoseconds since 1970.", |s| real_time(s, parent_start_ns(s)?)),
    one("proc.is_exe_deleted", Type::Bool, ALL, "Whether the executable was unlinked when it was started.", |s| image_flag(s, path_flag::DELETED)),
    one("proc.is_exe_memfd", Type::Bool, ALL, "Whether the executable is in memory only (memfd) or on a detached mount.", |s| image_flag(s, path_flag::DETACHED)),
    one("proc.is_exe_from_memfd", Type::Bool, ALL, "Whether the executable is a memfd.", is_exe_from_memfd),
    one("proc.is_exe_upper_layer", Type::Bool, ALL, "Whether the executable lies in the container's own writable layer: it was made or changed since the container started.", |s| image_flag(s, path_flag::UPPER_LAYER)),
    one("proc.is_exe_lower_layer", Type::Bool, ALL, "Whether the executable is the image's, unchanged.", |s| image_flag(s, path_flag::IMAGE_LAYER)),
    one("proc.is_from_host", Type::Bool, ALL, "Whether the process runs a program that was started outside of its container: the runtime that sets the container up.", |s| Some(Value::Bool(s.process.from_host && s.container.is_some()))),
    one("proc.is_exec_session", Type::Bool, ALL, "Whether the process was started into its running container from the host (`docker exec`, `kubectl exec`), or comes from such a one.", |s| Some(Value::Bool(s.process.exec_session.is_some() && s.container.is_some()))),
    one("proc.exec_session", Type::Text, ALL, "Identity of the first process of that session.", |s| Some(Value::Inline(Inline::format(format_args!("{}", s.process.exec_session?))))),
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
    one("thread.ismain", Type::Bool, ALL, "Whether the thread is the first of its process.", |s| Some(Value::Bool(s.event.header().tid == s.event.header().tgid))),
    many(ALL, "thread.cap_effective", "Effective capabilities of the process, by name (`CAP_SYS_ADMIN`).", |s, test| named(s.process.credentials.cap_effective, test)),
    many(ALL, "thread.cap_permitted", "Permitted capabilities of the process, by name.", |s, test| named(s.process.credentials.cap_permitted, test)),
    many(ALL, "thread.cap_inheritable", "Inheritable capabilities of the process, by name.", |s, test| named(s.process.credentials.cap_inheritable, test)),
    // Who.
    one("user.uid", Type::Number, ALL, "Effective user id as the host sees it.", |s| number(s.event.header().euid.into())),
    one("user.name", Type::Text, ALL, "Name of the effective user: in a container, as its own `/etc/passwd` has it.", |s| text(s.process.user(s.event.header().euid))),
    one("user.loginname", Type::Text, ALL, "Name of the login user, on the host.", |s| text(s.process.login_name.as_deref())),
    one("user.homedir", Type::Path, ALL, "Home directory of the effective user: in a container, as its own `/etc/passwd` has it.", |s| text(Some(s.process.home_and_shell(s.event.header().euid)?.0))),
    one("user.shell", Type::Path, ALL, "Shell of the effective user: in a container, as its own `/etc/passwd` has it.", |s| text(Some(s.process.home_and_shell(s.event.header().euid)?.1))),
    one("user.ruid", Type::Number, ALL, "Real user id.", |s| user(s.process.credentials.uid)),
    one("user.loginuid", Type::Number, ALL, "Login user id, -1 if unset.", |s| number((s.process.login_uid as i32).into())),
    many(CRED, "user.gained_caps", "Permitted capabilities that the process did not have before, by name.", |s, test| changed_capabilities(s).is_some_and(|(gained, _)| named(gained, test))),
    many(CRED, "user.lost_caps", "Permitted capabilities that the process had before and has no more, by name.", |s, test| changed_capabilities(s).is_some_and(|(_, lost)| named(lost, test))),
    one("user.old_ruid", Type::Number, CRED, "Real user id before the change, if known.", |s| user(old_credentials(s)?.uid)),
    one("user.old_uid", Type::Number, CRED, "Effective user id before the change, if known.", |s| user(old_credentials(s)?.euid)),
    one("group.name", Type::Text, ALL, "Name of the effective group: in a container, as its own `/etc/group` has it.", |s| text(s.process.group(s.event.header().egid))),
    one("group.gid", Type::Number, ALL, "Effective group id as the host sees it.", |s| number(s.event.header().egid.into())),
    // Where.
    one("container.id", Type::Text, ALL, "First 12 characters of the container's id; `host` for processes of the host.", |s| Some(Value::Text(container_id(s)))),
    one("container.full_id", Type::Text, ALL, "The container's whole id.", |s| Some(Value::Text(s.container?.id.as_bytes()))),
    one("container.type", Type::Text, ALL, "Which runtime made the container: `docker`, `podman`, `containerd`, `cri-o`, `oci` (runc or crun by hand), `lxc`, `systemd-nspawn`, `kubernetes` (not known which).", |s| Some(Value::Text(s.container?.runtime.name().as_bytes()))),
    one("container.name", Type::Text, ALL, "The container's name; `host` for processes of the host.", |s| match s.container { None => Some(Value::Text(b"host")), Some(_) => text(metadata(s)?.name.as_deref()) }),
    one("container.image", Type::Text, ALL, "What the container was made from, as it was asked for: repository, and tag or digest.", |s| text(metadata(s)?.image.name.as_deref())),
    one("container.image.id", Type::Text, ALL, "First 12 digits of the image's id.", |s| text(metadata(s)?.image.id.as_deref().map(short))),
    one("container.image.repository", Type::Text, ALL, "The image's name without tag and digest.", |s| text(metadata(s)?.image.repository())),
    one("container.image.tag", Type::Text, ALL, "The image's tag.", |s| text(metadata(s)?.image.tag())),
    one("container.image.digest", Type::Text, ALL, "The image's digest: `sha256:` and 64 digits.", |s| text(metadata(s)?.image.digest.as_deref())),
    one("container.privileged", Type::Bool, ALL, "Whether the container may do what the host's root may: all rights, all devices, nothing hidden. Where its runtime does not tell: whether the process could load modules, reach the hardware, administer and reboot the machine.", |s| { s.container?; let told = metadata(s).and_then(|of| of.is_privileged); Some(Value::Bool(told.unwrap_or(s.process.credentials.cap_bounding & capability::PRIVILEGED == capability::PRIVILEGED))) }),
    one("container.user", Type::Text, ALL, "Whom the container's first process was to run as: a name, or `uid:gid`.", |s| text(metadata(s)?.user.as_deref())),
    one("container.labels", Type::Text, ALL, "Labels, `key:value,key:value`; of a container that runc or crun started by hand its annotations.", |s| label_text(&metadata(s)?.labels)),
    keyed("container.label", "A label by its key: `container.label[app]`.", |s, key| label(&metadata(s)?.labels, key)),
    keyed("container.annotation", "An annotation by its key.", |s, key| label(&metadata(s)?.annotations, key)),
    one("container.annotations", Type::Text, ALL, "Annotations, `key:value,key:value`.", |s| label_text(&metadata(s)?.annotations)),
    many(ALL, "container.mounts", "What of the host is mounted in the container, each as `source:destination:mode:writable:propagation`.", |s, test| metadata(s).is_some_and(|of| of.mounts.iter().any(|mount| test(Value::Text(mount.text().as_bytes()))))),
    keyed("container.mount", "One mount by its number or its path on the host (a pattern, in which `*` stands for anything), as in `container.mounts`.", |s, key| text(mount(s, key, Mount::source).map(Mount::text))),
    keyed("container.mount.source", "Its path on the host, by its number or its path in the container.", |s, key| text(mount(s, key, Mount::destination).map(Mount::source))),
    keyed("container.mount.dest", "Its path in the container, by its number or its path on the host.", |s, key| text(mount(s, key, Mount::source).map(Mount::destination))),
    keyed("container.mount.mode", "Its mode, by its number or its path on the host.", |s, key| text(mount(s, key, Mount::source).map(Mount::mode))),
    keyed("container.mount.rdwr", "`true` if the container can write there, by its number or its path on the host.", |s, key| text(mount(s, key, Mount::source).map(|mount| if mount.is_writable() { "true" } else { "false" }))),
    keyed("container.mount.propagation", "How mounts spread from and to it, by its number or its path on the host.", |s, key| text(mount(s, key, Mount::source).map(Mount::propagation))),
    many(ALL, "container.capabilities", "Capabilities that the container was given at most (its bounding set), by name.", |s, test| metadata(s).and_then(|of| of.capabilities).is_some_and(|set| named(set, test))),
    one("container.created", Type::Number, ALL, "When the container was made, in nanoseconds since 1970.", |s| metadata(s)?.created_ns.map(Value::Number)),
    one("container.start_ts", Type::Number, ALL, "When the first process of its pid namespace started, in nanoseconds since 1970.", |s| number(s.time_ns.checked_sub(container_age(s)?)? as i64)),
    one("container.duration", Type::Number, ALL, "How long that process has run, in nanoseconds.", |s| number(container_age(s)? as i64)),
    one("container.is_pending", Type::Bool, ALL, "Whether it is not known yet what the container is called and was given.", |s| Some(Value::Bool(s.container?.metadata.get().is_none()))),
    one("container.nested", Type::Bool, ALL, "Whether the process runs in a container that was made within this one, or in a sandbox as isolated: it has other namespaces for processes and for mounts than the container's first process.", |s| s.container.map(|_| Value::Bool(is_nested(s)))),
    one("container.cgroup_path", Type::Path, ALL, "The container's cgroup below the v2 root.", |s| Some(Value::Text(s.container?.cgroup_path.as_bytes()))),
    one("k8s.ns.name", Type::Text, ALL, "Namespace of the container's pod.", |s| text(pod(s)?.namespace.as_deref())),
    one("k8s.pod.name", Type::Text, ALL, "Name of the container's pod.", |s| text(pod(s)?.name.as_deref())),
    one("k8s.pod.uid", Type::Text, ALL, "Uid of the container's pod.", pod_uid),
    one("k8s.pod.id", Type::Text, ALL, "The same as `k8s.pod.uid`, which is Falco's newer name for it.", pod_uid),
    one("k8s.workload.kind", Type::Text, ALL, "What keeps the container's pod running: `Deployment`, `StatefulSet`, `DaemonSet`, `CronJob`, `Job` …, if [`kubernetes.workloads`](../events.md#workloads) asks for it; empty for a pod of its own.", |s| text(pod(s)?.workload_kind.as_deref())),
    one("k8s.workload.name", Type::Text, ALL, "What that is called.", |s| text(pod(s)?.workload_name.as_deref())),
    one("k8s.sa.name", Type::Text, ALL, "Service account of the container's pod, asked for with the workload.", |s| text(pod(s)?.service_account.as_deref())),
    one("k8s.pod.labels", Type::Text, ALL, "Labels of the container's pod, `key:value,key:value`.", |s| label_text(&pod(s)?.labels)),
    keyed("k8s.pod.label", "A label of the container's pod by its key.", |s, key| label(&pod(s)?.labels, key)),
    one("k8s.pod.sandbox_id", Type::Text, ALL, "First 12 digits of the id of the pod's sandbox.", |s| text(pod(s)?.sandbox_id.as_deref().map(short))),
    one("k8s.pod.full_sandbox_id", Type::Text, ALL, "Id of the pod's sandbox.", |s| text(pod(s)?.sandbox_id.as_deref())),
    one("k8s.pod.is_sandbox", Type::Bool, ALL, "Whether the container is the pod's sandbox, which runs nothing of the user's.", |s| metadata(s)?.is_sandbox.map(Value::Bool)),
    one("cgroup.id", Type::Number, ALL, "Cgroup id of the thread at the event.", |s| number(s.event.header().cgroup_id as i64)),
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
    one("fd.nameraw", Type::Path, OPEN, "The file's name as the caller gave it (of an open by io_uring there is none): other than `fd.name` it can have been changed since the kernel read it.", |s| non_empty(asked_name(s)?)),
    one("fd.directory", Type::Path, PATHS, "Directory part of the path.", |s| Some(Value::Text(split(fd_path(s)?).0))),
    one("fd.filename", Type::Text, PATHS, "Last part of the path.", |s| Some(Value::Text(split(fd_path(s)?).1))),
    one("fd.num", Type::Number, OPEN | SOCKETS, "Number of the file descriptor; -1 of a failed open.", |s| match s.event { Event::Open(open) => number(open.record.result.max(-1).into()), Event::Connect(connect) => number(connect.record.fd.into()), _ => None }),
    one("fd.type", Type::Text, OBJECTS | NET, "`file`, `directory`, `device`, `pipe`, `ipv4`, `ipv6`, `unix`, `other`.", |s| Some(Value::Text(fd_type(s)?.as_bytes()))),
    one("fd.typechar", Type::Text, OBJECTS | NET, "`fd.type` as Falco's one character: `f` file or device, `d` directory, `p` pipe, `4`, `6`, `u` Unix socket, `o` other; also of a failed open `f`.", |s| Some(Value::Text(fd_type_char(s)?))),
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
    many_of(Type::Text, NET, "fd.rip.name", "Names that the container, or the host, asked for and that the peer's address was an answer to; a connection to an address that nobody asked for has none.", |s, test| names(s, s.event.remote(), test)),
    many_of(Type::Text, NET, "fd.lip.name", "As `fd.rip.name`, of the own address.", |s, test| names(s, s.event.local(), test)),
    many_of(Type::Text, NET, "fd.sip.name", "As `fd.rip.name`, of the server's address.", |s, test| names(s, ends(s).0, test)),
    many_of(Type::Text, NET, "fd.cip.name", "As `fd.rip.name`, of the client's address.", |s, test| names(s, ends(s).1, test)),
    many_of(Type::Address, NET, "fd.ip", "Addresses of both ends: a test holds if it holds for one of them.", |s, test| both_ends(s, &mut |end| test(Value::Address(end.ip())))),
    many_of(Type::Number, NET, "fd.port", "Ports of both ends: a test holds if it holds for one of them.", |s, test| both_ends(s, &mut |end| test(Value::Number(end.port().into())))),
    many_of(Type::Address, NET, "fd.net", "The same as `fd.ip`, to compare with a network.", |s, test| both_ends(s, &mut |end| test(Value::Address(end.ip())))),
    one("fd.rnet", Type::Address, NET, "The same as `fd.rip`, to compare with a network.", |s| address(s.event.remote())),
    one("fd.lnet", Type::Address, NET, "The same as `fd.lip`, to compare with a network.", |s| address(s.event.local())),
    one("fd.snet", Type::Address, NET, "The same as `fd.sip`, to compare with a network.", |s| address(ends(s).0)),
    one("fd.cnet", Type::Address, NET, "The same as `fd.cip`, to compare with a network.", |s| address(ends(s).1)),
    one("fd.is_server", Type::Bool, NET, "Whether the process is the server's end.", |s| s.event.remote().or(s.event.local()).map(|_| Value::Bool(serves(s)))),
    one("fd.connected", Type::Bool, NET, "Whether the socket has a connection now.", |s| is_connected(s).map(Value::Bool)),
    one("fd.name_changed", Type::Bool, NET, "Whether the event gave the socket its peer: a connect, an accept, the first datagram of a flow.", |s| is_connected(s).map(|_| Value::Bool(!matches!(s.event, Event::Flow(_)) && s.event.remote().is_some()))),
    one("fd.sockfamily", Type::Text, NET, "`ip` or `unix`.", |s| match fd_type(s)? { "ipv4" | "ipv6" => Some(Value::Text(b"ip")), "unix" => Some(Value::Text(b"unix")), _ => None }),
    many_of(Type::Text, FD, "fd.containername", "Container id and `fd.name`, joined by a colon.", |s, test| fd_name(s).is_some_and(|name| with_container(s, name, test))),
    many_of(Type::Text, PATHS, "fd.containerdirectory", "Container id and `fd.directory`, joined by a colon.", |s, test| fd_path(s).is_some_and(|path| with_container(s, Value::Text(split(path).0), test))),
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
    many_of(Type::Path, OPEN | FS, "fs.path.name", "The whole path that a call is about; of two the first.", |s, test| named_path(s).is_some_and(|(file, base)| shown(file, base, test))),
    one("fs.path.nameraw", Type::Path, OPEN | FS, "The same as the caller gave it, if no object told the path.", |s| non_empty(named_path(s)?.0)),
    many_of(Type::Path, kinds_with_role("target"), "fs.path.source", "Of a call with two paths (rename, link, mount …) the first, whole.", |s, test| call_with_target(s).is_some_and(|call| shown(call.file, call.base, test))),
    one("fs.path.sourceraw", Type::Path, kinds_with_role("target"), "Of a call with two paths the first, as the caller gave it.", |s| non_empty(call_with_target(s)?.file)),
    many_of(Type::Path, kinds_with_role("target"), "fs.path.target", "Of a call with two paths the second, whole.", |s, test| call_with_target(s).is_some_and(|call| shown(call.target, call.target_base, test))),
    one("fs.path.targetraw", Type::Path, kinds_with_role("target"), "Of a call with two paths the second, as the caller gave it.", |s| non_empty(call_with_target(s)?.target)),
];

//! Where the log has a field's values. What it does not have is not in the table, so that a search for it is an error
//! and not a search without result.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use hashbrown::HashMap;

use super::super::field::{Inline, Value};
use super::super::model::open::{reads, writes};
use super::super::table::{self, category, result_name, short, split};
use super::super::{capability, kind_id, path};
use super::{Json, Object, Record};
use crate::clock::Calendar;
use crate::enrich::metadata::split_image;
use crate::rules::pattern::glob;

/// Called with each value until it returns true.
pub type Test<'t> = &'t mut dyn FnMut(Value<'_>) -> bool;

/// How to get values of a record.
#[derive(Clone, Copy)]
pub enum Get {
    /// One.
    One(for<'r> fn(&'r Record<'_>) -> Option<Value<'r>>),
    /// Several.
    Each(fn(&Record<'_>, Test<'_>) -> bool),
    /// By their names.
    Keyed(for<'r> fn(&'r Record<'_>, &[u8]) -> Option<Value<'r>>),
    /// An argument of a call: our names of it.
    Argument(&'static [&'static str]),
}

/// In which records the log has a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Wherever it applies.
    Everywhere,
    /// Only in those of these kinds of event: others have it in rules.
    Kinds(&'static str),
    /// Only in records of the kind `container`.
    Containers,
}

/// How the log has a field.
#[derive(Clone, Copy)]
pub struct Logged {
    /// How to get its values.
    pub get: Get,
    /// In which records.
    pub place: Where,
}

/// How the log has the field of that name, if it does.
pub fn of_field(name: &str) -> Option<Logged> {
    static BY_NAME: LazyLock<HashMap<&'static str, Logged>> = LazyLock::new(|| {
        let arguments =
            table::argument::OWN_NAMES.iter().flat_map(|(name, raw, own)| [(*name, own), (*raw, own)]);
        // Of an exec the log has neither.
        let arguments = arguments.filter(|(name, _)| !name.ends_with(".pgid") && !name.ends_with(".vtid"));
        let arguments =
            arguments.map(|(name, own)| (name, Logged { get: Get::Argument(own), place: Where::Everywhere }));
        arguments
            .chain(TABLE.iter().map(|(name, place, get)| (*name, Logged { get: *get, place: *place })))
            .collect()
    });
    BY_NAME.get(name).copied()
}

/// The names in the table.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, ..)| *name)
}

use Get::{Each, Keyed, One};
const ALL: Where = Where::Everywhere;
const EXEC: Where = Where::Kinds("exec");
const RIGHTS: Where = Where::Kinds("exec, cred");
const CONTAINERS: Where = Where::Containers;

#[rustfmt::skip]
const TABLE: &[(&str, Where, Get)] = &[
    ("evt.type", ALL, One(|r| text(r.event()?, "type"))),
    ("evt.dir", ALL, One(|r| r.event().map(|_| Value::Text(b"<")))),
    ("evt.kind", ALL, One(|r| text(r.event()?, "kind"))),
    ("evt.source", ALL, One(|r| r.event().map(|_| Value::Text(b"syscall")))),
    ("evt.category", ALL, One(|r| Some(Value::Text(category(kind_id(r.event_kind())?))))),
    ("evt.is_async", ALL, One(|r| r.event().map(|_| Value::Bool(false)))),
    ("evt.hostname", ALL, One(|r| text(&r.top, "node"))),
    ("evt.rawtime", ALL, One(|r| number(r.time_ns()? as i64))),
    ("evt.rawtime.s", ALL, One(|r| number((r.time_ns()? / SECOND) as i64))),
    ("evt.rawtime.ns", ALL, One(|r| number((r.time_ns()? % SECOND) as i64))),
    ("evt.boottime", ALL, One(|r| number(r.top.number("boot_ns")?))),
    ("evt.time", ALL, One(|r| text(&r.top, "time"))),
    ("evt.time.s", ALL, One(|r| Some(Value::Text(r.top.text("time")?.get(11..19)?)))),
    ("evt.time.iso8601", ALL, One(|r| inline(r.top.str("time")?.get(..29)?, "+0000", ""))),
    ("evt.datetime", ALL, One(|r| { let time = r.top.str("time")?; inline(time.get(..10)?, " ", time.get(11..29)?) })),
    ("evt.datetime.s", ALL, One(|r| { let time = r.top.str("time")?; inline(time.get(..10)?, " ", time.get(11..19)?) })),
    ("evt.time.minute", ALL, One(|r| number(Calendar::of(r.time_ns()?).minute as i64))),
    ("evt.time.hour", ALL, One(|r| number(Calendar::of(r.time_ns()?).hour as i64))),
    ("evt.time.day", ALL, One(|r| number(Calendar::of(r.time_ns()?).day as i64))),
    ("evt.time.week", ALL, One(|r| number(Calendar::of(r.time_ns()?).week as i64))),
    ("evt.time.month", ALL, One(|r| number(Calendar::of(r.time_ns()?).month as i64))),
    ("evt.time.year", ALL, One(|r| number(Calendar::of(r.time_ns()?).year as i64))),
    ("evt.rawres", ALL, One(|r| number(result(r)?))),
    ("evt.res", ALL, One(|r| Some(result_name(result(r)?)))),
    ("evt.failed", ALL, One(|r| Some(Value::Bool(result(r)? < 0)))),
    ("evt.is_compat", ALL, One(|r| result(r).map(|_| Value::Bool(r.event().and_then(|event| event.bool("compat")) == Some(true))))),
    ("evt.is_open_read", ALL, One(|r| Some(Value::Bool(reads(open_flags(r)?))))),
    ("evt.is_open_write", ALL, One(|r| Some(Value::Bool(writes(open_flags(r)?))))),
    ("evt.is_open_create", ALL, One(|r| Some(Value::Bool(open_flags(r)? & libc::O_CREAT as u32 != 0)))),
    ("evt.is_open_exec", ALL, One(|r| Some(Value::Bool(open_flags(r)? & libc::O_CREAT as u32 != 0 && mode(r)? & 0o111 != 0)))),
    ("evt.open_flags", ALL, One(|r| number(open_flags(r)?.into()))),
    ("evt.text", ALL, One(|r| { call(r)?; non_empty(r.event()?.text("text")?) })),
    ("evt.abspath", ALL, Each(|r, test| call(r).is_some_and(|event| whole(event, "file", "base", test)))),
    ("evt.abspath.src", ALL, Each(|r, test| call_with_target(r).is_some_and(|event| whole(event, "file", "base", test)))),
    ("evt.abspath.dst", ALL, Each(|r, test| call_with_target(r).is_some_and(|event| whole(event, "target", "target_base", test)))),
    ("evt.is_io", ALL, One(|r| r.event().map(|_| Value::Bool(r.event_kind() == "write")))),
    ("evt.is_io_read", ALL, One(|r| r.event().map(|_| Value::Bool(false)))),
    ("evt.is_io_write", ALL, One(|r| r.event().map(|_| Value::Bool(r.event_kind() == "write")))),
    ("evt.count", ALL, One(|r| r.event().map(|_| Value::Number(1)))),
    ("evt.count.exit", ALL, One(|r| r.event().map(|_| Value::Number(1)))),
    ("evt.count.error", ALL, One(|r| number((result(r)? < 0).into()))),
    ("syscall.type", ALL, One(|r| { let is_call = result(r).is_some() || matches!(r.event_kind(), "exec" | "fork") || call(r).is_some(); if is_call { text(r.event()?, "type") } else { None } })),
    // The process.
    ("proc.name", ALL, One(|r| text(r.process()?, "name"))),
    ("proc.exe", ALL, One(|r| match exec(r) { Some(event) => non_empty(event.list("args").first()?.text()?), None => non_empty(words(r)?.0) })),
    ("proc.exepath", ALL, One(|r| non_empty(r.process()?.text("exe")?))),
    ("proc.exe_ino", EXEC, One(|r| number(exec(r)?.number("exe_ino").unwrap_or(0)))),
    ("proc.exe_sha256", EXEC, One(|r| text(exec(r)?, "exe_sha256"))),
    ("proc.exe_sha256_missing", EXEC, One(|r| text(exec(r)?, "exe_sha256_missing"))),
    ("proc.filename", EXEC, One(|r| non_empty(exec(r)?.text("filename")?))),
    ("proc.cmdline", ALL, Each(|r, test| command_line(r, r.process().and_then(|process| process.text("name")), test))),
    ("proc.exeline", ALL, Each(|r, test| match exec(r) { Some(_) => command_line(r, None, test), None => r.process().and_then(|process| non_empty(process.text("cmdline")?)).is_some_and(test) })),
    ("proc.args", ALL, Each(arguments)),
    ("proc.arg", EXEC, Each(|r, test| exec(r).is_some_and(|event| texts(event.list("args").get(1..).unwrap_or_default(), test)))),
    ("proc.nargs", EXEC, One(|r| number(known_arguments(r)?.number("arg_count")?))),
    ("proc.cmdnargs", EXEC, One(|r| number(known_arguments(r)?.number("arg_count")?.saturating_sub(1).max(0)))),
    ("proc.cwd", EXEC, One(|r| non_empty(exec(r)?.text("cwd")?))),
    ("proc.pid", ALL, One(|r| number(r.process()?.number("pid")?))),
    ("proc.vpid", ALL, One(|r| number(r.process()?.number("vpid")?))),
    ("proc.key", ALL, One(|r| text(r.process()?, "key"))),
    ("proc.ppid", ALL, One(|r| number(r.process()?.str("parent_key")?.split('-').next()?.parse().ok()?))),
    ("proc.pkey", ALL, One(|r| text(r.process()?, "parent_key"))),
    ("proc.pname", ALL, One(|r| text(r.process()?, "parent_name"))),
    ("proc.pexepath", ALL, One(|r| non_empty(r.process()?.text("parent_exe")?))),
    ("proc.sid", EXEC, One(|r| number(exec(r)?.number("session")?))),
    ("proc.is_sid_leader", EXEC, One(|r| { let session = exec(r)?.number("session")?; (session != 0).then_some(Value::Bool(Some(session) == r.process()?.number("pid"))) })),
    ("proc.tty", EXEC, One(|r| number(exec(r)?.number("tty")?))),
    ("proc.is_exe_deleted", EXEC, One(|r| exe_is(r, "deleted"))),
    ("proc.is_exe_memfd", EXEC, One(|r| exe_is(r, "detached"))),
    ("proc.is_exe_upper_layer", EXEC, One(|r| exe_is(r, "upper_layer"))),
    ("proc.is_exe_lower_layer", EXEC, One(|r| exe_is(r, "image_layer"))),
    ("proc.is_exec_session", ALL, One(|r| Some(Value::Bool(r.process()?.get("exec_session").is_some() && r.container().is_some())))),
    ("proc.exec_session", ALL, One(|r| text(r.process()?, "exec_session"))),
    ("proc.exit_code", ALL, One(|r| number(of_kind(r, "exit")?.number("code")?))),
    ("proc.exit_signal", ALL, One(|r| number(of_kind(r, "exit")?.number("signal")?))),
    ("proc.core_dumped", ALL, One(|r| of_kind(r, "exit")?.bool("core_dumped").map(Value::Bool))),
    ("proc.duration", Where::Kinds("exit"), One(|r| number(of_kind(r, "exit")?.number("duration_ns")?))),
    ("proc.child.pid", ALL, One(|r| number(of_kind(r, "fork")?.number("child_pid")?))),
    ("proc.child.vpid", ALL, One(|r| number(of_kind(r, "fork")?.number("child_vpid")?))),
    ("proc.child.key", ALL, One(|r| text(of_kind(r, "fork")?, "child_key"))),
    ("proc.clone_flags", ALL, One(|r| number(of_kind(r, "fork")?.number("clone_flags")?))),
    ("proc.exec_tid", ALL, One(|r| { let event = exec(r)?; number(event.number("exec_tid").or(r.process()?.number("tid"))?) })),
    ("proc.nenv", ALL, One(|r| number(exec(r)?.number("env_count")?))),
    ("proc.cap_effective", RIGHTS, One(|r| number(set(rights(r)?, "cap_effective")? as i64))),
    ("proc.cap_permitted", RIGHTS, One(|r| number(set(rights(r)?, "cap_permitted")? as i64))),
    ("thread.cap_effective", RIGHTS, Each(|r, test| rights(r).is_some_and(|event| capabilities(event, "cap_effective", test)))),
    ("thread.cap_permitted", RIGHTS, Each(|r, test| rights(r).is_some_and(|event| capabilities(event, "cap_permitted", test)))),
    ("thread.cap_inheritable", RIGHTS, Each(|r, test| rights(r).is_some_and(|event| capabilities(event, "cap_inheritable", test)))),
    ("thread.tid", ALL, One(|r| number(r.process()?.number("tid")?))),
    ("thread.name", ALL, One(|r| { let process = r.process()?; text(process, "thread_name").or(text(process, "name")) })),
    ("thread.ismain", ALL, One(|r| { let process = r.process()?; Some(Value::Bool(process.number("tid")? == process.number("pid")?)) })),
    // Who.
    ("user.uid", ALL, One(|r| number(r.process()?.number("uid")?))),
    ("user.name", ALL, One(|r| non_empty(r.process()?.text("user")?))),
    ("user.loginname", ALL, One(|r| non_empty(r.process()?.text("login_user")?))),
    ("user.loginuid", ALL, One(|r| number(r.process()?.number("login_uid")?))),
    ("user.ruid", RIGHTS, One(|r| number(rights(r)?.number("ruid").filter(|id| *id != i64::from(u32::MAX))?))),
    ("user.gained_caps", ALL, Each(|r, test| of_kind(r, "cred").is_some_and(|event| texts(event.list("gained_caps"), test)))),
    ("user.lost_caps", ALL, Each(|r, test| of_kind(r, "cred").is_some_and(|event| texts(event.list("lost_caps"), test)))),
    ("user.old_ruid", ALL, One(|r| number(of_kind(r, "cred")?.number("old_ruid")?))),
    ("user.old_uid", ALL, One(|r| number(of_kind(r, "cred")?.number("old_euid")?))),
    ("group.name", ALL, One(|r| non_empty(r.process()?.text("group")?))),
    ("group.gid", ALL, One(|r| number(r.process()?.number("gid")?))),
    // Where.
    ("container.id", ALL, One(|r| match r.top.get("container")? { Json::Object(container) => Some(Value::Text(short(container.str("id")?).as_bytes())), _ => Some(Value::Text(b"host")) })),
    ("container.full_id", ALL, One(|r| text(r.container()?, "id"))),
    ("container.type", ALL, One(|r| text(r.container()?, "runtime"))),
    ("container.name", ALL, One(|r| match r.top.get("container")? { Json::Object(container) => non_empty(container.text("name")?), _ => Some(Value::Text(b"host")) })),
    ("container.image", ALL, One(|r| non_empty(r.container()?.text("image")?))),
    ("container.image.repository", ALL, One(|r| non_empty(split_image(r.container()?.str("image")?).0.as_bytes()))),
    ("container.image.tag", ALL, One(|r| non_empty(split_image(r.container()?.str("image")?).1?.as_bytes()))),
    ("container.image.id", CONTAINERS, One(|r| non_empty(short(r.container()?.str("image_id")?).as_bytes()))),
    ("container.image.digest", CONTAINERS, One(|r| non_empty(r.container()?.text("image_digest")?))),
    ("container.privileged", CONTAINERS, One(|r| r.container()?.bool("is_privileged").map(Value::Bool))),
    ("container.user", CONTAINERS, One(|r| non_empty(r.container()?.text("user")?))),
    ("container.label", CONTAINERS, Keyed(|r, key| label(r, "labels", key))),
    ("container.annotation", CONTAINERS, Keyed(|r, key| label(r, "annotations", key))),
    ("container.mount.source", CONTAINERS, Keyed(|r, key| text(mount(r, key, "destination")?, "source"))),
    ("container.mount.dest", CONTAINERS, Keyed(|r, key| text(mount(r, key, "source")?, "destination"))),
    ("container.capabilities", CONTAINERS, Each(|r, test| r.container().is_some_and(|container| texts(container.list("capabilities"), test)))),
    ("k8s.ns.name", ALL, One(|r| non_empty(r.container()?.text("pod_namespace")?))),
    ("k8s.pod.name", ALL, One(|r| non_empty(r.container()?.text("pod_name")?))),
    ("k8s.pod.uid", ALL, One(|r| non_empty(r.container()?.text("pod_uid")?))),
    ("k8s.pod.id", ALL, One(|r| non_empty(r.container()?.text("pod_uid")?))),
    ("k8s.workload.kind", ALL, One(|r| non_empty(r.container()?.text("workload_kind")?))),
    ("k8s.workload.name", ALL, One(|r| non_empty(r.container()?.text("workload_name")?))),
    ("k8s.sa.name", ALL, One(|r| non_empty(r.container()?.text("service_account")?))),
    ("k8s.pod.label", CONTAINERS, Keyed(|r, key| label(r, "pod_labels", key))),
    ("k8s.pod.sandbox_id", CONTAINERS, One(|r| non_empty(short(r.container()?.str("pod_sandbox_id")?).as_bytes()))),
    ("k8s.pod.full_sandbox_id", CONTAINERS, One(|r| non_empty(r.container()?.text("pod_sandbox_id")?))),
    ("k8s.pod.is_sandbox", CONTAINERS, One(|r| r.container()?.bool("is_sandbox").map(Value::Bool))),
    ("cgroup.id", ALL, One(|r| number(r.process()?.number("cgroup_id")?))),
    ("container.nested", ALL, One(|r| r.container().map(|of| Value::Bool(of.bool("nested") == Some(true))))),
    ("container.cgroup_path", ALL, One(|r| text(r.container()?, "cgroup_path"))),
    ("ns.mnt", ALL, One(|r| number(r.process()?.number("mnt_ns")?))),
    ("ns.pid", ALL, One(|r| number(r.process()?.number("pid_ns")?))),
    // To whom it was done.
    ("target.pid", ALL, One(|r| number(known_target(r)?.number("pid")?))),
    ("target.vpid", ALL, One(|r| number(r.target()?.number("vpid")?))),
    ("target.key", ALL, One(|r| text(known_target(r)?, "key"))),
    ("target.name", ALL, One(|r| text(r.target()?, "name"))),
    ("target.exepath", ALL, One(|r| non_empty(r.target()?.text("exe")?))),
    ("target.container.id", ALL, One(|r| match r.target()?.get("container_id")? { Json::Text(id) => Some(Value::Text(short(std::str::from_utf8(id).ok()?).as_bytes())), _ => Some(Value::Text(b"host")) })),
    ("target.is_other_container", ALL, One(|r| { let of_target = r.target()?.get("container_id")?.text(); Some(Value::Bool(of_target != r.container().and_then(|own| own.text("id")))) })),
    ("signal.number", ALL, One(|r| number(of_kind(r, "signal")?.number("signal")?))),
    ("signal.name", ALL, One(|r| text(of_kind(r, "signal")?, "signal_name"))),
    ("signal.outcome", ALL, One(|r| text(of_kind(r, "signal")?, "outcome"))),
    // The file or the connection.
    ("fd.name", ALL, One(|r| match fd_path(r) { Some(path) => Some(Value::Text(path)), None => { let (remote, local) = (remote(r)?, local(r)?); Some(Value::Inline(Inline::format(format_args!("{local}->{remote}")))) } })),
    ("fd.nameraw", ALL, One(|r| { let name = if result(r)? < 0 { "file" } else { "asked" }; non_empty(of_kind(r, "open")?.text(name)?) })),
    ("fd.rip.name", ALL, One(|r| text(network(r)?, "remote_name"))),
    ("fd.directory", ALL, One(|r| Some(Value::Text(split(fd_path(r)?).0)))),
    ("fd.filename", ALL, One(|r| Some(Value::Text(split(fd_path(r)?).1)))),
    ("fd.num", ALL, One(|r| match r.event_kind() { "open" => number(result(r)?.max(-1)), _ => number(socket(r)?.number("fd")?) })),
    ("fd.type", ALL, One(|r| Some(Value::Text(fd_type(r)?.as_bytes())))),
    ("fd.typechar", ALL, One(|r| match fd_type(r) { Some(name) => Some(Value::Text(table::type_char(name))), None => (r.event_kind() == "open").then_some(Value::Text(b"f")) })),
    ("fd.ino", ALL, One(|r| number(of_path(r, "_ino")?.number()?))),
    ("fd.dev", ALL, One(|r| { let (major, minor) = device(r)?; number(major << 20 | minor) })),
    ("fd.dev.major", ALL, One(|r| number(device(r)?.0))),
    ("fd.dev.minor", ALL, One(|r| number(device(r)?.1))),
    ("fd.mode", ALL, One(|r| number(mode(r)?.into()))),
    ("fd.links", ALL, One(|r| number(opened(r)?.number("links")?))),
    ("fd.owner", ALL, One(|r| number(opened(r)?.number("owner")?))),
    ("fd.is_set_id", ALL, One(|r| mode(r).map(|mode| Value::Bool(mode & libc::S_IFMT == libc::S_IFREG && mode & 0o6000 != 0)))),
    ("fd.is_unverified", ALL, One(|r| path_is(r, "unverified"))),
    ("fd.is_outside_root", ALL, One(|r| object_is(r, "outside_root"))),
    ("fd.is_in_chroot", ALL, One(|r| object_is(r, "chroot"))),
    ("fd.is_deleted", ALL, One(|r| object_is(r, "deleted"))),
    ("fd.is_cut", ALL, One(|r| path_is(r, "incomplete"))),
    ("fd.is_upper_layer", ALL, One(|r| object_is(r, "upper_layer"))),
    ("fd.is_image_layer", ALL, One(|r| object_is(r, "image_layer"))),
    ("fd.is_tmpfs", ALL, One(|r| object_is(r, "tmpfs"))),
    ("fd.is_host_mount", ALL, One(|r| object_is(r, "host_mount"))),
    ("fd.l4proto", ALL, One(|r| { network(r)?; text(r.event()?, "protocol") })),
    ("fd.rip", ALL, One(|r| ip(remote(r)))),
    ("fd.rport", ALL, One(|r| port(remote(r)))),
    ("fd.lip", ALL, One(|r| ip(local(r)))),
    ("fd.lport", ALL, One(|r| port(local(r)))),
    ("fd.sip", ALL, One(|r| ip(ends(r).0))),
    ("fd.sport", ALL, One(|r| port(ends(r).0))),
    ("fd.cip", ALL, One(|r| ip(ends(r).1))),
    ("fd.cport", ALL, One(|r| port(ends(r).1))),
    ("fd.ip", ALL, Each(|r, test| both_ends(r, &mut |end| test(Value::Address(end.ip()))))),
    ("fd.port", ALL, Each(|r, test| both_ends(r, &mut |end| test(Value::Number(end.port().into()))))),
    ("fd.net", ALL, Each(|r, test| both_ends(r, &mut |end| test(Value::Address(end.ip()))))),
    ("fd.rnet", ALL, One(|r| ip(remote(r)))),
    ("fd.lnet", ALL, One(|r| ip(local(r)))),
    ("fd.snet", ALL, One(|r| ip(ends(r).0))),
    ("fd.cnet", ALL, One(|r| ip(ends(r).1))),
    ("fd.is_server", ALL, One(|r| remote(r).or(local(r)).map(|_| Value::Bool(serves(r))))),
    ("fd.connected", ALL, One(|r| is_connected(r).map(Value::Bool))),
    ("fd.name_changed", ALL, One(|r| is_connected(r).map(|_| Value::Bool(r.event_kind() != "flow" && remote(r).is_some())))),
    ("fd.sockfamily", ALL, One(|r| match fd_type(r)? { "ipv4" | "ipv6" => Some(Value::Text(b"ip")), "unix" => Some(Value::Text(b"unix")), _ => None })),
    ("fd.source", ALL, One(|r| text(socket(r)?, "address_source"))),
    ("flow.direction", ALL, One(|r| text(of_kind(r, "flow")?, "direction"))),
    ("flow.sent", ALL, One(|r| number(of_kind(r, "flow")?.number("sent_bytes")?))),
    ("flow.received", ALL, One(|r| number(of_kind(r, "flow")?.number("received_bytes")?))),
    ("flow.duration", ALL, One(|r| number(of_kind(r, "flow")?.number("duration_ns")?))),
    ("flow.error", ALL, One(|r| text(of_kind(r, "flow")?, "error"))),
    ("flow.is_established", ALL, One(|r| of_kind(r, "flow")?.bool("established").map(Value::Bool))),
    ("udp.direction", ALL, One(|r| text(of_kind(r, "udp")?, "direction"))),
    ("udp.bytes", ALL, One(|r| number(of_kind(r, "udp")?.number("bytes")?))),
    ("dns.question.name", ALL, One(|r| text(of_kind(r, "dns")?, "question_name"))),
    ("dns.question.type", ALL, One(|r| text(of_kind(r, "dns")?, "question_type"))),
    ("dns.type", ALL, One(|r| text(of_kind(r, "dns")?, "message"))),
    ("dns.id", ALL, One(|r| number(of_kind(r, "dns")?.number("id")?))),
    ("dns.rcode", ALL, One(|r| text(of_kind(r, "dns")?, "rcode"))),
    ("dns.answers", ALL, Each(|r, test| of_kind(r, "dns").is_some_and(|event| event.list("answers").iter().any(|answer| match answer { Json::Object(answer) => text(answer, "data").is_some_and(&mut *test), _ => false })))),
    ("dns.direction", ALL, One(|r| text(of_kind(r, "dns")?, "direction"))),
    ("dns.bytes", ALL, One(|r| number(of_kind(r, "dns")?.number("message_bytes")?))),
    ("dns.is_cut", ALL, One(|r| Some(Value::Bool(of_kind(r, "dns")?.get("message_there_bytes").is_some())))),
    ("dns.is_malformed", ALL, One(|r| Some(Value::Bool(of_kind(r, "dns")?.bool("malformed") == Some(true))))),
    ("fs.path.name", ALL, Each(|r, test| named(r).is_some_and(|event| whole(event, "file", "base", test)))),
    ("fs.path.nameraw", ALL, One(|r| non_empty(named(r)?.text("file")?))),
    ("fs.path.source", ALL, Each(|r, test| call_with_target(r).is_some_and(|event| whole(event, "file", "base", test)))),
    ("fs.path.sourceraw", ALL, One(|r| non_empty(call_with_target(r)?.text("file")?))),
    ("fs.path.target", ALL, Each(|r, test| call_with_target(r).is_some_and(|event| whole(event, "target", "target_base", test)))),
    ("fs.path.targetraw", ALL, One(|r| non_empty(call_with_target(r)?.text("target")?))),
];

const SECOND: u64 = 1_000_000_000;

pub(super) fn number<'r>(value: i64) -> Option<Value<'r>> {
    Some(Value::Number(value))
}

pub(super) fn text<'r>(object: &'r Object<'_>, name: &str) -> Option<Value<'r>> {
    object.text(name).map(Value::Text)
}

pub(super) fn non_empty(text: &[u8]) -> Option<Value<'_>> {
    (!text.is_empty()).then_some(Value::Text(text))
}

fn inline<'r>(start: &str, middle: &str, end: &str) -> Option<Value<'r>> {
    Some(Value::Inline(Inline::format(format_args!("{start}{middle}{end}"))))
}

fn texts(items: &[Json<'_>], test: Test<'_>) -> bool {
    items.iter().filter_map(Json::text).any(|text| test(Value::Text(text)))
}

/// The event, if it is of that kind.
fn of_kind<'r, 'a>(record: &'r Record<'a>, kind: &str) -> Option<&'r Object<'a>> {
    record.event().filter(|event| event.str("kind") == Some(kind))
}

fn exec<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    of_kind(record, "exec")
}

/// An event that tells rights.
fn rights<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    exec(record).or_else(|| of_kind(record, "cred"))
}

/// An event of a socket.
fn socket<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    record.event().filter(|_| matches!(record.event_kind(), "connect" | "bind" | "listen" | "accept" | "dup"))
}

fn network<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    socket(record)
        .or_else(|| record.event().filter(|_| matches!(record.event_kind(), "flow" | "udp" | "dns")))
}

/// An event that is a system call by itself: these have their arguments.
fn call<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    record.event().filter(|event| event.object("args").is_some())
}

fn call_with_target<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    call(record).filter(|event| event.text("target").is_some())
}

/// An event about a named path.
fn named<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    call(record).or_else(|| of_kind(record, "open"))
}

/// The target, if it is one that was known.
fn known_target<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    record.target().filter(|target| target.text("name").is_some())
}

pub(super) fn result(record: &Record<'_>) -> Option<i64> {
    record.event()?.number("result")
}

pub(super) fn open_flags(record: &Record<'_>) -> Option<u32> {
    of_kind(record, "open")?.number("flags")?.try_into().ok()
}

fn mode(record: &Record<'_>) -> Option<u32> {
    u32::from_str_radix(named(record)?.str("mode")?, 8).ok()
}

fn opened<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    of_kind(record, "open").filter(|event| event.number("result") >= Some(0))
}

fn whole(event: &Object<'_>, name: &str, base: &str, test: Test<'_>) -> bool {
    let (name, base) = (event.text(name).unwrap_or_default(), event.text(base).unwrap_or_default());
    path::whole(name, base, &mut |path| test(Value::Text(path)))
}

/// First argument and the rest. The log has a command line as one text: the first argument is taken to end at its first
/// space.
fn words<'r>(record: &'r Record<'_>) -> Option<(&'r [u8], &'r [u8])> {
    let line = record.process()?.text("cmdline").filter(|line| !line.is_empty())?;
    Some(match memchr::memchr(b' ', line) {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => (line, b""),
    })
}

/// The event of an exec whose arguments are known.
fn known_arguments<'r, 'a>(record: &'r Record<'a>) -> Option<&'r Object<'a>> {
    exec(record).filter(|event| !event.list("args").is_empty())
}

pub(super) fn arguments(record: &Record<'_>, test: Test<'_>) -> bool {
    match exec(record) {
        Some(event) if event.list("args").is_empty() => false,
        Some(event) => test(Value::Text(&joined(event.list("args").get(1..).unwrap_or_default()))),
        None => words(record).is_some_and(|(_, rest)| test(Value::Text(rest))),
    }
}

/// The command line, with its first argument or another word in its place.
fn command_line(record: &Record<'_>, first: Option<&[u8]>, test: Test<'_>) -> bool {
    let line = match (exec(record), first) {
        (Some(event), _) if event.list("args").is_empty() => return false,
        (Some(event), None) => joined(event.list("args")),
        (Some(event), Some(first)) => {
            let rest = event.list("args").get(1..).unwrap_or_default();
            [first, if rest.is_empty() { b"" } else { b" " }, &joined(rest)].concat()
        }
        (None, first) => {
            let Some((word, rest)) = words(record) else { return false };
            [first.unwrap_or(word), if rest.is_empty() { b"" } else { b" " }, rest].concat()
        }
    };
    !line.is_empty() && test(Value::Text(&line))
}

fn joined(items: &[Json<'_>]) -> Vec<u8> {
    items.iter().filter_map(Json::text).collect::<Vec<_>>().join(&b' ')
}

/// A set of bits, which the log has as hexadecimal digits.
pub(super) fn set(event: &Object<'_>, name: &str) -> Option<u64> {
    u64::from_str_radix(event.str(name)?, 16).ok()
}

fn capabilities(event: &Object<'_>, name: &str, test: Test<'_>) -> bool {
    let names = set(event, name).into_iter().flat_map(capability::names);
    names.into_iter().any(|name| test(Value::Text(name.as_bytes())))
}

/// Whether the executable is so, of an exec.
fn exe_is<'r>(record: &'r Record<'_>, flag: &str) -> Option<Value<'r>> {
    let event = exec(record)?;
    (!event.text("exe")?.is_empty()).then(|| Value::Bool(has_flag(event.list("exe_flags"), flag)))
}

fn has_flag(flags: &[Json<'_>], flag: &str) -> bool {
    flags.iter().any(|item| item.text() == Some(flag.as_bytes()))
}

fn label<'r>(record: &'r Record<'_>, labels: &str, key: &[u8]) -> Option<Value<'r>> {
    non_empty(record.container()?.object(labels)?.text(std::str::from_utf8(key).ok()?)?)
}

/// The first mount of that number, or whose path, on that side, fits a pattern.
fn mount<'r, 'a>(record: &'r Record<'a>, key: &[u8], side: &str) -> Option<&'r Object<'a>> {
    let mut mounts = record.container()?.list("mounts").iter().filter_map(|mount| match mount {
        Json::Object(mount) => Some(mount),
        _ => None,
    });
    match std::str::from_utf8(key).ok()?.parse::<usize>() {
        Ok(number) => mounts.nth(number),
        Err(_) => mounts.find(|mount| mount.text(side).is_some_and(|path| glob(key, path, false))),
    }
}

/// What the event's file or socket is called in its members.
fn path_name(record: &Record<'_>) -> Option<&'static str> {
    if socket(record).is_some() { Some("path") } else { named(record).map(|_| "file") }
}

pub(super) fn fd_path<'r>(record: &'r Record<'_>) -> Option<&'r [u8]> {
    record.event()?.text(path_name(record)?).filter(|path| !path.is_empty())
}

/// A member that belongs to the path.
fn of_path<'r, 'a>(record: &'r Record<'a>, suffix: &str) -> Option<&'r Json<'a>> {
    let name = path_name(record)?;
    record.event()?.get(&[name, suffix].concat())
}

/// Major and minor number of the device of the object behind the path.
fn device(record: &Record<'_>) -> Option<(i64, i64)> {
    let device = std::str::from_utf8(of_path(record, "_dev")?.text()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn path_is<'r>(record: &'r Record<'_>, flag: &str) -> Option<Value<'r>> {
    record.event()?.get(path_name(record)?)?;
    Some(Value::Bool(matches!(of_path(record, "_flags"), Some(Json::List(flags)) if has_flag(flags, flag))))
}

/// A flag of the object behind the path; none of a name without an object.
fn object_is<'r>(record: &'r Record<'_>, flag: &str) -> Option<Value<'r>> {
    of_path(record, "_ino")?;
    path_is(record, flag)
}

fn end(event: &Object<'_>, ip: &str, port: &str) -> Option<SocketAddr> {
    let ip: IpAddr = event.str(ip)?.parse().ok()?;
    Some(SocketAddr::new(ip, event.number(port)?.try_into().ok()?))
}

pub(super) fn remote(record: &Record<'_>) -> Option<SocketAddr> {
    end(network(record)?, "remote_ip", "remote_port")
}

pub(super) fn local(record: &Record<'_>) -> Option<SocketAddr> {
    end(network(record)?, "local_ip", "local_port")
}

fn ip<'r>(end: Option<SocketAddr>) -> Option<Value<'r>> {
    Some(Value::Address(end?.ip()))
}

fn port<'r>(end: Option<SocketAddr>) -> Option<Value<'r>> {
    number(end?.port().into())
}

fn both_ends(record: &Record<'_>, test: &mut dyn FnMut(SocketAddr) -> bool) -> bool {
    let (server, client) = ends(record);
    server.is_some_and(&mut *test) || client.is_some_and(test)
}

/// Server and client.
fn ends(record: &Record<'_>) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let (remote, local) = (remote(record), local(record));
    if serves(record) { (local, remote) } else { (remote, local) }
}

/// Whether the process is the server.
fn serves(record: &Record<'_>) -> bool {
    let Some(event) = record.event() else { return false };
    let direction = event.str("direction");
    match record.event_kind() {
        "flow" | "udp" => direction == Some("in"),
        "dns" => (event.str("message") == Some("answer")) == (direction == Some("out")),
        kind => !matches!(kind, "connect" | "dup"),
    }
}

fn is_connected(record: &Record<'_>) -> Option<bool> {
    match record.event_kind() {
        "connect" | "accept" => Some(result(record)? >= 0),
        "dup" => Some(remote(record).is_some()),
        "bind" | "listen" | "udp" | "dns" => Some(false),
        "flow" => record.event()?.bool("established"),
        _ => None,
    }
}

fn fd_type(record: &Record<'_>) -> Option<&'static str> {
    if let Some(mode) = mode(record) {
        return Some(table::file_type(mode));
    }
    let family = socket(record).and_then(|event| event.number("family"));
    match remote(record).or(local(record)) {
        _ if family == Some(libc::AF_UNIX.into()) => Some("unix"),
        Some(end) => Some(if end.is_ipv4() { "ipv4" } else { "ipv6" }),
        None => socket(record).map(|_| "other"),
    }
}

//! How to get what a field names.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::LazyLock;

use taffrail_common::event::{Path, path_flag};
use taffrail_common::kind;

use super::super::field::{Inline, Value};
use super::super::model::{Target, cred, flow, udp};
use super::super::path;
use super::super::{Call, Connect, Dns, Event, Open, capability, errno};
use crate::enrich::Subject;
use crate::enrich::container::Container;
use crate::enrich::image::Image;
use crate::enrich::metadata::{Labels, Metadata, Mount, Pod};
use crate::enrich::process::Process;
use crate::rules::pattern::glob;

pub(super) fn number<'a>(value: i64) -> Option<Value<'a>> {
    Some(Value::Number(value))
}

pub(super) fn non_empty(text: &[u8]) -> Option<Value<'_>> {
    (!text.is_empty()).then_some(Value::Text(text))
}

pub(super) fn text(text: Option<&str>) -> Option<Value<'_>> {
    non_empty(text?.as_bytes())
}

/// What is known of the container.
pub(super) fn metadata<'a>(subject: &Subject<'a>) -> Option<&'a Metadata> {
    subject.container?.metadata.get()
}

pub(super) fn pod<'a>(subject: &Subject<'a>) -> Option<&'a Pod> {
    metadata(subject)?.pod.as_ref()
}

pub(super) fn pod_uid<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    let told = pod(subject).and_then(|pod| pod.uid.as_deref());
    text(told.or(subject.container?.pod_uid.as_deref()))
}

pub(super) fn label_text(labels: &Labels) -> Option<Value<'_>> {
    text(Some(labels.text()))
}

pub(super) fn label<'a>(labels: &'a Labels, key: &[u8]) -> Option<Value<'a>> {
    text(labels.get(std::str::from_utf8(key).ok()?))
}

/// The first mount of that number, or whose path, on that side, fits a pattern.
pub(super) fn mount<'a>(subject: &Subject<'a>, key: &[u8], side: fn(&Mount) -> &str) -> Option<&'a Mount> {
    let mounts = &metadata(subject)?.mounts;
    match std::str::from_utf8(key).ok()?.parse::<usize>() {
        Ok(number) => mounts.get(number),
        Err(_) => mounts.iter().find(|mount| glob(key, side(mount).as_bytes(), false)),
    }
}

/// Whether the process is in namespaces that were made within its container.
pub fn is_nested(subject: &Subject<'_>) -> bool {
    let header = subject.event.header();
    let Some(first) = subject.container.and_then(|container| container.first.get()) else { return false };
    let (pid_ns, mnt_ns) = first.namespaces;
    // A runtime on its way in is still the host's; and what ran before Taffrail may not be known to that detail.
    let is_known = pid_ns != 0 && mnt_ns != 0 && header.pid_ns != 0 && !subject.process.from_host;
    is_known && header.pid_ns != pid_ns && header.mnt_ns != mnt_ns
}

/// How long the first process of the pid namespace has run, in ns; none in the host's.
pub(super) fn container_age(subject: &Subject<'_>) -> Option<u64> {
    let header = subject.event.header();
    let first = subject.processes.target(&Target::Numbered(1), header.pid_ns)?;
    subject.container?;
    (first.key.tgid != 1).then(|| header.boot_ns.saturating_sub(first.start()))
}

pub fn result_name<'a>(result: i64) -> Value<'a> {
    match (result, u32::try_from(result.unsigned_abs()).ok().and_then(errno::name)) {
        (0.., _) => Value::Text(b"SUCCESS"),
        (_, Some(name)) => Value::Text(name.as_bytes()),
        (_, None) => Value::Inline(Inline::format(format_args!("E{}", result.unsigned_abs()))),
    }
}

/// The open call's flags, if they could be read.
pub(super) fn flags(subject: &Subject<'_>) -> Option<u32> {
    match subject.event {
        Event::Open(open) => open.flags(),
        _ => None,
    }
}

/// The identities of a process and its ancestors, its own first.
pub(super) fn lineage(subject: &Subject<'_>, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let ancestors = subject.processes.ancestors(subject.process);
    let mut all = std::iter::once(subject.process).chain(ancestors);
    all.any(|process| test(Value::Inline(Inline::format(format_args!("{}", process.key)))))
}

pub(super) fn first_argument(process: &Process) -> Option<Value<'_>> {
    non_empty(process.image.args.split(|&byte| byte == 0).next()?)
}

pub(super) fn exe_path(process: &Process) -> Option<Value<'_>> {
    non_empty(&process.image.exe)
}

pub(super) fn ctime(subject: &Subject<'_>) -> Option<u64> {
    Some(subject.process.image.version.ctime_ns).filter(|ctime| *ctime != 0)
}

pub(super) fn sha256(process: &Process) -> Option<Value<'_>> {
    Some(Value::Text(process.image.digest()?.as_ref().ok()?.as_bytes()))
}

/// Why an exec has no hash, where one was asked for.
pub fn sha256_missing(subject: &Subject<'_>) -> Option<&'static str> {
    let slot = matches!(subject.event, Event::Exec(_)).then_some(subject.process.image.digest.get()?)?;
    match slot.get() {
        None => Some("late"),
        Some(Err(missing)) => Some(missing.name()),
        Some(Ok(_)) => None,
    }
}

/// Whether the executable was changed since the container's first process started. That one's start is known to the tick,
/// and so is the kernel's clock for files.
pub fn is_exe_new(subject: &Subject<'_>) -> Option<bool> {
    // What a runtime brings along to get in is not the container's.
    let container = subject.container.filter(|_| !subject.process.from_host)?;
    let first = real_ns(subject, container.first.get()?.key.start_ns())?;
    Some(ctime(subject)? >= first)
}

pub(super) fn cmdline(process: &Process) -> Option<Value<'_>> {
    non_empty(&process.image.cmdline)
}

pub(super) fn arguments(image: &Image) -> Option<Value<'_>> {
    let first = image.args.iter().position(|&byte| byte == 0)?;
    Some(Value::Text(image.exeline.get(first + 1..).unwrap_or_default()))
}

pub(super) fn each_argument(process: &Process, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let args = &process.image.args;
    let args = args.strip_suffix(b"\0").unwrap_or(args);
    args.split(|&byte| byte == 0).skip(1).any(|argument| test(Value::Text(argument)))
}

/// A number of the command line, if there is one at all.
pub(super) fn known<'a>(image: &Image, value: i64) -> Option<Value<'a>> {
    (!image.args.is_empty()).then_some(Value::Number(value))
}

pub(super) fn image_flag<'a>(subject: &Subject<'a>, flag: u32) -> Option<Value<'a>> {
    (!subject.process.image.exe.is_empty())
        .then_some(Value::Bool(subject.process.image.exe_flags & flag != 0))
}

pub(super) fn is_exe_from_memfd<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    let Image { exe, exe_flags, .. } = &*subject.process.image;
    let name = exe.strip_prefix(b"/").unwrap_or(exe);
    // Detached alone could be a mount; the name alone anybody can give a file.
    let memfd = exe_flags & path_flag::DETACHED != 0 && name.starts_with(b"memfd:");
    (!exe.is_empty()).then_some(Value::Bool(memfd))
}

/// The eldest of the process and its ancestors that are of one session or process group.
pub(super) fn leader<'a>(subject: &Subject<'a>, of: fn(&Process) -> u32) -> Option<&'a Process> {
    let id = of(subject.process);
    let eldest = subject.processes.ancestors(subject.process).take_while(|process| of(process) == id).last();
    (id != 0).then_some(eldest.unwrap_or(subject.process))
}

/// Whether the process has given a session or process group its number.
pub(super) fn leads<'a>(subject: &Subject<'a>, id: u32) -> Option<Value<'a>> {
    (id != 0).then_some(Value::Bool(subject.process.key.tgid == id))
}

pub(super) fn virtual_group<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    let leader = leader(subject, |process| process.process_group)?;
    (leader.key.tgid == leader.process_group).then_some(Value::Number(leader.ns_tgid.into()))
}

pub(super) fn parent_start_ns(subject: &Subject<'_>) -> Option<u64> {
    Some(subject.processes.parent(subject.process)?.start_ns).filter(|start| *start != 0)
}

/// A time of the boot clock by the wall clock.
pub(super) fn real_time<'a>(subject: &Subject<'a>, boot_ns: u64) -> Option<Value<'a>> {
    number(real_ns(subject, boot_ns)? as i64)
}

pub(super) fn real_ns(subject: &Subject<'_>, boot_ns: u64) -> Option<u64> {
    let ago = subject.event.header().boot_ns.checked_sub(boot_ns)?;
    subject.time_ns.checked_sub(ago)
}

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) static HOST_NAME: LazyLock<String> = LazyLock::new(crate::enrich::cgroup::host_name);

/// A part of the time as text.
pub(super) fn time<'a>(subject: &Subject<'a>, part: Range<usize>, zone: &str) -> Option<Value<'a>> {
    let whole = crate::clock::rfc3339(subject.time_ns);
    let text = std::str::from_utf8(whole.as_bytes().get(part)?).ok()?;
    Some(Value::Inline(Inline::format(format_args!("{text}{zone}"))))
}

pub(super) fn date_time<'a>(subject: &Subject<'a>, end: usize) -> Option<Value<'a>> {
    let whole = crate::clock::rfc3339(subject.time_ns);
    let text = std::str::from_utf8(whole.as_bytes()).ok()?;
    let (date, time) = (text.get(..10)?, text.get(11..end)?);
    Some(Value::Inline(Inline::format(format_args!("{date} {time}"))))
}

pub fn category(kind: u16) -> &'static [u8] {
    match kind {
        kind::OPEN | kind::CHANGE | kind::MOUNT => b"file",
        kind::WRITE => b"IO-write",
        kind::CONNECT | kind::BIND | kind::LISTEN | kind::ACCEPT | kind::SOCKET => b"net",
        kind::FLOW | kind::UDP | kind::DNS => b"net",
        kind::DUP => b"IO-other",
        kind::EXEC | kind::FORK | kind::EXIT => b"process",
        kind::CRED => b"user",
        kind::SIGNAL => b"signal",
        kind::MEMORY => b"memory",
        _ => b"other",
    }
}

pub(super) fn is_write(subject: &Subject<'_>) -> bool {
    subject.event.header().kind == kind::WRITE
}

/// What people are shown of the event: a text that is made only where a rule asks for it.
pub(super) fn with_line(subject: &Subject<'_>, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let mut line = String::new();
    subject.event.model().write_line(subject, &mut line);
    test(Value::Text(line.as_bytes()))
}

/// The whole path of a name.
pub(super) fn shown(name: &[u8], base: &[u8], test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    path::whole(name, base, &mut |path| test(Value::Text(path)))
}

/// The path that a call is about, and where it starts if it is relative.
pub(super) fn named_path<'a>(subject: &Subject<'a>) -> Option<(&'a [u8], &'a [u8])> {
    match subject.event {
        Event::Open(open) => Some((open.file, open.base)),
        _ => call(subject).map(|call| (call.file, call.base)),
    }
}

/// The name of an open as the caller gave it.
pub(super) fn asked_name<'a>(subject: &Subject<'a>) -> Option<&'a [u8]> {
    let Event::Open(open) = subject.event else { return None };
    Some(if open.record.result < 0 { open.file } else { open.asked })
}

pub(super) fn call_with_target<'a>(subject: &Subject<'a>) -> Option<&'a Call<'a>> {
    call(subject).filter(|call| call.target_path().is_some())
}

/// Both ends of a connection, as far as they are known.
pub(super) fn both_ends(subject: &Subject<'_>, test: &mut dyn FnMut(SocketAddr) -> bool) -> bool {
    let (server, client) = ends(subject);
    server.is_some_and(&mut *test) || client.is_some_and(test)
}

/// What an address is called.
pub(super) fn names(
    subject: &Subject<'_>,
    end: Option<SocketAddr>,
    test: &mut dyn FnMut(Value<'_>) -> bool,
) -> bool {
    end.is_some_and(|end| subject.answers.any_name(end.ip(), &mut |name| test(Value::Text(name))))
}

pub(super) fn is_connected(subject: &Subject<'_>) -> Option<bool> {
    match subject.event {
        Event::Connect(connect) => {
            let kind = connect.record.header.kind;
            let is_made = matches!(kind, kind::CONNECT | kind::ACCEPT) && connect.record.result >= 0;
            Some(is_made || kind == kind::DUP && connect.record.remote_port != 0)
        }
        Event::Flow(flow) => Some(flow::is_established(flow)),
        Event::Udp(_) | Event::Dns(_) => Some(false),
        _ => None,
    }
}

/// A text with the container's id before it: made only where a rule asks for it.
pub(super) fn with_container(
    subject: &Subject<'_>,
    value: Value<'_>,
    test: &mut dyn FnMut(Value<'_>) -> bool,
) -> bool {
    let text = [container_id(subject), b":", value.text().unwrap_or_default()].concat();
    test(Value::Text(&text))
}

pub(super) fn arguments_len<'a>(image: &Image) -> Option<Value<'a>> {
    let rest = image.args.iter().position(|&byte| byte == 0).and_then(|end| image.args.get(end + 1..))?;
    number(rest.iter().filter(|&&byte| byte != 0).count() as i64)
}

pub(super) fn named(set: u64, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    capability::names(set).any(|name| test(Value::Text(name.as_bytes())))
}

/// A user id; none if it is not known.
pub(super) fn user<'a>(id: u32) -> Option<Value<'a>> {
    (id != u32::MAX).then_some(Value::Number(id.into()))
}

pub(super) fn old_credentials<'a>(subject: &Subject<'a>) -> Option<&'a taffrail_common::event::Credentials> {
    match subject.event {
        Event::Cred(cred) => cred::old(cred, subject),
        _ => None,
    }
}

/// Gained and lost.
pub(super) fn changed_capabilities(subject: &Subject<'_>) -> Option<(u64, u64)> {
    match subject.event {
        Event::Cred(cred) => Some(cred::changed_capabilities(cred, cred::old(cred, subject)?)),
        _ => None,
    }
}

pub(super) fn sent<'a>(subject: &Subject<'a>) -> Option<&'a taffrail_common::event::Signal> {
    match subject.event {
        Event::Signal(signal) => Some(signal),
        _ => None,
    }
}

pub(super) fn exit_status(subject: &Subject<'_>) -> Option<u32> {
    match subject.event {
        Event::Exit(exit) => Some(exit.wait_status),
        _ => None,
    }
}

pub(super) fn thread_name<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    Some(Value::Text(crate::enrich::process::trim_nul(&subject.event.header().comm)))
}

/// Falco's short id.
pub fn container_id<'a>(subject: &Subject<'a>) -> &'a [u8] {
    short_id(subject.container)
}

pub(super) fn short_id(container: Option<&Container>) -> &[u8] {
    container.map_or(b"host", |container| short(&container.id).as_bytes())
}

/// An id as people write it.
pub fn short(id: &str) -> &str {
    const SHORT: usize = 12;
    if id.len() == 64 { id.get(..SHORT).unwrap_or(id) } else { id }
}

pub(super) fn opened<'a>(subject: &Subject<'a>) -> Option<&'a Open<'a>> {
    match subject.event {
        Event::Open(open) if open.record.result >= 0 => Some(open),
        _ => None,
    }
}

pub(super) fn connect<'a>(subject: &Subject<'a>) -> Option<&'a Connect<'a>> {
    match subject.event {
        Event::Connect(connect) => Some(connect),
        _ => None,
    }
}

pub(super) fn call<'a>(subject: &Subject<'a>) -> Option<&'a Call<'a>> {
    match subject.event {
        Event::Call(call) => Some(call),
        _ => None,
    }
}

pub(super) fn flow_of<'a>(subject: &Subject<'a>) -> Option<&'a taffrail_common::event::Flow> {
    match subject.event {
        Event::Flow(flow) => Some(flow),
        _ => None,
    }
}

pub(super) fn dns<'a>(subject: &Subject<'a>) -> Option<&'a Dns<'a>> {
    match subject.event {
        Event::Dns(dns) => Some(dns),
        _ => None,
    }
}

pub(super) fn raw_argument<'a>(subject: &Subject<'a>, index: u32) -> Option<Value<'a>> {
    let value = call(subject)?.record.args.get(index as usize)?;
    Some(Value::Number(*value as i64))
}

/// Server and client.
pub(super) fn ends(subject: &Subject<'_>) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let (remote, local) = (subject.event.remote(), subject.event.local());
    if serves(subject) { (local, remote) } else { (remote, local) }
}

/// Whether the process is the server.
pub(super) fn serves(subject: &Subject<'_>) -> bool {
    match subject.event {
        Event::Flow(flow) => flow::direction(flow) == "in",
        // Of a datagram that came in the own end is the server.
        Event::Udp(udp) => udp::direction_name(udp.direction) == "in",
        // Whoever answers is the server.
        Event::Dns(dns) => dns.is_answer() == (udp::direction_name(dns.record.direction) == "out"),
        // Of a copied descriptor nobody knows; a shell that calls home is the client.
        event => !matches!(event.header().kind, kind::CONNECT | kind::DUP),
    }
}

pub(super) fn mode(subject: &Subject<'_>) -> Option<u32> {
    let mode = match subject.event {
        Event::Open(open) => open.record.mode,
        Event::Call(call) => call.record.mode,
        _ => 0,
    };
    (mode != 0).then_some(mode)
}

/// The object behind the path, if there is one.
pub(super) fn object(subject: &Subject<'_>) -> Option<Path> {
    let (_, path) = subject.event.model().path()?;
    (path.ino != 0).then_some(path)
}

/// A flag of the object behind the path; none of a name without an object.
pub(super) fn object_is<'a>(subject: &Subject<'a>, flag: u32) -> Option<Value<'a>> {
    Some(Value::Bool(object(subject)?.flags & flag != 0))
}

pub(super) fn path_is<'a>(subject: &Subject<'a>, flag: u32) -> Option<Value<'a>> {
    Some(Value::Bool(subject.event.model().path()?.1.flags & flag != 0))
}

pub(super) fn fd_path<'a>(subject: &Subject<'a>) -> Option<&'a [u8]> {
    let path = match subject.event {
        Event::Open(open) => open.file,
        Event::Connect(connect) => connect.path,
        Event::Call(call) => call.file,
        _ => return None,
    };
    (!path.is_empty()).then_some(path)
}

pub(super) fn fd_name<'a>(subject: &Subject<'a>) -> Option<Value<'a>> {
    if let Some(path) = fd_path(subject) {
        return Some(Value::Text(path));
    }
    let (remote, local) = (subject.event.remote()?, subject.event.local()?);
    Some(Value::Inline(Inline::format(format_args!("{local}->{remote}"))))
}

/// Directory and last part.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

pub(super) fn fd_type(subject: &Subject<'_>) -> Option<&'static str> {
    if let Some(mode) = mode(subject) {
        return Some(file_type(mode));
    }
    match (subject.event, subject.event.remote().or(subject.event.local())) {
        (Event::Connect(connect), _) if i32::from(connect.record.family) == libc::AF_UNIX => Some("unix"),
        (_, Some(address)) => Some(if address.is_ipv4() { "ipv4" } else { "ipv6" }),
        (Event::Connect(_), None) => Some("other"),
        _ => None,
    }
}

/// Falco's one character for a type.
pub(super) fn fd_type_char(subject: &Subject<'_>) -> Option<&'static [u8]> {
    let Some(name) = fd_type(subject) else {
        // Falco takes what could not be opened for a file.
        return matches!(subject.event, Event::Open(_)).then_some(b"f");
    };
    Some(type_char(name))
}

/// What sort of file a mode is of.
pub fn file_type(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFREG => "file",
        libc::S_IFDIR => "directory",
        libc::S_IFCHR | libc::S_IFBLK => "device",
        libc::S_IFIFO => "pipe",
        _ => "other",
    }
}

/// Falco's one character for a name of `fd.type`.
pub fn type_char(name: &str) -> &'static [u8] {
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

pub(super) fn address<'a>(address: Option<SocketAddr>) -> Option<Value<'a>> {
    Some(Value::Address(address?.ip()))
}

pub(super) fn port<'a>(address: Option<SocketAddr>) -> Option<Value<'a>> {
    number(address?.port().into())
}

//! An event as JSON members, written straight into a buffer: what the audit log and `trace --json` have.
//! `docs/events.md` describes the shape.

use std::io::Write as _;

use taffrail_common::event::{Path, header_flag, path_flag};

use super::constant::Names;
use super::model::Target;
use super::table::is_nested;
use super::text::json_string;
use super::{Event, capability};
use crate::enrich::Subject;
use crate::enrich::container::Container;
use crate::enrich::metadata::{Image, Labels, Metadata};
use crate::enrich::process::{Process, trim_nul};

/// Appends `"event":{…},"process":{…},"target":{…},"container":{…}`, without outer braces.
pub fn write_subject(subject: &Subject<'_>, out: &mut Vec<u8>) {
    let mut members = Members::open(out, "event");
    write_event(subject, &mut members);
    members.close();
    out.push(b',');
    let mut members = Members::open(out, "process");
    write_process(subject, &mut members);
    members.close();
    out.push(b',');
    if let Some(target) = subject.event.model().target() {
        write_target(subject, &target, out);
        out.push(b',');
    }
    write_container_of(subject, out);
}

fn write_event(subject: &Subject<'_>, out: &mut Members<'_>) {
    let event = subject.event;
    out.text("kind", event.kind().as_bytes());
    out.text("type", event.model().type_name().as_bytes());
    if event.header().flags & header_flag::COMPAT != 0 {
        out.bool("compat", true);
    }
    if event.header().flags & header_flag::IO_URING != 0 {
        out.bool("io_uring", true);
    }
    event.model().write_json(subject, out);
}

fn write_process(subject: &Subject<'_>, out: &mut Members<'_>) {
    let process = subject.process;
    let header = subject.event.header();
    out.raw("key", format_args!("\"{}\"", process.key));
    out.number("pid", process.key.tgid.into());
    out.number("vpid", process.ns_tgid.into());
    out.number("tid", header.tid.into());
    out.text("name", process.name());
    out.text("exe", &process.image.exe);
    // An exec has its arguments already.
    if !matches!(subject.event, Event::Exec(_)) {
        out.text("cmdline", &process.image.exeline);
    }
    let thread = trim_nul(&header.comm);
    if thread != process.name() {
        out.text("thread_name", thread);
    }
    out.number("uid", header.euid.into());
    out.number("gid", header.egid.into());
    out.number("login_uid", (process.login_uid as i32).into());
    out.optional("user", process.user(header.euid));
    out.optional("group", process.group(header.egid));
    out.optional("login_user", process.login_name.as_deref());
    if let Some(session) = process.exec_session {
        out.raw("exec_session", format_args!("\"{session}\""));
    }
    out.number("cgroup_id", header.cgroup_id as i64);
    out.number("mnt_ns", header.mnt_ns.into());
    out.number("pid_ns", header.pid_ns.into());
    out.raw("parent_key", format_args!("\"{}\"", process.parent));
    if let Some(parent) = subject.processes.parent(process) {
        write_parent(parent, out);
    }
}

fn write_parent(parent: &Process, out: &mut Members<'_>) {
    out.text("parent_name", parent.name());
    out.text("parent_exe", &parent.image.exe);
}

/// Appends `"target":{…}`: to whom it was done. Of one that the table does not know only what the event tells.
fn write_target(subject: &Subject<'_>, target: &Target, out: &mut Vec<u8>) {
    let mut members = Members::open(out, "target");
    match *target {
        Target::Known { tgid, ns_tgid, start_ns, cgroup_id } => {
            members.raw("key", format_args!("\"{}\"", subject.processes.key(tgid, start_ns)));
            members.number("pid", tgid.into());
            members.number("vpid", ns_tgid.into());
            if cgroup_id != 0 {
                members.number("cgroup_id", cgroup_id as i64);
            }
        }
        Target::Numbered(pid) => {
            if let Some(process) = subject.target {
                members.raw("key", format_args!("\"{}\"", process.key));
                members.number("pid", process.key.tgid.into());
            }
            members.number("vpid", pid.into());
        }
    }
    if let Some(process) = subject.target {
        members.text("name", process.name());
        members.text("exe", &process.image.exe);
        match process.container.as_deref() {
            Some(container) => members.text("container_id", container.id.as_bytes()),
            None => members.raw("container_id", format_args!("null")),
        }
    }
    members.close();
}

/// As [`write_container`], with what is special to the process.
fn write_container_of(subject: &Subject<'_>, out: &mut Vec<u8>) {
    let Some(container) = subject.container else { return write_container(None, out) };
    let mut members = Members::open(out, "container");
    write_names(container, &mut members);
    if is_nested(subject) {
        members.bool("nested", true);
    }
    members.close();
}

/// Appends `"container":{…}`, or `"container":null` for the host.
pub fn write_container(container: Option<&Container>, out: &mut Vec<u8>) {
    let Some(container) = container else {
        out.extend_from_slice(b"\"container\":null");
        return;
    };
    let mut members = Members::open(out, "container");
    write_names(container, &mut members);
    members.close();
}

/// What each event has of its container.
fn write_names(container: &Container, out: &mut Members<'_>) {
    let Container { id, runtime, pod_uid, cgroup_path, metadata, first: _, answers: _, watched: _ } =
        container;
    let known = metadata.get();
    let pod = known.and_then(|known| known.pod.as_ref());
    out.text("id", id.as_bytes());
    out.text("runtime", runtime.name().as_bytes());
    out.optional("name", known.and_then(|known| known.name.as_deref()));
    out.optional("image", known.and_then(|known| known.image.name.as_deref()));
    out.optional("pod_name", pod.and_then(|pod| pod.name.as_deref()));
    out.optional("pod_namespace", pod.and_then(|pod| pod.namespace.as_deref()));
    out.optional("pod_uid", pod.and_then(|pod| pod.uid.as_deref()).or(pod_uid.as_deref()));
    out.optional("workload_kind", pod.and_then(|pod| pod.workload_kind.as_deref()));
    out.optional("workload_name", pod.and_then(|pod| pod.workload_name.as_deref()));
    out.optional("service_account", pod.and_then(|pod| pod.service_account.as_deref()));
    out.text("cgroup_path", cgroup_path.as_bytes());
    if known.is_none() {
        out.bool("pending", true);
    }
}

/// Appends `"container":{…}` with all that is known, and `"problems":[…]` if there are any.
pub fn write_whole_container(container: &Container, problems: &[String], out: &mut Vec<u8>) {
    let mut members = Members::open(out, "container");
    write_names(container, &mut members);
    if let Some(metadata) = container.metadata.get() {
        write_metadata(metadata, &mut members);
    }
    if !container.watched.get() {
        members.bool("watched", false);
    }
    members.close();
    if !problems.is_empty() {
        out.push(b',');
        Members::within(out).strings("problems", problems.iter().map(String::as_str));
    }
}

fn write_metadata(metadata: &Metadata, out: &mut Members<'_>) {
    let Metadata {
        name: _,
        image,
        pod,
        is_sandbox,
        is_privileged,
        user,
        capabilities,
        created_ns,
        labels,
        annotations,
        mounts,
        root: _,
        has_user_namespace,
        is_cut,
    } = metadata;
    let Image { name: _, digest, id } = image;
    out.optional("image_digest", digest.as_deref());
    out.optional("image_id", id.as_deref());
    if let Some(pod) = pod {
        out.optional("pod_sandbox_id", pod.sandbox_id.as_deref());
        out.labels("pod_labels", &pod.labels);
    }
    if let Some(is_sandbox) = is_sandbox {
        out.bool("is_sandbox", *is_sandbox);
    }
    if let Some(is_privileged) = is_privileged {
        out.bool("is_privileged", *is_privileged);
    }
    out.optional("user", user.as_deref());
    if let Some(set) = capabilities {
        out.capabilities("capabilities", *set);
    }
    if let Some(created_ns) = created_ns.and_then(|ns| u64::try_from(ns).ok()) {
        out.text("created", crate::clock::rfc3339(created_ns).as_bytes());
    }
    out.labels("labels", labels);
    out.labels("annotations", annotations);
    if !mounts.is_empty() {
        out.objects("mounts", mounts, |mount, out| {
            out.text("source", mount.source().as_bytes());
            out.text("destination", mount.destination().as_bytes());
            out.bool("writable", mount.is_writable());
        });
    }
    if *has_user_namespace {
        out.bool("has_user_namespace", true);
    }
    if *is_cut {
        out.bool("is_cut", true);
    }
}

/// Writes the members of one object.
pub struct Members<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Members<'a> {
    /// Starts the object `"name":{`.
    pub fn open(out: &'a mut Vec<u8>, name: &str) -> Self {
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":{");
        Self { out, first: true }
    }

    /// Goes on with members of an object that the caller opened and closes.
    pub fn within(out: &'a mut Vec<u8>) -> Self {
        Self { out, first: true }
    }

    /// Ends the object.
    pub fn close(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        self.part(name, "");
    }

    /// The name of a member that belongs to another.
    fn part(&mut self, name: &str, suffix: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A text. If it is not UTF-8, `name_hex` beside it has the exact bytes.
    pub fn text(&mut self, name: &str, text: &[u8]) {
        self.name(name);
        if json_string(text, self.out) {
            self.hex(name, text);
        }
    }

    /// A text, if there is one.
    pub fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text.as_bytes());
        }
    }

    /// An array of texts.
    pub fn strings<'t>(&mut self, name: &str, texts: impl IntoIterator<Item = &'t str>) {
        self.name(name);
        self.out.push(b'[');
        for (n, text) in texts.into_iter().enumerate() {
            if n > 0 {
                self.out.push(b',');
            }
            json_string(text.as_bytes(), self.out);
        }
        self.out.push(b']');
    }

    /// An object whose names may be anything, unless it is empty.
    fn labels(&mut self, name: &str, labels: &Labels) {
        if labels.is_empty() {
            return;
        }
        self.name(name);
        self.out.push(b'{');
        for (n, (key, value)) in labels.iter().enumerate() {
            if n > 0 {
                self.out.push(b',');
            }
            json_string(key.as_bytes(), self.out);
            self.out.push(b':');
            json_string(value.as_bytes(), self.out);
        }
        self.out.push(b'}');
    }

    /// Texts that end with NUL, as an array; `name_hex` has all of them if one is not UTF-8.
    pub fn texts(&mut self, name: &str, texts: &[u8]) {
        self.name(name);
        self.out.push(b'[');
        let mut damaged = false;
        let trimmed = texts.strip_suffix(b"\0").unwrap_or(texts);
        if !texts.is_empty() {
            for (n, text) in trimmed.split(|&byte| byte == 0).enumerate() {
                if n > 0 {
                    self.out.push(b',');
                }
                damaged |= json_string(text, self.out);
            }
        }
        self.out.push(b']');
        if damaged {
            self.hex(name, texts);
        }
    }

    fn hex(&mut self, name: &str, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.part(name, "_hex");
        self.out.push(b'"');
        for byte in bytes {
            let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
            self.out.extend_from_slice(&digits);
        }
        self.out.push(b'"');
    }

    /// A number.
    pub fn number(&mut self, name: &str, value: i64) {
        self.raw(name, format_args!("{value}"));
    }

    /// A number and its names: `"flags":5,"flags_names":["A","B"]`, with what has no name in hexadecimal at the end;
    /// of a choice `"request":5,"request_name":"A"`.
    pub fn named(&mut self, name: &str, value: i64, names: &Names) {
        self.number(name, value);
        if names.is_choice {
            if let Some(text) = names.name(value as u64) {
                self.part(name, "_name");
                self.write(format_args!("\"{text}\""));
            }
            return;
        }
        if value == 0 && names.name(0).is_none() {
            return;
        }
        self.part(name, "_names");
        let mut separator = '[';
        let rest = names.each(value as u64, |text| {
            self.write(format_args!("{separator}\"{text}\""));
            separator = ',';
        });
        if rest != 0 {
            self.write(format_args!("{separator}\"{rest:#x}\""));
        }
        self.out.push(b']');
    }

    /// A set of capabilities by name.
    pub fn capabilities(&mut self, name: &str, set: u64) {
        self.name(name);
        let mut separator = '[';
        for text in capability::names(set) {
            self.write(format_args!("{separator}\"{text}\""));
            separator = ',';
        }
        self.write(format_args!("{}]", if separator == '[' { "[" } else { "" }));
    }

    /// A set of bits as 16 hexadecimal digits.
    pub fn hex_number(&mut self, name: &str, value: u64) {
        self.raw(name, format_args!("\"{value:016x}\""));
    }

    /// An object as a member.
    pub fn object(&mut self, name: &str) -> Members<'_> {
        self.name(name);
        self.out.push(b'{');
        Members { out: self.out, first: true }
    }

    /// An array of objects.
    pub fn objects<I: IntoIterator>(
        &mut self,
        name: &str,
        items: I,
        write: impl FnMut(I::Item, &mut Members<'_>),
    ) {
        self.objects_while(name, items, usize::MAX, write);
    }

    /// An array of objects, which ends once it has grown to that many bytes.
    pub fn objects_while<I: IntoIterator>(
        &mut self,
        name: &str,
        items: I,
        max_bytes: usize,
        mut write: impl FnMut(I::Item, &mut Members<'_>),
    ) {
        self.name(name);
        self.out.push(b'[');
        let start = self.out.len();
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                if self.out.len() - start >= max_bytes {
                    break;
                }
                self.out.push(b',');
            }
            self.out.push(b'{');
            write(item, &mut Members { out: self.out, first: true });
            self.out.push(b'}');
        }
        self.out.push(b']');
    }

    /// Yes or no.
    pub fn bool(&mut self, name: &str, value: bool) {
        self.raw(name, format_args!("{value}"));
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        self.name(name);
        self.write(value);
    }

    fn write(&mut self, value: std::fmt::Arguments<'_>) {
        // Writing to memory cannot fail.
        let _ = self.out.write_fmt(value);
    }

    /// A path: its text, its object, and whatever is special about it.
    pub fn path(&mut self, name: &str, text: &[u8], path: &Path) {
        self.text(name, text);
        if path.ino != 0 {
            self.part(name, "_ino");
            self.write(format_args!("{}", path.ino));
            self.part(name, "_dev");
            self.write(format_args!("\"{}:{}\"", path.dev >> 20, path.dev & 0xf_ffff));
        }
        if path.full_len > path.len {
            self.part(name, "_full_bytes");
            self.write(format_args!("{}", path.full_len));
        }
        const FLAGS: &[(u32, &str)] = &[
            (path_flag::OUTSIDE_ROOT, "outside_root"),
            (path_flag::CHROOT, "chroot"),
            (path_flag::DETACHED, "detached"),
            (path_flag::INCOMPLETE, "incomplete"),
            (path_flag::DELETED, "deleted"),
            (path_flag::UNVERIFIED, "unverified"),
            (path_flag::UNREADABLE, "unreadable"),
            (path_flag::UPPER_LAYER, "upper_layer"),
            (path_flag::IMAGE_LAYER, "image_layer"),
            (path_flag::TMPFS, "tmpfs"),
            (path_flag::HOST_MOUNT, "host_mount"),
        ];
        if FLAGS.iter().any(|(flag, _)| path.flags & flag != 0) {
            self.part(name, "_flags");
            let mut separator = b'[';
            for (flag, word) in FLAGS {
                if path.flags & flag != 0 {
                    self.out.push(separator);
                    separator = b',';
                    self.out.push(b'"');
                    self.out.extend_from_slice(word.as_bytes());
                    self.out.push(b'"');
                }
            }
            self.out.push(b']');
        }
    }
}

#[cfg(test)]
mod tests;

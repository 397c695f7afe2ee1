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
mod tests {
    use serde_json::{Value, json};
    use taffrail_common::{call as id, kind};

    use super::*;
    use crate::enrich::container::Runtime;
    use crate::testing::{self, CallParts, with_subject};

    /// The line of the last record, whose process was started before.
    fn line(last: Vec<u8>) -> Value {
        let text = text(last);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// As [`line`], as it is written.
    fn text(last: Vec<u8>) -> String {
        let records = [
            testing::exec(6, 500, (1, 10), "/usr/sbin/sshd", &["sshd"]),
            testing::exec(7, 1_000, (6, 500), "/bin/sh", &["sh", "-c", "true"]),
            last,
        ];
        let mut out = b"{".to_vec();
        with_subject(&records, |subject| write_subject(subject, &mut out));
        out.push(b'}');
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    /// One record of each kind; of kinds that are many calls a telling one.
    fn examples() -> Vec<Vec<u8>> {
        let call = |id, parts| testing::call(7, 1_000, id, parts);
        let of_socket = |kind| testing::of_kind(testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0), kind);
        let parts = CallParts::default();
        vec![
            testing::exec(7, 1_000, (6, 500), "/bin/cat", &["cat", "/etc/passwd"]),
            testing::fork(7, 1_000, (8, 30_000_000)),
            testing::exit(7, 1_000, 0x100),
            testing::open(7, 1_000, "/etc/passwd", 0, 3),
            testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0),
            testing::cred(7, 1_000, (1000, 1 << 21), 0),
            call(id::UNSHARE, CallParts { args: [0x1002_0000, 0, 0, 0, 0, 0], ..parts }),
            call(id::PTRACE, CallParts { args: [16, 1, 0, 0, 0, 0], ..parts }),
            testing::signal(7, 1_000, (6, 500), 9),
            call(id::PRCTL, CallParts { text: "kworker/0:1", args: [15, 0, 0, 0, 0, 0], ..parts }),
            call(id::MPROTECT, CallParts { args: [0x7f12_3456_7000, 4096, 7, 0, 0, 0], ..parts }),
            call(id::MEMFD_CREATE, CallParts { text: "x", args: [0, 1, 0, 0, 0, 0], result: 3, ..parts }),
            testing::cgroup(7, 1_000, (9, "/docker/x"), false),
            testing::cgroup_move(7, 1_000, (6, 500), "/elsewhere"),
            call(
                id::RENAMEAT2,
                CallParts {
                    name: "/tmp/new",
                    target: "/etc/passwd",
                    args: [-100i64 as u64, 0, -100i64 as u64, 0, 0, 0],
                    ..parts
                },
            ),
            call(
                id::WRITE,
                CallParts { opened: Some("/etc/passwd"), args: [3, 0, 12, 0, 0, 0], result: 12, ..parts },
            ),
            call(
                id::MOUNT,
                CallParts {
                    name: "/dev/sda1",
                    target: "/mnt",
                    text: "ext4",
                    args: [0, 0, 0, 1, 0, 0],
                    result: -1,
                    ..parts
                },
            ),
            call(id::SOCKET, CallParts { args: [17, 3, 0x300, 0, 0, 0], result: 3, ..parts }),
            of_socket(kind::BIND),
            of_socket(kind::LISTEN),
            of_socket(kind::ACCEPT),
            of_socket(kind::DUP),
            testing::flow(7, 1_000, ([10, 0, 0, 1], 443), 104),
            testing::udp(7, 1_000, ([10, 0, 0, 1], 123)),
            testing::dns(7, 1_000, testing::DNS_ANSWER),
            call(id::BPF, CallParts { args: [5, 0, 144, 0, 0, 0], result: -1, ..parts }),
            call(
                id::FINIT_MODULE,
                CallParts {
                    opened: Some("/tmp/x.ko"),
                    text: "debug=1",
                    args: [3, 0, 2, 0, 0, 0],
                    result: -1,
                    ..parts
                },
            ),
            call(id::IO_URING_SETUP, CallParts { args: [8, 0, 0, 0, 0, 0], result: 3, ..parts }),
            call(id::KEYCTL, CallParts { args: [11, 99, 0, 0, 0, 0], result: -126, ..parts }),
            call(
                id::PERF_EVENT_OPEN,
                CallParts { args: [0, -1i64 as u64, 0, -1i64 as u64, 8, 0], result: -13, ..parts },
            ),
            call(id::CHOSEN | 165, CallParts { args: [0, 0x7f12, 0, 0, 0, 0], ..parts }),
        ]
    }

    #[test]
    fn whole_container_has_all_that_is_known_whatever_its_labels_are_called() {
        let written = |metadata: Value, problems: &[String]| -> Value {
            let container = Container::new("web".into(), Runtime::Oci, None, "/web".into());
            container.metadata.set(serde_json::from_value(metadata).unwrap());
            let mut out = b"{".to_vec();
            write_whole_container(&container, problems, &mut out);
            out.push(b'}');
            serde_json::from_slice(&out).unwrap()
        };
        let whole = written(serde_json::to_value(testing::metadata()).unwrap(), &[]);
        let expected = json!({
            "id": "web", "runtime": "oci", "name": "web", "image": "registry.example:5000/shop/web:1.2",
            "pod_name": "web-5f6d8", "pod_namespace": "shop", "pod_uid": "5c3b2a10-0000-4000-8000-000000000001",
            "cgroup_path": "/web", "image_digest": format!("sha256:{}", "d".repeat(64)), "image_id": "e".repeat(64),
            "pod_sandbox_id": "f".repeat(64), "pod_labels": { "app.kubernetes.io/name": "web" }, "is_sandbox": false,
            "is_privileged": false, "user": "1000:1000", "capabilities": ["CAP_CHOWN"],
            "created": "2026-11-24T11:59:59.000000000Z", "labels": { "app": "web", "tier": "front" },
            "annotations": { "note": "a" },
            "mounts": [{ "source": "/srv/data", "destination": "/data", "writable": false }],
        });
        assert_eq!(whole, json!({ "container": expected }));
        let hostile = "\"\u{1b}[2J\n\u{202e},{}";
        let whole = written(json!({ "labels": [[hostile, hostile]], "is_cut": true }), &[hostile.to_owned()]);
        assert_eq!(whole["container"]["labels"], json!({ hostile: hostile }));
        assert_eq!((&whole["problems"], &whole["container"]["is_cut"]), (&json!([hostile]), &json!(true)));
    }

    #[test]
    fn page_of_examples_is_fresh() {
        let mut page = String::from(
            "# Examples of events\n\nOne record of each kind, as the log has it in one line; what they mean is in [events](../events.md). \
             After the first, members that do not differ in kind are left out: `process` and `container`.\n",
        );
        let mut kinds = 0;
        for record in examples() {
            let text = text(record);
            let whole: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let kind = whole["event"]["kind"].as_str().unwrap_or_default();
            let (event, rest) = text.split_once(",\"process\":").unwrap_or_default();
            let shown = match (kinds, rest.split_once(",\"target\":")) {
                (0, _) => text
                    .replace(",\"process\":", ",\n\"process\":")
                    .replace(",\"container\":", ",\n\"container\":"),
                (_, None) => format!("{event}}}"),
                (_, Some((_, target))) => {
                    let (target, _) = target.split_once(",\"container\":").unwrap_or_default();
                    format!("{event},\n\"target\":{target}}}")
                }
            };
            page.push_str(&format!("\n`{kind}`:\n```json\n{shown}\n```\n"));
            kinds += 1;
        }
        assert_eq!(kinds + 1, taffrail_common::kind::KINDS);
        testing::assert_fresh("docs/reference/examples.md", &page);
    }

    #[test]
    fn each_call_is_json_and_a_line_whatever_its_arguments() {
        let mut state = 5u64;
        for record in testing::calls(7, 1_000) {
            for _ in 0..20 {
                let mut record = record.clone();
                let at = std::mem::offset_of!(taffrail_common::event::Call, args);
                for byte in &mut record[at..at + 56] {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    *byte = if state >> 62 == 0 { 0xff } else { (state >> 33) as u8 };
                }
                line(record.clone());
                let mut out = String::new();
                with_subject(&[record], |subject| crate::event::human::write_line(subject, &mut out));
                assert!(!out.contains('\n'));
            }
        }
    }

    /// Puts a number into a record.
    fn set(mut record: Vec<u8>, offset: usize, value: u32) -> Vec<u8> {
        record[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        record
    }

    #[test]
    fn open_is_written_with_its_process_parent_and_container() {
        let id = "0123456789ab".repeat(6)[..64].to_owned();
        assert_eq!(
            line(testing::open(7, 1_000, "/etc/passwd", 2, 3)),
            json!({
                "event": {
                    "kind": "open", "type": "openat", "result": 3, "file": "/etc/passwd", "file_ino": 42,
                    "file_dev": "8:1", "flags": 2, "flags_names": ["O_RDWR"], "mode": "100644", "links": 1, "owner": 0,
                },
                "process": {
                    "key": "7-0", "pid": 7, "vpid": 1, "tid": 7, "name": "sh", "exe": "/bin/sh",
                    "cmdline": "sh -c true", "uid": 0, "gid": 0, "login_uid": -1, "user": "root", "group": "root", "cgroup_id": 7,
                    "mnt_ns": 4_026_532_001u32, "pid_ns": 4_026_532_000u32,
                    "parent_key": "6-0", "parent_name": "sshd", "parent_exe": "/usr/sbin/sshd",
                },
                "container": {
                    "id": id, "runtime": "containerd", "name": "web", "image": "registry.example:5000/shop/web:1.2",
                    "pod_name": "web-5f6d8", "pod_namespace": "shop",
                    "pod_uid": "5c3b2a10-0000-4000-8000-000000000001",
                    "cgroup_path": format!("/kubepods/{id}"),
                },
            })
        );
    }

    #[test]
    fn failed_open_has_its_flags_and_no_object() {
        assert_eq!(
            line(testing::open(7, 1_000, "/no", 0, -2))["event"],
            json!({
                "kind": "open", "type": "openat", "result": -2, "file": "/no", "file_flags": ["unverified"], "flags": 0,
                "flags_names": ["O_RDONLY"],
            })
        );
    }

    #[test]
    fn fork_exit_and_connect_are_written() {
        assert_eq!(
            line(testing::fork(7, 1_000, (8, 30_000_000)))["event"],
            json!({
                "kind": "fork", "type": "clone", "child_pid": 8, "child_vpid": 2, "child_key": "8-3", "clone_flags": 0x4100,
                "clone_flags_names": ["CLONE_VM", "CLONE_VFORK"],
            })
        );
        assert_eq!(
            line(testing::exit(7, 1_000, 0x8b))["event"],
            json!({
                "kind": "exit", "type": "procexit", "code": 0, "signal": 11, "signal_name": "SIGSEGV", "core_dumped": true,
                "duration_ns": 1_000_000,
            })
        );
        assert_eq!(
            line(testing::connect(7, 1_000, ([10, 0, 0, 1], 443), -111))["event"],
            json!({
                "kind": "connect", "type": "connect", "result": -111, "fd": 3, "family": 2, "family_name": "AF_INET", "protocol": "tcp",
                "remote_ip": "10.0.0.1", "remote_port": 443, "local_ip": "10.0.0.2", "local_port": 40_000,
                "address_source": "socket",
            })
        );
        // An abstract name starts with NUL.
        assert_eq!(line(testing::connect_unix(7, 1_000, "\0x"))["event"]["path"], json!("\0x"));
    }

    #[test]
    fn exec_has_its_arguments_once_and_the_length_of_what_was_cut() {
        let exec = testing::exec(7, 1_000, (6, 500), "/bin/sh", &["sh", "", "a b"]);
        let whole = line(exec.clone());
        assert_eq!(whole["event"]["args"], json!(["sh", "", "a b"]));
        assert_eq!(whole["event"].get("args_full_bytes"), None);
        assert_eq!(whole["process"].get("cmdline"), None);
        let full_len = std::mem::offset_of!(taffrail_common::event::Exec, args) + 4;
        assert_eq!(line(set(exec, full_len, 9_000))["event"]["args_full_bytes"], json!(9_000));
    }

    #[test]
    fn path_says_what_is_special_about_it() {
        let open = testing::open(7, 1_000, "/x", 0, 3);
        let flags =
            std::mem::offset_of!(taffrail_common::event::Open, file) + std::mem::offset_of!(Path, flags);
        let event = &line(set(open, flags, u32::MAX))["event"];
        assert_eq!(
            event["file_flags"],
            json!([
                "outside_root",
                "chroot",
                "detached",
                "incomplete",
                "deleted",
                "unverified",
                "unreadable",
                "upper_layer",
                "image_layer",
                "tmpfs",
                "host_mount"
            ])
        );
    }

    #[test]
    fn text_of_any_bytes_can_be_had_back() {
        let mut state = 3u64;
        for length in 0..400 {
            let mut random = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as u8
            };
            let bytes: Vec<u8> = (0..length % 24).map(|_| random() >> (length & 1)).collect();
            let mut out = Vec::new();
            let mut members = Members::open(&mut out, "o");
            members.text("x", &bytes);
            members.close();
            let whole: Value = serde_json::from_slice(&[b"{", &out[..], b"}"].concat()).unwrap_or_default();
            let text = whole["o"]["x"].as_str().unwrap_or_else(|| panic!("{}", out.escape_ascii()));
            let back = match whole["o"]["x_hex"].as_str() {
                Some(hex) => (0..hex.len() / 2)
                    .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap_or_default())
                    .collect(),
                None => text.as_bytes().to_vec(),
            };
            assert_eq!(back, bytes);
        }
    }
}

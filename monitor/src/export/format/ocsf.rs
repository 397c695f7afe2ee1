//! Open Cybersecurity Schema Framework 1.8.0. An event is one of the schema's classes, an alert a Detection Finding
//! with the event as its evidence, and what the log says about itself Event Log Activity. What a class has no place
//! for is in `unmapped`.

use std::borrow::Cow;

use super::{Format, Member, members, nest};
use crate::export::convert::{Out, is_technique, write_text};
use crate::export::cut::Cut;
use crate::export::record::{Outcome, Record, Severity};
use crate::export::table::Column;

/// The version of the schema.
pub const VERSION: &str = "1.8.0";

pub const FORMAT: Format = Format {
    name: "ocsf",
    about: "Open Cybersecurity Schema Framework 1.8.0, one object of the class that fits.",
    encode,
    is_json: true,
};

/// A class of the schema, and what is put in it.
#[derive(Debug)]
struct Class {
    uid: u32,
    category: u32,
    name: &'static str,
    /// Attributes of the class into which members go, besides those that each record has.
    places: &'static [&'static str],
}

impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid
    }
}

const FILE: Class = Class {
    uid: 1001,
    category: 1,
    name: "File System Activity",
    places: &["actor", "duration", "file", "file_result"],
};
const EXTENSION: Class =
    Class { uid: 1002, category: 1, name: "Kernel Extension Activity", places: &["actor", "file"] };
const KERNEL: Class = Class { uid: 1003, category: 1, name: "Kernel Activity", places: &["actor"] };
const MEMORY: Class =
    Class { uid: 1004, category: 1, name: "Memory Activity", places: &["actor", "process"] };
const PROCESS: Class = Class {
    uid: 1007,
    category: 1,
    name: "Process Activity",
    places: &["actor", "duration", "exit_code", "process"],
};
const LOG: Class = Class { uid: 1008, category: 1, name: "Event Log Activity", places: &[] };
const FINDING: Class = Class {
    uid: 2004,
    category: 2,
    name: "Detection Finding",
    places: &[
        "actor",
        "connection_info",
        "dst_endpoint",
        "file",
        "finding_info",
        "process",
        "query",
        "src_endpoint",
    ],
};
const NETWORK: Class = Class {
    uid: 4001,
    category: 4,
    name: "Network Activity",
    places: &["actor", "connection_info", "dst_endpoint", "duration", "src_endpoint", "traffic"],
};
const DNS: Class = Class {
    uid: 4003,
    category: 4,
    name: "DNS Activity",
    places: &[
        "actor",
        "answers",
        "connection_info",
        "dst_endpoint",
        "query",
        "rcode",
        "src_endpoint",
        "traffic",
    ],
};

/// Attributes that each class has.
const EVERYWHERE: &[&str] = &["metadata", "status_code", "unmapped"];

const OTHER: u32 = 99;

/// Whose the process of the record is in the class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `actor.process`, and `process` is another one or none.
    Actor,
    /// `process`, and its parent is `actor.process`: who started it.
    Started,
    /// `process`, and `actor.process` is the same: it did it to itself.
    Itself,
}

fn encode(record: &Record<'_>, cut: &Cut, out: &mut Vec<u8>) {
    let (class, activity, place) = classify(record);
    let has_place = |name: &str| {
        let first = first(name);
        let is_container_of_node = || class == LOG && name.starts_with("actor.process.container.");
        class.places.contains(&first) || EVERYWHERE.contains(&first) || is_container_of_node()
    };
    let mut members = members(record, Column::Ocsf, cut, has_place);
    for member in &mut members {
        settle(&mut member.name, &class, place);
    }
    complete(record, &class, activity, place, &mut members);
    let is_cut = *cut != Cut::NOTHING;
    members.extend(head(record, &class, activity, is_cut));
    out.push(b'{');
    if class == FINDING {
        let evidence = |member: &Member<'_>| {
            let first = first(&member.name);
            first != "finding_info" && FINDING.places.contains(&first)
        };
        let (evidence, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(evidence);
        // An alert may be about no event: that somebody was not let in.
        if !evidence.is_empty() {
            out.extend_from_slice(b"\"evidences\":[{");
            nest::write(&evidence, cut, out);
            out.extend_from_slice(b"}],");
        }
        out.extend_from_slice(b"\"finding_info\":{\"attacks\":[");
        attacks(record, cut, out);
        out.push(b']');
        let (mut finding, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|member| first(&member.name) == "finding_info");
        for member in &mut finding {
            strip(&mut member.name, "finding_info.");
        }
        nest::write(&finding, cut, out);
        out.push(b'}');
        nest::write(&others, cut, out);
    } else {
        nest::write(&members, cut, out);
    }
    out.push(b'}');
}

/// The class, the activity, and where the process stands.
fn classify(record: &Record<'_>) -> (Class, u32, Place) {
    let action = record.action();
    let has = |name| record.text("event", name).is_some();
    let starts = |words: &[&str]| words.iter().any(|word| action.starts_with(word));
    if record.kind() == "alert" {
        return (FINDING, 1, Place::Actor);
    }
    match record.event_kind() {
        "exec" => (PROCESS, 1, Place::Started),
        "fork" => (PROCESS, 1, Place::Actor),
        "exit" => (PROCESS, 2, Place::Itself),
        "cred" => (PROCESS, 5, Place::Itself),
        "namespace" | "setting" => (PROCESS, OTHER, Place::Itself),
        "access" | "signal" | "cgroup_move" if record.get("target", "vpid").is_none() => {
            (KERNEL, 4, Place::Actor)
        }
        "access" if action == "process_vm_readv" => (MEMORY, 7, Place::Actor),
        "access" if action == "process_vm_writev" => (MEMORY, 8, Place::Actor),
        "access" => (PROCESS, 3, Place::Actor),
        "signal" | "cgroup_move" => (PROCESS, OTHER, Place::Actor),
        "memory" if action == "mprotect" || action == "pkey_mprotect" => (MEMORY, 2, Place::Itself),
        "memory" => (MEMORY, 9, Place::Itself),
        "open" => (FILE, 14, Place::Actor),
        "write" => (FILE, 3, Place::Actor),
        "mount" if has("file") && starts(&["umount"]) => (FILE, 13, Place::Actor),
        "mount" if has("file") => (FILE, 12, Place::Actor),
        "change" if has("file") => {
            let activity = match () {
                () if starts(&["rename"]) => 5,
                () if starts(&["unlink", "rmdir"]) => 4,
                () if starts(&["mk", "link", "symlink"]) => 1,
                () if starts(&["chmod", "fchmod", "chown", "fchown", "lchown"]) => 7,
                () if starts(&["truncate", "ftruncate", "fallocate"]) => 3,
                () => 6,
            };
            (FILE, activity, Place::Actor)
        }
        "connect" | "accept" | "bind" | "listen" | "flow" | "udp" | "dns"
            if !(has("remote_ip") || has("local_ip") || has("path")) =>
        {
            (KERNEL, 4, Place::Actor)
        }
        "dns" => (DNS, if record.text("event", "message") == Some("answer") { 2 } else { 1 }, Place::Actor),
        "connect" | "accept" => {
            (NETWORK, if matches!(record.outcome(), Outcome::Failure(_)) { 4 } else { 1 }, Place::Actor)
        }
        "listen" => (NETWORK, 7, Place::Actor),
        "bind" => (NETWORK, OTHER, Place::Actor),
        "udp" => (NETWORK, 6, Place::Actor),
        "flow" => {
            let activity = match record.text("event", "error") {
                None => 2,
                Some("ECONNREFUSED") => 5,
                Some("ECONNRESET") => 3,
                Some(_) => 4,
            };
            (NETWORK, activity, Place::Actor)
        }
        "module" => (EXTENSION, if starts(&["delete"]) { 2 } else { 1 }, Place::Actor),
        "" => (LOG, log_activity(record.kind()), Place::Actor),
        _ => (KERNEL, 4, Place::Actor),
    }
}

fn log_activity(kind: &str) -> u32 {
    match kind {
        "start" => 6,
        "stop" => 7,
        "retention" => 2,
        "export" => 3,
        _ => OTHER,
    }
}

/// The attribute of the class that a name begins with.
fn first(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

fn strip(name: &mut Cow<'static, str>, prefix: &str) {
    let rest = match name {
        Cow::Borrowed(name) => name.strip_prefix(prefix).map(Cow::Borrowed),
        Cow::Owned(name) => name.strip_prefix(prefix).map(|rest| Cow::Owned(rest.to_owned())),
    };
    *name = rest.unwrap_or_else(|| name.clone());
}

/// Moves a member to where its class has it.
fn settle(name: &mut Cow<'static, str>, class: &Class, place: Place) {
    if *class == LOG && name.starts_with("actor.process.container.") {
        strip(name, "actor.process.");
        *name = format!("device.{name}").into();
    } else if *class == EXTENSION && name.starts_with("file.") {
        *name = format!("driver.{name}").into();
    } else if place == Place::Started && name.starts_with("actor.process.parent_process.") {
        strip(name, "actor.process.parent_process.");
        *name = format!("actor.process.{name}").into();
    } else if place != Place::Actor && name.starts_with("actor.process.") {
        strip(name, "actor.");
    }
}

/// Adds what the schema asks for and the record has elsewhere, or not at all.
fn complete<'r>(
    record: &'r Record<'_>,
    class: &Class,
    activity: u32,
    place: Place,
    members: &mut Vec<Member<'r>>,
) {
    let has = |members: &[Member<'_>], wanted: &str| members.iter().any(|member| member.name == wanted);
    if place == Place::Itself {
        let same = [
            ("process.pid", "actor.process.pid"),
            ("process.uid", "actor.process.uid"),
            ("process.name", "actor.process.name"),
        ];
        for (from, to) in same {
            if let Some(value) =
                members.iter().find(|member| member.name == from).map(|member| member.value.clone())
            {
                members.push(Member { name: to.into(), value });
            }
        }
    }
    if class.category == 4 || *class == FINDING && has(members, "connection_info.protocol_name") {
        // It is required, and only some events have one.
        if !has(members, "connection_info.direction_id") {
            members.push(Member::new("connection_info.direction_id", direction(record)));
        }
    }
    match class {
        class if *class == KERNEL => {
            members.push(Member::new("kernel.name", record.action()));
            members.push(Member::new("kernel.type_id", 2));
            members.push(Member::new("kernel.system_call", record.action()));
        }
        class if *class == EXTENSION && !has(members, "driver.file.name") => {
            let name = record.text("event", "text").filter(|text| !text.is_empty()).unwrap_or("unknown");
            members.push(Member::new("driver.file.name", name));
            members.push(Member::new("driver.file.type_id", 0));
        }
        class if *class == LOG => {
            members.push(Member::new("log_name", "taffrail"));
            members.push(Member::new("log_provider", "taffrail"));
        }
        class if *class == PROCESS && record.event_kind() == "exec" => {
            members.push(Member::new("launch_type_id", 3))
        }
        class if *class == PROCESS && record.event_kind() == "fork" => {
            members.push(Member::new("launch_type_id", 2))
        }
        _ => {}
    }
    for (file, name) in [("file.type_id", "file.name"), ("driver.file.type_id", "driver.file.name")] {
        if has(members, name) && !has(members, file) {
            members.push(Member::new(file, 0));
        }
    }
    if activity == OTHER {
        members.push(Member::new("activity_name", record.action()));
    }
}

/// 1 in, 2 out, 0 not known.
fn direction(record: &Record<'_>) -> i64 {
    match record.event_kind() {
        "connect" => 2,
        "accept" | "listen" | "bind" => 1,
        _ => 0,
    }
}

/// What each object of the schema begins with.
fn head<'r>(record: &'r Record<'_>, class: &Class, activity: u32, is_cut: bool) -> Vec<Member<'r>> {
    let number = |number: u32| i64::from(number);
    let mut head = vec![
        Member::new("activity_id", number(activity)),
        Member::new("category_uid", number(class.category)),
        Member::new("class_uid", number(class.uid)),
        Member::new("class_name", class.name),
        Member::new("type_uid", number(class.uid * 100 + activity)),
        Member::new("severity_id", severity(record.severity)),
        Member::new("severity", record.severity.name()),
        Member::new("time", record.time_ns / 1_000_000),
        Member::new("message", record.message().into_owned()),
        Member::new("metadata.version", VERSION),
        Member::new("metadata.uid", record.id()),
        Member::new("metadata.product.name", "Taffrail"),
        Member::new("metadata.product.vendor_name", "Taffrail"),
        Member::new("metadata.product.version", env!("CARGO_PKG_VERSION")),
        Member {
            name: "metadata.profiles".into(),
            value: Out::Texts(PROFILES.iter().map(|name| (*name).into()).collect()),
        },
        Member::new("device.hostname", record.node()),
        Member::new("device.boot_uid", record.text("", "boot_id").unwrap_or_default()),
        Member::new("device.type_id", 0),
        Member::new("device.os.name", "Linux"),
        Member::new("device.os.type_id", 200),
    ];
    match record.outcome() {
        // A finding's status is that of its handling.
        _ if *class == FINDING => head.push(Member::new("status_id", 1)),
        Outcome::Success => head.push(Member::new("status_id", 1)),
        Outcome::Failure(_) => head.push(Member::new("status_id", 2)),
        Outcome::Unknown => {}
    }
    if let Some(error) = record.error() {
        head.push(Member::new("status_detail", error));
    }
    if is_cut {
        head.push(Member {
            name: "metadata.is_truncated".into(),
            value: Out::Json(&serde_json_borrow::Value::Bool(true)),
        });
        head.push(Member::new(
            "metadata.untruncated_size",
            i64::try_from(record.line.len()).unwrap_or(i64::MAX),
        ));
    }
    if *class == FINDING {
        let rule = record.text("", "rule").unwrap_or_default();
        head.extend([
            Member::new("is_alert", Out::Json(&serde_json_borrow::Value::Bool(true))),
            Member::new("finding_info.uid", record.id()),
            Member::new("finding_info.title", rule),
            Member::new("finding_info.analytic.name", rule),
            Member::new("finding_info.analytic.type_id", 1),
        ]);
    }
    head
}

/// Profiles of the schema whose attributes are used.
const PROFILES: &[&str] = &["container", "host", "linux/linux_users"];

fn severity(severity: Severity) -> i64 {
    [6, 5, 5, 4, 3, 2, 1, 1][usize::from(severity.syslog() & 7)]
}

/// The techniques of ATT&CK among the rule's tags.
fn attacks(record: &Record<'_>, cut: &Cut, out: &mut Vec<u8>) {
    let tags = record.get("", "tags").and_then(serde_json_borrow::Value::as_array).unwrap_or_default();
    let techniques = tags.iter().filter_map(serde_json_borrow::Value::as_str).filter(|tag| is_technique(tag));
    for (n, tag) in techniques.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        let of = if tag.contains('.') { "sub_technique" } else { "technique" };
        out.extend_from_slice(format!("{{\"{of}\":{{\"uid\":").as_bytes());
        write_text(tag, cut, out);
        out.extend_from_slice(b"}}");
    }
}

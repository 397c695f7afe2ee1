//! Each field has values where the table says so, and those that Falco has.

use taffrail_common::kind::KINDS;

use super::super::field::{FIELDS, Values, find};
use super::super::text::escaped;
use super::*;
use crate::testing::{self, with_subject};

/// `both.example` is 10.0.0.1 and 10.0.0.2.
const ENDS_ANSWER: &[u8] = b"\0\x01\x81\x80\0\x01\0\x02\0\0\0\0\x04both\x07example\0\0\x01\0\x01\
    \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x02";

/// A parent with a terminal, and one event of each kind and shape of its child.
pub fn subjects() -> Vec<Vec<Vec<u8>>> {
    let before = [
        testing::exec(6, 500, (1, 10), "/usr/sbin/sshd", &["sshd: x"]),
        testing::exec(7, 1_000, (6, 500), "/bin/sh", &["-sh", "-c", "a b"]),
        testing::dns(7, 1_000, ENDS_ANSWER),
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
        testing::of_kind(testing::connect_unix(7, 1_000, "/run/x.sock"), kind::DUP),
        testing::of_kind(testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0), kind::DUP),
        testing::cgroup(7, 1_000, (9, "/docker/x"), false),
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
    // No sample has an inheritable capability or a login, or came in from the host; keyed fields have any key, and arguments are those of one call of a kind.
    const NO_SAMPLE: [&str; 4] =
        ["proc.exe_sha256_missing", "thread.cap_inheritable", "user.loginname", "proc.exec_session"];
    let fields =
        OWN.iter().filter(|field| !NO_SAMPLE.contains(&field.name) && !matches!(field.get, Get::Keyed(_)));
    let wanted = fields.flat_map(|field| {
        (1..KINDS as u16).filter(|kind| field.kinds & bit(*kind) != 0).map(|kind| (field.name, kind))
    });
    let missing: Vec<_> = wanted.filter(|(name, kind)| !seen.contains(&(*name, bit(*kind)))).collect();
    assert!(missing.is_empty(), "no value of field for kind: {missing:?}");
}

#[test]
fn process_in_namespaces_that_were_made_within_its_container_is_nested() {
    use taffrail_common::event::Header;
    let first = || testing::exec(7, 1_000, (1, 10), "/bin/sh", &["sh"]);
    let within = |pid_ns: u32, mnt_ns: u32| {
        let mut record = testing::exec(8, 2_000, (7, 1_000), "/bin/app", &["app"]);
        for (at, inode) in
            [(std::mem::offset_of!(Header, pid_ns), pid_ns), (std::mem::offset_of!(Header, mnt_ns), mnt_ns)]
        {
            record[at..at + 4].copy_from_slice(&inode.to_ne_bytes());
        }
        record
    };
    // Of its own for mounts alone, as a service has, or for processes alone, it is not.
    let (pid_ns, mnt_ns) = (4_026_532_000, 4_026_532_001);
    for (record, expected) in [
        (within(pid_ns, mnt_ns), "false"),
        (within(pid_ns, 5), "false"),
        (within(6, mnt_ns), "false"),
        (within(6, 5), "true"),
    ] {
        with_subject(&[first(), record], |subject| {
            assert_eq!(values(subject, "container.nested", None), [expected]);
        });
    }
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
        (0, "proc.cmdline", None, &["sh -c a b"]),
        (0, "proc.exeline", None, &["-sh -c a b"]),
        (0, "proc.cmdlenargs", None, &["5"]),
        (0, "proc.sid.exepath", None, &["/usr/sbin/sshd"]),
        (0, "evt.num", None, &["4"]),
        (0, "evt.time.s", None, &["12:00:00"]),
        (0, "evt.time.iso8601", None, &["2026-11-24T12:00:00.123456789+0000"]),
        (0, "evt.datetime", None, &["2026-11-24 12:00:00.123456789"]),
        (0, "evt.datetime.s", None, &["2026-11-24 12:00:00"]),
        (0, "evt.rawtime.ns", None, &["123456789"]),
        (0, "proc.pid.ts", None, &["1795521600122456789"]),
        (0, "user.name", None, &["root"]),
        (0, "group.name", None, &["root"]),
        (0, "evt.arg.exe", None, &["-sh"]),
        (0, "evt.arg.uid", None, &["0", "root"]),
        (0, "evt.rawarg.uid", None, &["0"]),
        (0, "container.privileged", None, &["false"]),
        (1, "evt.arg.flags", None, &["CLONE_VM", "CLONE_VFORK"]),
        (3, "evt.arg.flags", None, &["O_RDWR"]),
        (3, "evt.arg.name", None, &["/etc/passwd"]),
        (3, "evt.rawarg.fd", None, &["3"]),
        (3, "evt.arg.res", None, &["3"]),
        (4, "evt.arg.res", None, &["-2(ENOENT)"]),
        (5, "fd.ip", None, &["10.0.0.1", "10.0.0.2"]),
        (5, "fd.port", None, &["443", "40000"]),
        (5, "fd.connected", None, &["true"]),
        (5, "fd.is_server", None, &["false"]),
        (5, "evt.arg.addr", None, &["10.0.0.1:443"]),
        (5, "evt.arg.domain", None, &["AF_INET"]),
        (5, "fd.containername", None, &["0123456789ab:10.0.0.2:40000->10.0.0.1:443"]),
        (7, "evt.arg.uid", None, &["1000", "app"]),
        (8, "evt.arg.sig", None, &["SIGKILL"]),
        (17, "fd.connected", None, &["false"]),
        (17, "fd.name_changed", None, &["true"]),
        (0, "proc.is_exe_from_memfd", None, &["false"]),
        (1, "proc.child.key", None, &["8-0"]),
        (1, "proc.child.vpid", None, &["2"]),
        (2, "proc.exit_code", None, &["1"]),
        (3, "fd.typechar", None, &["f"]),
        (3, "fd.dev.major", None, &["8"]),
        (3, "fd.dev.minor", None, &["1"]),
        (3, "evt.is_open_write", None, &["true"]),
        (4, "fd.typechar", None, &["f"]),
        (4, "fd.num", None, &["-1"]),
        (4, "fd.type", None, &[]),
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
        (5, "fd.sip.name", None, &["both.example"]),
        (4, "fd.nameraw", None, &["/etc/missing"]),
        (20, "evt.type", None, &["dup2"]),
        (20, "fd.type", None, &["ipv4"]),
        (20, "fd.sip", None, &["10.0.0.1"]),
        (0, "container.name", None, &["web"]),
        (0, "container.image", None, &["registry.example:5000/shop/web:1.2"]),
        (0, "container.image.repository", None, &["registry.example:5000/shop/web"]),
        (0, "container.image.tag", None, &["1.2"]),
        (0, "container.image.id", None, &["eeeeeeeeeeee"]),
        (0, "container.labels", None, &["app:web,tier:front"]),
        (0, "container.mounts", None, &["/srv/data:/data:ro:false:rprivate"]),
        (0, "container.privileged", None, &["false"]),
        (0, "container.start_ts", None, &["1795521600122456789"]),
        (0, "container.duration", None, &["1000000"]),
        (0, "k8s.ns.name", None, &["shop"]),
        (0, "k8s.pod.name", None, &["web-5f6d8"]),
        (0, "k8s.workload.kind", None, &["Deployment"]),
        (0, "k8s.workload.name", None, &["web"]),
        (0, "k8s.sa.name", None, &["shop-web"]),
        (0, "k8s.pod.labels", None, &["app.kubernetes.io/name:web"]),
        (0, "k8s.pod.sandbox_id", None, &["ffffffffffff"]),
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
fn arguments_of_calls_have_falcos_names() {
    use taffrail_common::call as id;

    use crate::testing::{CallParts, call};
    let named = |name, target| CallParts { name, target, ..CallParts::default() };
    let numbers = |args| CallParts { args, ..CallParts::default() };
    for (call_id, parts, name, expected) in [
        (
            id::SYMLINK,
            CallParts { text: "/etc/shadow", ..named("/tmp/a", "") },
            "evt.arg.target",
            "/etc/shadow",
        ),
        (id::SYMLINK, CallParts { text: "/etc/shadow", ..named("/tmp/a", "") }, "evt.arg.linkpath", "/tmp/a"),
        (id::LINK, named("/etc/./shadow", "/tmp/b"), "evt.arg.oldpath", "/etc/shadow"),
        (id::LINK, named("/etc/./shadow", "/tmp/b"), "evt.rawarg.oldpath", "/etc/./shadow"),
        (id::LINK, named("/etc/./shadow", "/tmp/b"), "fs.path.source", "/etc/shadow"),
        (id::RENAMEAT2, named("/a", "/b"), "evt.arg.newpath", "/b"),
        (id::RENAMEAT2, named("/a", "/b"), "fs.path.targetraw", "/b"),
        (id::UNLINK, named("/a", ""), "evt.arg.path", "/a"),
        (id::MOUNT, named("/dev/sda", "/mnt"), "evt.arg.dev", "/dev/sda"),
        (id::MOUNT, named("/dev/sda", "/mnt"), "evt.arg.name", "/mnt"),
        (id::PTRACE, numbers([16, 7, 0, 0, 0, 0]), "evt.arg.request", "PTRACE_ATTACH"),
        (id::PTRACE, numbers([16, 7, 0, 0, 0, 0]), "evt.rawarg.request", "16"),
        (id::PTRACE, numbers([16, 7, 0, 0, 0, 0]), "evt.arg.pid", "7"),
        (id::SOCKET, numbers([17, 3, 0, 0, 0, 0]), "evt.arg.domain", "AF_PACKET"),
        (
            id::CHMOD,
            CallParts { args: [0, 0o4001, 0, 0, 0, 0], ..named("/a", "") },
            "evt.arg.mode",
            "S_ISUID,S_IXOTH",
        ),
        (id::CHOWN, CallParts { args: [0, 0, 5, 0, 0, 0], ..named("/a", "") }, "evt.arg.uid", "0,root"),
        (id::BPF, numbers([5, 0, 0, 0, 0, 0]), "evt.arg.cmd", "BPF_PROG_LOAD"),
        (id::MEMFD_CREATE, CallParts { text: "x", ..CallParts::default() }, "evt.arg.name", "x"),
        (id::MEMFD_CREATE, CallParts::default(), "evt.arg.flags", "0x0"),
        (id::UNSHARE, numbers([0x1000_0000, 0, 0, 0, 0, 0]), "evt.arg.flags", "CLONE_NEWUSER"),
        (id::PRCTL, CallParts { text: "x", ..numbers([15, 1, 0, 0, 0, 0]) }, "evt.arg.arg2_str", "x"),
        (id::PTRACE, numbers([16, 7, 0, 0, 0, 0]), "evt.arg.domain", ""),
    ] {
        let records = [testing::exec(7, 1_000, (6, 500), "/bin/sh", &["sh"]), call(7, 1_000, call_id, parts)];
        with_subject(&records, |subject| {
            let (name, index) = match name.split_once('[') {
                Some((name, index)) => (name, index.trim_end_matches(']').parse().ok()),
                None => (name, None),
            };
            assert_eq!(
                values(subject, name, index).join(","),
                expected,
                "{name} of {}",
                subject.event.kind()
            );
        });
    }
}

#[test]
fn fields_of_a_topic_stand_together() {
    let mut topics = Vec::new();
    for field in OWN {
        let topic = field.name.split('.').next().unwrap_or_default();
        if topics.last() != Some(&topic) {
            assert!(!topics.contains(&topic), "{} is apart from its topic", field.name);
            topics.push(topic);
        }
    }
}

#[test]
fn labels_and_mounts_are_had_by_their_key() {
    let table: &[(&str, &str, Option<&str>)] = &[
        ("container.label", "app", Some("web")),
        ("container.label", "none", None),
        ("container.annotation", "note", Some("a")),
        ("k8s.pod.label", "app.kubernetes.io/name", Some("web")),
        ("container.mount", "0", Some("/srv/data:/data:ro:false:rprivate")),
        ("container.mount", "1", None),
        ("container.mount.dest", "/srv/*", Some("/data")),
        ("container.mount.source", "/data", Some("/srv/data")),
        ("container.mount.mode", "/srv/data", Some("ro")),
        ("container.mount.rdwr", "/srv/data", Some("false")),
        ("container.mount.propagation", "/srv/data", Some("rprivate")),
        ("container.mount.propagation", "/srv/data/x", None),
    ];
    with_subject(&subjects()[0], |subject| {
        for (name, key, expected) in table {
            let value = subject.keyed(find(name).unwrap(), key.as_bytes());
            assert_eq!(value, expected.map(|text| Value::Text(text.as_bytes())), "{name}[{key}]");
        }
    });
}

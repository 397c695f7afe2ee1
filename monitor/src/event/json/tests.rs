//! Events as JSON.

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
        "workload_kind": "Deployment", "workload_name": "web", "service_account": "shop-web", "cgroup_path": "/web", "image_digest": format!("sha256:{}", "d".repeat(64)), "image_id": "e".repeat(64),
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
                "workload_kind": "Deployment", "workload_name": "web", "service_account": "shop-web",
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
    let flags = std::mem::offset_of!(taffrail_common::event::Open, file) + std::mem::offset_of!(Path, flags);
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

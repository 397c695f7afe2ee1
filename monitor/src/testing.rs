//! What tests of this and other crates share: sample events, and the check of generated files.

use std::path::Path;

use taffrail_common::call::{self, CALLS};
use taffrail_common::event::{self as abi, Header};
use taffrail_common::kind;

use crate::enrich::container::{Container, Runtime};
use crate::enrich::executable::Version;
use crate::enrich::metadata::{Metadata, Mount};
use crate::enrich::users::Names;
use crate::enrich::{Enricher, Handled, Source, Subject};
use crate::event::decode;
use crate::event::decode::CALL_KINDS;
use crate::event::model::{Role, arguments};
use crate::probe::hook::bit;

/// Asserts that a generated file of the repository is what the code makes now. With `TAFFRAIL_BLESS=1` it
/// writes the file instead.
pub fn assert_fresh(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("TAFFRAIL_BLESS").is_some() {
        let folder = path.parent().expect("a file in the repository");
        std::fs::create_dir_all(folder).expect("a folder for the generated file");
        std::fs::write(&path, text).expect("the generated file");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{file} is stale: run `cargo xtask docs`");
}

/// Says loudly that a test cannot run here, and why: on stderr, and in the file that `TAFFRAIL_SKIPPED` names, which
/// the task runner counts.
pub fn skipped(test: &str, reason: impl std::fmt::Display) {
    let line = format!("SKIPPED: {test}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("TAFFRAIL_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()));
        written.expect("the list of skipped tests");
    }
}

/// Handles records in turn, all of one container (cgroup 7), and shows the last one's subject.
pub fn with_subject<T>(records: &[Vec<u8>], look: impl FnOnce(&Subject<'_>) -> T) -> T {
    let mut enricher = Enricher::new(Source::Recorded, 1024);
    let id = "0123456789ab".repeat(6)[..64].to_owned();
    let pod_uid = Some("5c3b2a10-0000-4000-8000-000000000001".to_owned());
    let cgroup_path = format!("/kubepods/{id}");
    enricher.recall_cgroup(7, Some(Container::new(id, Runtime::Containerd, pod_uid, cgroup_path.clone())));
    enricher.recall_container(&cgroup_path, metadata());
    enricher.recall_digest(VERSION, Ok("a".repeat(64)));
    for path in [&cgroup_path, ""] {
        enricher.users.recall(path.to_owned(), names());
    }
    let mut last = None;
    for record in records {
        let event = decode(record).expect("a record");
        let Handled::Process(key) = enricher.handle(&event) else { panic!("a duplicate") };
        last = Some((event, key));
    }
    let (event, key) = last.expect("at least one record");
    let process = enricher.processes.get(key).expect("a process that was just handled");
    let target = event.model().target();
    look(&Subject {
        event: &event,
        time_ns: 1_795_521_600_123_456_789,
        process,
        processes: &enricher.processes,
        container: process.container.as_deref(),
        answers: enricher.answers(process.container.as_deref()),
        number: enricher.events,
        target: target.and_then(|target| enricher.processes.target(&target, event.header().pid_ns)),
    })
}

/// Metadata that has all there is.
pub fn metadata() -> Metadata {
    serde_json::from_value(serde_json::json!({
        "name": "web",
        "image": {
            "name": "registry.example:5000/shop/web:1.2",
            "digest": format!("sha256:{}", "d".repeat(64)),
            "id": "e".repeat(64),
        },
        "pod": {
            "name": "web-5f6d8",
            "namespace": "shop",
            "uid": "5c3b2a10-0000-4000-8000-000000000001",
            "sandbox_id": "f".repeat(64),
            "labels": [["app.kubernetes.io/name", "web"]],
            "service_account": "shop-web",
            "workload_kind": "Deployment",
            "workload_name": "web",
        },
        "is_sandbox": false,
        "is_privileged": false,
        "user": "1000:1000",
        "capabilities": 1,
        "created_ns": 1_795_521_599_000_000_000_i64,
        "labels": [["app", "web"], ["tier", "front"]],
        "annotations": [["note", "a"]],
        "mounts": [Mount::new("/srv/data", "/data", "ro", false, "rprivate")],
    }))
    .expect("metadata")
}

/// Names of users and groups.
fn names() -> Names {
    let names = serde_json::json!({
        "users": { "0": "root:/root:/bin/sh", "1000": "app:/home/app:/bin/sh" }, "groups": { "0": "root", "1000": "app" },
        "user_map": [], "group_map": [],
    });
    serde_json::from_value(names).expect("names")
}

/// No path.
const NOTHING: abi::Path = abi::Path { len: 0, full_len: 0, flags: 0, dev: 0, ino: 0 };

/// A header of a process in a container's namespaces.
pub fn header(kind: u16, tgid: u32, start_ns: u64) -> Header {
    Header {
        len: 0,
        kind,
        flags: 0,
        boot_ns: start_ns + 1_000_000,
        cgroup_id: 7,
        start_ns,
        tgid,
        tid: tgid,
        ns_tgid: 1,
        ns_tid: 1,
        euid: 0,
        egid: 0,
        pid_ns: 4_026_532_000,
        mnt_ns: 4_026_532_001,
        comm: *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    }
}

/// A resolved path of that many bytes.
pub fn path(text: &str) -> abi::Path {
    let len = text.len() as u32;
    abi::Path { len, full_len: len, flags: abi::path_flag::ROOT_REACHED, dev: 8 << 20 | 1, ino: 42 }
}

/// A path as the caller gave it.
pub fn asked(text: &str) -> abi::Path {
    abi::Path { flags: abi::path_flag::UNVERIFIED, dev: 0, ino: 0, ..path(text) }
}

/// The bytes of a record with its payload, as the ring has them.
pub fn record_bytes<T: Copy>(record: &T, payload: &[&[u8]]) -> Vec<u8> {
    let payload = payload.concat();
    let size = size_of::<T>();
    // SAFETY: records are integers without padding, so each byte is initialised.
    let fixed = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size) };
    let mut bytes = [fixed, &payload].concat();
    bytes[..4].copy_from_slice(&((size + payload.len()) as u32).to_ne_bytes());
    bytes
}

/// The version of the executables of [`exec`].
const VERSION: Version =
    Version { dev: 8 << 20 | 1, ino: 42, ctime_ns: 1_795_000_000_123_456_789, bytes: 1_000, started_ns: 0 };

/// An exec of `exe` with those arguments by process `tgid`, a child of `parent`.
pub fn exec(tgid: u32, start_ns: u64, parent: (u32, u64), exe: &str, args: &[&str]) -> Vec<u8> {
    let args: Vec<u8> = args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
    let mut header = header(kind::EXEC, tgid, start_ns);
    let name = exe.rsplit('/').next().unwrap_or(exe).as_bytes();
    header.comm = [0; 16];
    let len = name.len().min(15);
    header.comm[..len].copy_from_slice(&name[..len]);
    let text = |len: usize| abi::Text { len: len as u32, full_len: len as u32 };
    let record = abi::Exec {
        header,
        credentials: credentials(0, 0xa804_25fb),
        exe: path(exe),
        cwd: path("/"),
        filename: text(exe.len()),
        args: text(args.len()),
        exe_ctime_ns: VERSION.ctime_ns,
        exe_bytes: VERSION.bytes,
        parent_start_ns: parent.1,
        parent_tgid: parent.0,
        old_tid: tgid,
        login_uid: u32::MAX,
        session: 1,
        process_group: tgid,
        tty: 0,
        arg_count: args.iter().filter(|&&byte| byte == 0).count() as u32,
        env_count: 3,
    };
    record_bytes(&record, &[exe.as_bytes(), b"/", exe.as_bytes(), &args])
}

/// Credentials of a user with capabilities.
pub fn credentials(id: u32, capabilities: u64) -> abi::Credentials {
    abi::Credentials {
        uid: id,
        gid: id,
        suid: id,
        sgid: id,
        euid: id,
        egid: id,
        fsuid: id,
        fsgid: id,
        cap_inheritable: 0,
        cap_permitted: capabilities,
        cap_effective: capabilities,
        cap_bounding: 0xa804_25fb,
        cap_ambient: 0,
    }
}

/// A vfork of `child` by process `tgid`.
pub fn fork(tgid: u32, start_ns: u64, child: (u32, u64)) -> Vec<u8> {
    let header = header(kind::FORK, tgid, start_ns);
    let record = abi::Fork {
        header,
        child_start_ns: child.1,
        child_cgroup_id: header.cgroup_id,
        clone_flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        child_tgid: child.0,
        child_ns_tgid: 2,
        child_parent_tgid: tgid,
        child_pid_ns: header.pid_ns,
        child_parent_start_ns: start_ns,
    };
    record_bytes(&record, &[])
}

/// The end of process `tgid`.
pub fn exit(tgid: u32, start_ns: u64, wait_status: u32) -> Vec<u8> {
    record_bytes(&abi::Exit { header: header(kind::EXIT, tgid, start_ns), wait_status, reserved: 0 }, &[])
}

/// An open of `file`: `result` is a descriptor or a negative errno.
pub fn open(tgid: u32, start_ns: u64, file: &str, flags: u32, result: i32) -> Vec<u8> {
    let record = abi::Open {
        header: header(kind::OPEN, tgid, start_ns),
        asked: NOTHING,
        file: if result >= 0 { path(file) } else { asked(file) },
        base: NOTHING,
        result,
        flags,
        mode: if result >= 0 { 0o100_644 } else { 0 },
        links: 1,
        owner: 0,
        call: call::OPENAT.into(),
    };
    record_bytes(&record, &[file.as_bytes()])
}

/// A TCP connect from 10.0.0.2:40000 to an IPv4 peer.
pub fn connect(tgid: u32, start_ns: u64, peer: ([u8; 4], u16), result: i32) -> Vec<u8> {
    let record = abi::Connect {
        header: header(kind::CONNECT, tgid, start_ns),
        path: NOTHING,
        remote_addr: in_first(peer.0),
        local_addr: in_first([10, 0, 0, 2]),
        result,
        fd: 3,
        remote_port: peer.1,
        local_port: 40_000,
        family: libc::AF_INET as u16,
        protocol: libc::IPPROTO_TCP as u16,
        socket_type: libc::SOCK_STREAM as u16,
        source: abi::source::SOCKET,
        reserved: 0,
        call: call::CONNECT.into(),
    };
    record_bytes(&record, &[])
}

/// A connect to a Unix socket.
pub fn connect_unix(tgid: u32, start_ns: u64, peer: &str) -> Vec<u8> {
    let record = abi::Connect {
        header: header(kind::CONNECT, tgid, start_ns),
        path: path(peer),
        remote_addr: [0; 16],
        local_addr: [0; 16],
        result: 0,
        fd: 3,
        remote_port: 0,
        local_port: 0,
        family: libc::AF_UNIX as u16,
        protocol: 0,
        socket_type: libc::SOCK_STREAM as u16,
        source: abi::source::SOCKET,
        reserved: 0,
        call: call::CONNECT.into(),
    };
    record_bytes(&record, &[peer.as_bytes()])
}

/// The record with another kind: those of sockets are alike.
pub fn of_kind(mut record: Vec<u8>, kind: u16) -> Vec<u8> {
    let (call, id) = match kind {
        kind::BIND => (call::BIND, kind),
        kind::LISTEN => (call::LISTEN, kind),
        kind::ACCEPT => (call::ACCEPT4, kind),
        kind::DUP => (call::DUP2, kind),
        other => (call::CONNECT, other),
    };
    let (kind_at, call_at) = (std::mem::offset_of!(Header, kind), std::mem::offset_of!(abi::Connect, call));
    record[kind_at..kind_at + 2].copy_from_slice(&id.to_ne_bytes());
    record[call_at..call_at + 4].copy_from_slice(&u32::from(call).to_ne_bytes());
    record
}

/// A setresuid by process `tgid`: the user that it is then, and its capabilities.
pub fn cred(tgid: u32, start_ns: u64, (id, capabilities): (u32, u64), result: i32) -> Vec<u8> {
    let record = abi::Cred {
        header: Header { euid: id, egid: id, ..header(kind::CRED, tgid, start_ns) },
        old: credentials(0, 0),
        new: credentials(id, capabilities),
        old_known: 0,
        user_ns: 4_026_531_837,
        secure_bits: 0,
        result,
        call: call::SETRESUID.into(),
        reserved: 0,
    };
    record_bytes(&record, &[])
}

/// A signal from process `tgid` to another one.
pub fn signal(tgid: u32, start_ns: u64, target: (u32, u64), signal: u32) -> Vec<u8> {
    let record = abi::Signal {
        header: header(kind::SIGNAL, tgid, start_ns),
        target_start_ns: target.1,
        target_cgroup_id: 7,
        target_tgid: target.0,
        target_ns_tgid: 1,
        signal,
        result: 0,
    };
    record_bytes(&record, &[])
}

/// Process `tgid` makes a cgroup of that id and path, or removes it.
pub fn cgroup(tgid: u32, start_ns: u64, (cgroup_id, path): (u64, &str), removed: bool) -> Vec<u8> {
    let len = path.len() as u32;
    let record = abi::Cgroup {
        header: header(kind::CGROUP, tgid, start_ns),
        path: abi::Text { len, full_len: len },
        cgroup_id,
        level: path.matches('/').count() as u32,
        removed: removed.into(),
    };
    record_bytes(&record, &[path.as_bytes()])
}

/// Process `tgid` puts another one into a cgroup.
pub fn cgroup_move(tgid: u32, start_ns: u64, target: (u32, u64), to: &str) -> Vec<u8> {
    let len = to.len() as u32;
    let record = abi::CgroupMove {
        header: header(kind::CGROUP_MOVE, tgid, start_ns),
        path: abi::Text { len, full_len: len },
        target_start_ns: target.1,
        cgroup_id: 99,
        target_tgid: target.0,
        target_ns_tgid: 1,
        whole: 1,
        reserved: 0,
    };
    record_bytes(&record, &[to.as_bytes()])
}

/// The end of a TCP connection from 10.0.0.2:40000; `error` is a positive errno.
pub fn flow(tgid: u32, start_ns: u64, peer: ([u8; 4], u16), error: u32) -> Vec<u8> {
    let header = header(kind::FLOW, tgid, start_ns);
    let record = abi::Flow {
        header,
        remote_addr: in_first(peer.0),
        local_addr: in_first([10, 0, 0, 2]),
        bytes_sent: 78,
        bytes_received: 517,
        begin_ns: header.boot_ns - 900_000,
        established_ns: header.boot_ns - 600_000,
        remote_port: peer.1,
        local_port: 40_000,
        family: libc::AF_INET as u16,
        direction: 1,
        error,
        old_state: 1,
    };
    record_bytes(&record, &[])
}

/// What a call of the table is made of, for [`call`].
#[derive(Clone, Copy, Default)]
pub struct CallParts<'a> {
    /// The open file; else the name.
    pub opened: Option<&'a str>,
    /// The name, as it was given.
    pub name: &'a str,
    /// The second name.
    pub target: &'a str,
    /// The text.
    pub text: &'a str,
    /// The arguments.
    pub args: [u64; 6],
    /// What it returned.
    pub result: i64,
}

/// A call by its id.
pub fn call(tgid: u32, start_ns: u64, id: u16, parts: CallParts<'_>) -> Vec<u8> {
    let kind = CALLS.get(usize::from(id)).map_or(kind::SYSCALL, |row| row.kind);
    let named = |name: &str| if name.is_empty() { NOTHING } else { asked(name) };
    let record = abi::Call {
        header: header(kind, tgid, start_ns),
        file: parts.opened.map_or_else(|| named(parts.name), path),
        base: NOTHING,
        target: named(parts.target),
        target_base: NOTHING,
        text: abi::Text { len: parts.text.len() as u32, full_len: parts.text.len() as u32 },
        args: parts.args,
        result: parts.result,
        mode: if parts.opened.is_some() { 0o100_644 } else { 0 },
        call: id.into(),
    };
    let file = parts.opened.unwrap_or(parts.name);
    record_bytes(&record, &[file.as_bytes(), parts.target.as_bytes(), parts.text.as_bytes()])
}

/// A call of each row of the table that has this record, with all that it can have, and one that is not in the table.
pub fn calls(tgid: u32, start_ns: u64) -> Vec<Vec<u8>> {
    let has = |id: u16, role: Role| arguments(id.into()).iter().any(|argument| argument.role == role);
    let filled = |id: u16| {
        let kind = CALLS[usize::from(id)].kind;
        let opened = has(id, Role::File) || kind == kind::ACCESS && !has(id, Role::Process);
        CallParts {
            opened: opened.then_some("/etc/passwd"),
            name: if has(id, Role::Name) { "/tmp/a" } else { "" },
            target: if has(id, Role::Target) { "/tmp/b" } else { "" },
            text: if has(id, Role::Text) { "text" } else { "" },
            // A process id of 1, and PR_SET_NAME.
            args: if id == call::PRCTL { [15, 1, 1, 1, 1, 1] } else { [1; 6] },
            result: 0,
        }
    };
    let ids = (0..CALLS.len() as u16).filter(|id| CALL_KINDS & bit(CALLS[usize::from(*id)].kind) != 0);
    let mut records: Vec<_> = ids.map(|id| call(tgid, start_ns, id, filled(id))).collect();
    records.push(call(tgid, start_ns, call::CHOSEN | 39, CallParts::default()));
    records
}

/// An IPv4 address as records have it.
fn in_first([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A first datagram from 10.0.0.2:40000.
pub fn udp(tgid: u32, start_ns: u64, peer: ([u8; 4], u16)) -> Vec<u8> {
    let record = abi::Udp {
        header: header(kind::UDP, tgid, start_ns),
        remote_addr: in_first(peer.0),
        local_addr: in_first([10, 0, 0, 2]),
        bytes: 48,
        remote_port: peer.1,
        local_port: 40_000,
        family: libc::AF_INET as u16,
        direction: abi::direction::OUT,
        reserved: 0,
    };
    record_bytes(&record, &[])
}

/// An answer about `www.example.com`: another name, and its address.
pub const DNS_ANSWER: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x02\0\0\0\0\x03WWW\x07example\x03com\0\0\x01\0\x01\
    \xc0\x0c\0\x05\0\x01\0\0\x01\x2c\0\x08\x05other\xc0\x10\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07";

/// A DNS message that came from 10.0.0.1 to 10.0.0.2:40000.
pub fn dns(tgid: u32, start_ns: u64, message: &[u8]) -> Vec<u8> {
    let len = message.len() as u32;
    let record = abi::Dns {
        header: header(kind::DNS, tgid, start_ns),
        message: abi::Text { len, full_len: len },
        remote_addr: in_first([10, 0, 0, 1]),
        local_addr: in_first([10, 0, 0, 2]),
        remote_port: 53,
        local_port: 40_000,
        family: libc::AF_INET as u16,
        protocol: libc::IPPROTO_UDP as u16,
        direction: abi::direction::IN,
        reserved: [0; 3],
    };
    record_bytes(&record, &[message])
}

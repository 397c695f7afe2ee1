//! The layout of everything that crosses between kernel and user space, against a golden file: a change of the ABI
//! shows in a diff. Each struct is taken apart, so that a new field does not compile until it is listed here.

use std::fmt::Write as _;
use std::mem::{align_of, offset_of, size_of, size_of_val};

use taffrail_common::event::*;
use taffrail_common::kind;
use taffrail_common::map::*;

/// Appends a struct's layout, and asserts that it has no implicit padding.
macro_rules! layout {
    ($out:ident, $name:ident { $($field:ident),* $(,)? }) => {{
        // SAFETY: integers and arrays of integers only, so all bits zero is a value.
        let value: $name = unsafe { std::mem::zeroed() };
        let $name { $($field),* } = value;
        let _ = writeln!($out, "{} size {} align {}", stringify!($name), size_of::<$name>(), align_of::<$name>());
        let mut end = 0;
        $(
            let (offset, size) = (offset_of!($name, $field), size_of_val(&$field));
            assert_eq!(offset, end, "padding before {}.{}", stringify!($name), stringify!($field));
            end = offset + size;
            let _ = writeln!($out, "  {offset:>4} {size:>4} {}", stringify!($field));
        )*
        assert_eq!(end, size_of::<$name>(), "padding at the end of {}", stringify!($name));
    }};
}

#[test]
fn layout_of_the_abi_is_fresh() {
    let mut out = String::new();
    layout!(
        out,
        Connect {
            header,
            path,
            remote_addr,
            local_addr,
            result,
            fd,
            remote_port,
            local_port,
            family,
            protocol,
            socket_type,
            source,
            reserved,
            call
        }
    );
    layout!(
        out,
        Credentials {
            uid,
            gid,
            suid,
            sgid,
            euid,
            egid,
            fsuid,
            fsgid,
            cap_inheritable,
            cap_permitted,
            cap_effective,
            cap_bounding,
            cap_ambient
        }
    );
    layout!(
        out,
        Exec {
            header,
            credentials,
            exe,
            cwd,
            filename,
            args,
            exe_ctime_ns,
            exe_bytes,
            parent_start_ns,
            parent_tgid,
            old_tid,
            login_uid,
            session,
            process_group,
            tty,
            arg_count,
            env_count
        }
    );
    layout!(out, Exit { header, wait_status, reserved });
    layout!(
        out,
        Fork {
            header,
            child_start_ns,
            child_cgroup_id,
            clone_flags,
            child_tgid,
            child_ns_tgid,
            child_parent_tgid,
            child_pid_ns,
            child_parent_start_ns
        }
    );
    layout!(
        out,
        Header {
            len,
            kind,
            flags,
            boot_ns,
            cgroup_id,
            start_ns,
            tgid,
            tid,
            ns_tgid,
            ns_tid,
            euid,
            egid,
            pid_ns,
            mnt_ns,
            comm
        }
    );
    layout!(out, Text { len, full_len });
    layout!(out, Path { len, full_len, flags, dev, ino });
    layout!(out, Open { header, asked, file, base, result, flags, mode, links, owner, call });
    layout!(out, LossKey { cgroup_id, kind, reserved });
    layout!(out, Tally { offered, lost });
    layout!(out, Scope { kinds, share, flight });
    layout!(out, Share { quarter, used_bytes });
    layout!(out, CallsKept { counted, flight, twice });
    layout!(out, CountKey { cgroup_id, call, reserved });
    layout!(out, Count { calls, errors });
    layout!(out, FlightEntry { sequence, boot_ns, args, result, thread, call, sum });
    layout!(out, Owner { header, established_ns, direction, reserved });
    layout!(out, Written { inode, ino });
    layout!(out, Cred { header, old, new, old_known, user_ns, secure_bits, result, call, reserved });
    layout!(out, Cgroup { header, path, cgroup_id, level, removed });
    layout!(
        out,
        CgroupMove { header, path, target_start_ns, cgroup_id, target_tgid, target_ns_tgid, whole, reserved }
    );
    layout!(
        out,
        Signal { header, target_start_ns, target_cgroup_id, target_tgid, target_ns_tgid, signal, result }
    );
    layout!(
        out,
        Flow {
            header,
            remote_addr,
            local_addr,
            bytes_sent,
            bytes_received,
            begin_ns,
            established_ns,
            remote_port,
            local_port,
            family,
            direction,
            error,
            old_state
        }
    );
    layout!(
        out,
        Udp { header, remote_addr, local_addr, bytes, remote_port, local_port, family, direction, reserved }
    );
    layout!(
        out,
        Dns {
            header,
            message,
            remote_addr,
            local_addr,
            remote_port,
            local_port,
            family,
            protocol,
            direction,
            reserved
        }
    );
    layout!(out, UdpFlow { cgroup_id, remote_addr, remote_port, local_port, family, direction });
    layout!(out, DnsStream { socket, direction });
    layout!(out, DnsNext { sequence, len });
    layout!(out, Call { header, file, base, target, target_base, text, args, result, mode, call });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/layout.golden");
    if std::env::var_os("TAFFRAIL_BLESS").is_some() {
        std::fs::write(path, &out).expect("the golden file");
    }
    assert_eq!(
        out,
        std::fs::read_to_string(path).unwrap_or_default(),
        "the ABI changed: run `cargo xtask docs`"
    );
}

#[test]
fn table_of_kinds_agrees_with_the_constants() {
    macro_rules! rows {
        ($( ($id:literal, $name:ident, $record:ident, $lane:ident) )*) => { [ $( ($id, stringify!($name)) ),* ] };
    }
    let table: [(u16, &str); kind::KINDS - 1] = taffrail_common::for_each_kind!(rows);
    for (place, (id, _)) in (1..).zip(table) {
        assert_eq!(id, place, "ids are places");
    }
    for (constant, name) in [
        (kind::EXEC, "exec"),
        (kind::FORK, "fork"),
        (kind::EXIT, "exit"),
        (kind::OPEN, "open"),
        (kind::CONNECT, "connect"),
        (kind::CRED, "cred"),
        (kind::NAMESPACE, "namespace"),
        (kind::ACCESS, "access"),
        (kind::SIGNAL, "signal"),
        (kind::SETTING, "setting"),
        (kind::MEMORY, "memory"),
        (kind::MEMFD, "memfd"),
        (kind::CGROUP_MOVE, "cgroup_move"),
        (kind::CHANGE, "change"),
        (kind::WRITE, "write"),
        (kind::MOUNT, "mount"),
        (kind::SOCKET, "socket"),
        (kind::BIND, "bind"),
        (kind::LISTEN, "listen"),
        (kind::ACCEPT, "accept"),
        (kind::FLOW, "flow"),
        (kind::BPF, "bpf"),
        (kind::MODULE, "module"),
        (kind::IO_URING, "io_uring"),
        (kind::KEY, "key"),
        (kind::KERNEL, "kernel"),
        (kind::SYSCALL, "syscall"),
        (kind::UDP, "udp"),
        (kind::DNS, "dns"),
        (kind::CGROUP, "cgroup"),
    ] {
        assert_eq!(table[usize::from(constant) - 1], (constant, name));
    }
}

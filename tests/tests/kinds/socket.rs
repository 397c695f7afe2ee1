//! `socket`: sockets of unusual families and types.

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn unusual_sockets_are_told_and_usual_ones_are_not() {
    let Some(seen) = watch("unusual_sockets_are_told_and_usual_ones_are_not", || {
        let socket =
            |family: i32, ty: i32, protocol: i32| outcome(syscall!(libc::SYS_socket, family, ty, protocol));
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX] {
            socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            socket(family, libc::SOCK_DGRAM, 0);
        }
        socket(libc::AF_NETLINK, libc::SOCK_RAW, 0);
        let packet = socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0x300);
        let icmp = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
        let crypto = socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0);
        // The kernel looks at the lower halves only.
        let high = 1u64 << 32;
        let (family, ty, protocol) = (high | 2, high | 1, high | 262);
        let multipath = outcome(syscall!(libc::SYS_socket, family, ty, protocol));
        let unknown = socket(63, libc::SOCK_STREAM, 0);
        Ok([packet, icmp, crypto, multipath, unknown])
    }) else {
        return;
    };
    let [packet, icmp, crypto, multipath, unknown] = seen.value;
    for (result, args) in [
        (
            packet,
            json!({"family_name": "AF_PACKET", "type_names": ["SOCK_RAW", "SOCK_CLOEXEC"], "protocol": 0x300}),
        ),
        (icmp, json!({"family_name": "AF_INET", "type_names": ["SOCK_RAW"], "protocol": 1})),
        (crypto, json!({"family_name": "AF_ALG", "type_names": ["SOCK_SEQPACKET"]})),
        (multipath, json!({"family": 2, "type": 1, "protocol": 262})),
        (unknown, json!({"family": 63})),
    ] {
        seen.one("socket", json!({"type": "socket", "result": result, "args": args}));
    }
    assert!(unknown < 0);
    assert_eq!(seen.all("socket", &json!({})).len(), 5);
}

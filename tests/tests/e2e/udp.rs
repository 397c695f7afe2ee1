//! `udp`: who sends datagrams to whom.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use serde_json::{Value, json};
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

/// Datagrams of this test's own process: it can see both ends.
const OWN: [&str; 2] = ["scope.host=true", "log.record=evt.kind in (udp, exit)"];

/// What is told of datagrams between these, from a port to another: direction, addresses, bytes.
fn told(records: &[Value], from: u16, to: u16) -> Vec<[Value; 4]> {
    let own = records.iter().filter(|record| record["process"]["pid"] == std::process::id());
    let events = own.map(|record| &record["event"]).filter(|event| event["kind"] == "udp");
    let between = events.filter(|event| {
        let (local, remote) = (&event["local_port"], &event["remote_port"]);
        if event["direction"] == "out" {
            *local == from && *remote == to
        } else {
            *local == to && *remote == from
        }
    });
    let values =
        between.map(|event| ["direction", "local_ip", "remote_ip", "bytes"].map(|name| event[name].clone()));
    values.collect()
}

/// Waits until all that happened before is told, and gives it.
fn all(daemon: Daemon) -> Vec<Value> {
    let id = std::process::Command::new("/bin/true").spawn().unwrap();
    let pid = id.id();
    id.wait_with_output().unwrap();
    daemon.wait_for(|record| record["event"]["kind"] == "exit" && record["process"]["pid"] == pid);
    daemon.stop().1
}

#[test]
fn first_datagram_of_each_flow_is_told_at_both_ends() {
    if let Some(reason) = cannot_trace() {
        skip!("first_datagram_of_each_flow_is_told_at_both_ends", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let (port, own) = (server.local_addr().unwrap().port(), client.local_addr().unwrap().port());
    for len in [5, 9, 13] {
        client.send_to(&vec![b'x'; len], (Ipv4Addr::LOCALHOST, port)).unwrap();
    }
    server.send_to(b"1234567", (Ipv4Addr::LOCALHOST, own)).unwrap();
    // A socket that has a peer.
    let connected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    connected.connect(server.local_addr().unwrap()).unwrap();
    connected.send(b"").unwrap();
    let third = connected.local_addr().unwrap().port();

    let records = all(daemon);
    let both = |bytes: u32| {
        ["out", "in"]
            .map(|direction| [json!(direction), json!("127.0.0.1"), json!("127.0.0.1"), json!(bytes)])
    };
    assert_eq!(told(&records, own, port), both(5));
    assert_eq!(told(&records, port, own), both(7));
    assert_eq!(told(&records, third, port), both(0));
}

#[test]
fn ipv4_from_an_ipv6_socket_is_ipv4_and_headers_between_hide_nothing() {
    if let Some(reason) = cannot_trace() {
        skip!("ipv4_from_an_ipv6_socket_is_ipv4_and_headers_between_hide_nothing", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let Ok(server) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else {
        skip!("ipv4_from_an_ipv6_socket_is_ipv4_and_headers_between_hide_nothing", "no IPv6 on loopback");
    };
    let four = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, four_port) = (server.local_addr().unwrap().port(), four.local_addr().unwrap().port());
    let client = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let own = client.local_addr().unwrap().port();
    client.send_to(b"mapped", (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), four_port)).unwrap();
    // A header with destination options (six bytes of padding) before that of UDP.
    let options: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
    let fd = std::os::fd::AsRawFd::as_raw_fd(&client);
    const IPV6_DSTOPTS: i32 = 59;
    // SAFETY: eight bytes.
    let set = unsafe { libc::setsockopt(fd, libc::IPPROTO_IPV6, IPV6_DSTOPTS, options.as_ptr().cast(), 8) };
    assert_eq!(set, 0);
    client.send_to(b"behind", (Ipv6Addr::LOCALHOST, port)).unwrap();

    let records = all(daemon);
    for (to, ip) in [(four_port, "127.0.0.1"), (port, "::1")] {
        let expected = ["out", "in"].map(|direction| [json!(direction), json!(ip), json!(ip), json!(6)]);
        assert_eq!(told(&records, own, to), expected);
    }
}

#[test]
fn datagram_of_a_container_is_its_senders() {
    if let Some(reason) = cannot_trace() {
        skip!("datagram_of_a_container_is_its_senders", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("udp").unwrap();
    container.sh("nslookup www.example.com 127.0.0.1; true").unwrap();
    let udp = daemon.wait_for(|record| is_event(record, "udp", container.id()));
    assert_eq!((&udp["event"]["direction"], &udp["event"]["remote_port"]), (&json!("out"), &json!(53)));
    assert_eq!(udp["process"]["cmdline"], "nslookup www.example.com 127.0.0.1");
}

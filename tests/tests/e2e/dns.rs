//! `dns`: which names are asked for, and what is answered.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use serde_json::{Value, json};
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

/// Messages of this test's own process: it can see both ends.
const OWN: [&str; 2] = ["scope.host=true", "log.record=evt.kind = dns"];

const QUERY: &[u8] = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03WWW\x07example\x03com\0\0\x01\0\x01";
const ANSWER: &[u8] = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03WWW\x07example\x03com\0\0\x01\0\x01\
    \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07";

/// The message at that own port that `wanted` picks.
fn message(daemon: &Daemon, protocol: &str, port: u16, wanted: impl Fn(&Value) -> bool) -> Value {
    let record = daemon.wait_for(|record| {
        let event = &record["event"];
        event["protocol"] == protocol && event["local_port"] == port && wanted(event)
    });
    assert_eq!(record["process"]["pid"], std::process::id(), "{record}");
    record["event"].clone()
}

/// An address of loopback for this test alone, with port 53 free.
fn resolver(last: u8) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(127, 53, std::process::id() as u8, last), 53)
}

#[test]
fn query_and_answer_over_udp_are_told_at_both_ends() {
    if let Some(reason) = cannot_trace() {
        skip!("query_and_answer_over_udp_are_told_at_both_ends", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let server = UdpSocket::bind(resolver(1)).unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.send_to(QUERY, resolver(1)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 512]).unwrap();
    server.send_to(ANSWER, from).unwrap();
    for (port, query, answer) in [(from.port(), "out", "in"), (53, "in", "out")] {
        let asked = message(&daemon, "udp", port, |event| event["message"] == "query");
        assert_eq!((&asked["direction"], &asked["id"]), (&json!(query), &json!(0x1234)));
        assert_eq!(
            (&asked["question_name"], &asked["question_type"]),
            (&json!("www.example.com"), &json!("A"))
        );
        let told = message(&daemon, "udp", port, |event| event["message"] == "answer");
        assert_eq!((&told["direction"], &told["rcode"]), (&json!(answer), &json!("NOERROR")));
        assert_eq!(told["answers"], json!([{ "type": "A", "ttl_s": 60, "data": "192.0.2.7" }]));
    }
}

#[test]
fn connection_to_an_address_is_named_as_who_connects_was_told() {
    if let Some(reason) = cannot_trace() {
        skip!("connection_to_an_address_is_named_as_who_connects_was_told", "{reason}");
    }
    let seen = "log.record=evt.kind in (dns, connect) and fd.sip.name = www.example.com";
    let daemon = Daemon::start(&["scope.host=true", seen]);
    let server = UdpSocket::bind(resolver(3)).unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.send_to(QUERY, resolver(3)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 512]).unwrap();
    server.send_to(ANSWER, from).unwrap();
    client.recv(&mut [0; 512]).unwrap();
    let other = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    for last in [8, 7] {
        // There may be no way there; the attempt counts.
        let _ = other.connect((Ipv4Addr::new(192, 0, 2, last), 443));
    }
    let named = daemon.wait_for(|record| record["event"]["kind"] == "connect");
    assert_eq!(named["event"]["remote_ip"], "192.0.2.7", "{named}");
    assert_eq!(named["event"]["remote_name"], "www.example.com");
}

#[test]
fn messages_over_tcp_are_told_each_and_one_in_pieces_is_marked() {
    if let Some(reason) = cannot_trace() {
        skip!("messages_over_tcp_are_told_each_and_one_in_pieces_is_marked", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let listener = TcpListener::bind(resolver(2)).unwrap();
    let mut client = TcpStream::connect(resolver(2)).unwrap();
    client.set_nodelay(true).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let port = client.local_addr().unwrap().port();
    let with_id = |id: u8| {
        let mut message = [&(QUERY.len() as u16).to_be_bytes()[..], QUERY].concat();
        message[3] = id;
        message
    };
    // The other end has read it all before more is sent, so that it goes in a packet of its own.
    let mut send = |bytes: &[u8]| {
        client.write_all(bytes).unwrap();
        server.read_exact(&mut vec![0; bytes.len()]).unwrap();
    };
    send(&with_id(1));
    send(&[with_id(2), with_id(3)].concat());
    send(&with_id(4)[..2]);
    send(&with_id(4)[2..]);
    send(&with_id(5)[..20]);
    send(&with_id(5)[20..]);
    send(&with_id(6));
    let of = |id: u64| message(&daemon, "tcp", port, |event| event["id"] == 0x1200 + id);
    for id in [1, 2, 3, 4, 6] {
        let whole = of(id);
        assert_eq!(
            (&whole["question_name"], whole.get("message_there_bytes")),
            (&json!("www.example.com"), None)
        );
        assert_eq!((&whole["direction"], &whole["message_bytes"]), (&json!("out"), &json!(QUERY.len())));
    }
    let cut = of(5);
    assert_eq!((&cut["message_there_bytes"], &cut["message_bytes"]), (&json!(18), &json!(QUERY.len())));
}

#[test]
fn what_is_no_message_of_dns_is_told_as_malformed() {
    if let Some(reason) = cannot_trace() {
        skip!("what_is_no_message_of_dns_is_told_as_malformed", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.send_to(&[0xff; 1500], resolver(3)).unwrap();
    let port = client.local_addr().unwrap().port();
    let event = message(&daemon, "udp", port, |_| true);
    assert_eq!((&event["malformed"], &event["message_bytes"]), (&json!(true), &json!(1500)));
    assert_eq!(event.get("message_there_bytes"), None);
}

#[test]
fn name_that_a_container_asks_for_is_told() {
    if let Some(reason) = cannot_trace() {
        skip!("name_that_a_container_asks_for_is_told", "{reason}");
    }
    let daemon = Daemon::start(&[crate::ALL]);
    let container = Container::start("dns").unwrap();
    container.sh("nslookup Tunnel.Example.COM 127.0.0.1; true").unwrap();
    let query = daemon.wait_for(|record| {
        is_event(record, "dns", container.id()) && record["event"]["question_name"] == "tunnel.example.com"
    });
    assert_eq!(
        (&query["event"]["message"], &query["event"]["remote_ip"]),
        (&json!("query"), &json!("127.0.0.1"))
    );
    assert_eq!(query["process"]["cmdline"], "nslookup Tunnel.Example.COM 127.0.0.1");
}

//! `connect`: who talks to whom, and with what result.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::{Value, json};
use taffrail_tests::container::Container;
use taffrail_tests::daemon::{Daemon, is_event};
use taffrail_tests::{cannot_trace, skip};

/// Connections of this test's own process: it can see both ends.
const OWN: [&str; 2] = ["scope.host=true", "log.record=evt.kind = connect"];

fn own(daemon: &Daemon, wanted: impl Fn(&Value) -> bool) -> Value {
    let event =
        daemon.wait_for(|record| record["process"]["pid"] == std::process::id() && wanted(&record["event"]));
    event["event"].clone()
}

#[test]
fn tcp_over_ipv4_is_recorded_with_both_ends() {
    if let Some(reason) = cannot_trace() {
        skip!("tcp_over_ipv4_is_recorded_with_both_ends", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = listener.local_addr().unwrap();
    let stream = TcpStream::connect(peer).unwrap();
    let event = own(&daemon, |event| event["remote_port"] == peer.port());
    assert_eq!(event["protocol"], "tcp");
    assert_eq!((&event["remote_ip"], &event["local_ip"]), (&json!("127.0.0.1"), &json!("127.0.0.1")));
    assert_eq!(event["local_port"], stream.local_addr().unwrap().port());
    assert_eq!((&event["result"], &event["address_source"]), (&json!(0), &json!("socket")));
}

#[test]
fn tcp_over_ipv6_is_recorded_and_an_ipv4_peer_in_ipv6_form_is_ipv4() {
    if let Some(reason) = cannot_trace() {
        skip!("tcp_over_ipv6_is_recorded_and_an_ipv4_peer_in_ipv6_form_is_ipv4", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        skip!("tcp_over_ipv6_is_recorded_and_an_ipv4_peer_in_ipv6_form_is_ipv4", "no IPv6 on loopback");
    };
    let peer = listener.local_addr().unwrap();
    let _stream = TcpStream::connect(peer).unwrap();
    assert_eq!(own(&daemon, |event| event["remote_port"] == peer.port())["remote_ip"], "::1");

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let _stream = TcpStream::connect((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port)).unwrap();
    let event = own(&daemon, |event| event["remote_port"] == port);
    assert_eq!((&event["remote_ip"], &event["family"]), (&json!("127.0.0.1"), &json!(libc::AF_INET6)));
}

#[test]
fn refused_connection_keeps_its_peer() {
    if let Some(reason) = cannot_trace() {
        skip!("refused_connection_keeps_its_peer", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    // A port that was just given back.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    let event = own(&daemon, |event| event["remote_port"] == port);
    assert_eq!(event["result"], -libc::ECONNREFUSED);
    assert_eq!((&event["remote_ip"], &event["address_source"]), (&json!("127.0.0.1"), &json!("kernel_copy")));
}

#[test]
fn udp_connect_is_recorded_as_udp() {
    if let Some(reason) = cannot_trace() {
        skip!("udp_connect_is_recorded_as_udp", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::new(127, 0, 0, 9), 9)).unwrap();
    let event = own(&daemon, |event| event["remote_ip"] == "127.0.0.9");
    assert_eq!(
        (&event["protocol"], &event["remote_port"], &event["result"]),
        (&json!("udp"), &json!(9), &json!(0))
    );
}

#[test]
fn unix_socket_is_named_by_its_own_path_whatever_name_was_used() {
    if let Some(reason) = cannot_trace() {
        skip!("unix_socket_is_named_by_its_own_path_whatever_name_was_used", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("docker.sock"), folder.path().join("innocent"));
    let _listener = UnixListener::bind(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let _stream = UnixStream::connect(&link).unwrap();
    let event = own(&daemon, |event| event["path"] == real.to_str().unwrap());
    assert_eq!(event["path_ino"], std::os::unix::fs::MetadataExt::ino(&real.metadata().unwrap()));
    assert_eq!((&event["family"], &event["result"]), (&json!(libc::AF_UNIX), &json!(0)));

    let missing = folder.path().join("missing");
    assert!(UnixStream::connect(&missing).is_err());
    let event = own(&daemon, |event| event["path"] == missing.to_str().unwrap());
    assert_eq!(event["result"], -libc::ENOENT);
    assert_eq!((&event["path_flags"], &event["address_source"]), (&json!(["unverified"]), &json!("caller")));
}

#[test]
fn container_that_contacts_the_metadata_service_raises_an_alert_and_another_address_does_not() {
    if let Some(reason) = cannot_trace() {
        skip!(
            "container_that_contacts_the_metadata_service_raises_an_alert_and_another_address_does_not",
            "{reason}"
        );
    }
    let daemon = Daemon::start(&[]);
    let container = Container::start("cloud").unwrap();
    // The container's network namespace has no way out.
    container.sh("nc -w 1 203.0.113.7 80; nc -w 1 169.254.169.254 80; true").unwrap();
    let alert = daemon.wait_for(|record| record["rule"] == "Cloud metadata service contacted");
    assert_eq!(alert["kind"], "alert");
    assert_eq!(alert["event"]["remote_ip"], "169.254.169.254");
    assert_eq!(alert["event"]["result"], -libc::ENETUNREACH);
    assert!(is_event(&alert, "connect", container.id()));
    let other = daemon.wait_for(|record| record["event"]["remote_ip"] == "203.0.113.7");
    assert_eq!(other["kind"], "event");
}

//! `connect`: who talks to whom, and with what result.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};

use io_uring::{opcode, squeue, types};
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

/// An IPv4 address of loopback as the kernel takes it.
fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

#[test]
fn connect_by_a_send_or_by_an_io_uring_is_told_once_and_one_by_the_call_is_told_once() {
    const TEST: &str = "connect_by_a_send_or_by_an_io_uring_is_told_once_and_one_by_the_call_is_told_once";
    if let Some(reason) = cannot_trace() {
        skip!(TEST, "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let listeners: [TcpListener; 4] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let addresses = ports.map(loopback);
    let at = |n: usize| std::ptr::from_ref(&addresses[n]);
    // SAFETY: new sockets.
    let socket = |ty: i32| unsafe { libc::socket(libc::AF_INET, ty, 0) };

    let fast = socket(libc::SOCK_STREAM);
    // SAFETY: five bytes, and a whole address.
    let sent =
        unsafe { libc::sendto(fast, b"hello".as_ptr().cast(), 5, libc::MSG_FASTOPEN, at(0).cast(), 16) };
    assert_eq!(sent, 5, "{}", std::io::Error::last_os_error());
    // At once, and by a worker of the ring.
    let mut sockets = vec![fast];
    for (n, flags) in [(1, squeue::Flags::empty()), (2, squeue::Flags::ASYNC)] {
        for fd in [socket(libc::SOCK_STREAM), socket(libc::SOCK_DGRAM)] {
            let connect = opcode::Connect::new(types::Fd(fd), at(n).cast(), 16).build().flags(flags);
            let Some(result) = crate::by_ring(&connect) else { skip!(TEST, "no io_uring") };
            assert_eq!(result, 0);
            sockets.push(fd);
        }
    }
    let _stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[3])).unwrap();
    own(&daemon, |event| event["remote_port"] == ports[3]);

    let (_, records) = daemon.stop();
    let told = |port: u16, protocol: &str| {
        let own = records.iter().filter(|record| record["process"]["pid"] == std::process::id());
        let events = own.map(|record| &record["event"]);
        let to = events.filter(|event| event["remote_port"] == port && event["protocol"] == protocol);
        to.map(|event| {
            assert_eq!((&event["kind"], &event["type"]), (&json!("connect"), &json!("connect")));
            (event["result"].clone(), event["address_source"].clone(), event["io_uring"] == json!(true))
        })
        .collect::<Vec<_>>()
    };
    let otherwise = |ring| vec![(json!(-libc::EINPROGRESS), json!("kernel_copy"), ring)];
    assert_eq!(told(ports[0], "tcp"), otherwise(false));
    for port in [ports[1], ports[2]] {
        assert_eq!(told(port, "tcp"), otherwise(true));
        assert_eq!(told(port, "udp"), otherwise(true));
    }
    assert_eq!(told(ports[3], "tcp"), [(json!(0), json!("socket"), false)]);
    for fd in sockets {
        // SAFETY: a descriptor that this test made.
        unsafe { libc::close(fd) };
    }
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
    let alert = daemon.wait_for(|record| record["rule"] == "Cloud metadata service contacted by hand");
    assert_eq!(alert["kind"], "alert");
    assert_eq!(alert["event"]["remote_ip"], "169.254.169.254");
    assert_eq!(alert["event"]["result"], -libc::ENETUNREACH);
    assert!(is_event(&alert, "connect", container.id()));
    let other = daemon.wait_for(|record| record["event"]["remote_ip"] == "203.0.113.7");
    assert_eq!(other["kind"], "event");
}

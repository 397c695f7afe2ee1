//! `flow`: how connections ended, and how much went over them.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use io_uring::{opcode, types};
use serde_json::{Value, json};
use taffrail_tests::daemon::Daemon;
use taffrail_tests::{cannot_trace, skip};

/// Connections of this test's own process: it can see both ends.
const OWN: [&str; 2] = ["scope.host=true", "log.record=evt.kind in (flow, accept)"];

/// The end of the connection between these, as the first saw it.
fn flow(daemon: &Daemon, local: SocketAddr, remote: SocketAddr) -> Value {
    let record = daemon.wait_for(|record| {
        let event = &record["event"];
        event["kind"] == "flow"
            && event["local_port"] == local.port()
            && event["remote_port"] == remote.port()
    });
    assert_eq!(record["process"]["pid"], std::process::id(), "{record}");
    let event = record["event"].clone();
    assert_eq!(event["local_ip"], local.ip().to_string());
    assert_eq!(event["remote_ip"], remote.ip().to_string());
    event
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

/// Sets a socket's option.
fn set<T>(stream: &impl std::os::fd::AsRawFd, level: i32, option: i32, value: &T) {
    let (at, len) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: `len` bytes at `at`.
    assert_eq!(unsafe { libc::setsockopt(stream.as_raw_fd(), level, option, at, len) }, 0);
}

#[test]
fn both_ends_are_told_with_the_exact_number_of_bytes() {
    if let Some(reason) = cannot_trace() {
        skip!("both_ends_are_told_with_the_exact_number_of_bytes", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    for (up, down) in [(1_000, 5_000), (0, 0), (3_000_000, 1)] {
        let listener = listener();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let (own, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let sender = std::thread::spawn(move || {
            client.write_all(&vec![b'u'; up]).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all.len()
        });
        server.write_all(&vec![b'd'; down]).unwrap();
        let mut all = Vec::new();
        server.read_to_end(&mut all).unwrap();
        drop(server);
        assert_eq!((all.len(), sender.join().unwrap()), (up, down));

        let out = flow(&daemon, own, peer);
        assert_eq!((&out["sent_bytes"], &out["received_bytes"]), (&json!(up), &json!(down)));
        assert_eq!(
            (&out["direction"], &out["established"], out.get("error")),
            (&json!("out"), &json!(true), None)
        );
        let into = flow(&daemon, peer, own);
        assert_eq!((&into["sent_bytes"], &into["received_bytes"]), (&json!(down), &json!(up)));
        assert_eq!((&into["direction"], into.get("connect_latency_ns")), (&json!("in"), None));
    }
}

#[test]
fn connection_that_the_peer_reset_says_so() {
    if let Some(reason) = cannot_trace() {
        skip!("connection_that_the_peer_reset_says_so", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let listener = listener();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let (own, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    set(&server, libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 });
    drop(server);
    let out = flow(&daemon, own, peer);
    assert_eq!((&out["error"], &out["established"]), (&json!("ECONNRESET"), &json!(true)));
    // It did so itself: no error of its own.
    assert_eq!(flow(&daemon, peer, own).get("error"), None);
}

#[test]
fn connection_that_was_refused_or_never_answered_was_not_established() {
    if let Some(reason) = cannot_trace() {
        skip!("connection_that_was_refused_or_never_answered_was_not_established", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let free = listener().local_addr().unwrap();
    assert!(TcpStream::connect(free).is_err());
    let of = |port: u16| {
        let record = daemon
            .wait_for(|record| record["event"]["kind"] == "flow" && record["event"]["remote_port"] == port);
        assert_eq!(record["process"]["pid"], std::process::id());
        record["event"].clone()
    };
    let refused = of(free.port());
    assert_eq!((&refused["error"], &refused["established"]), (&json!("ECONNREFUSED"), &json!(false)));

    // A network of its own, whose only way out leads nowhere.
    let waited = std::thread::spawn(|| {
        // SAFETY: of this thread only.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        let script =
            "ip link add void type dummy && ip addr add 192.0.2.1/24 dev void && ip link set void up";
        let made = std::process::Command::new("sh").args(["-c", script]).status();
        if !made.is_ok_and(|status| status.success()) {
            return None;
        }
        // SAFETY: a new socket.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        // SAFETY: a socket of its own from here on.
        let socket = unsafe { TcpStream::from_raw_fd(fd) };
        set(&socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, &1i32);
        let to = address([192, 0, 2, 2], 7);
        // SAFETY: a whole address.
        assert_eq!(unsafe { libc::connect(fd, std::ptr::from_ref(&to).cast(), 16) }, -1);
        Some(std::io::Error::last_os_error().raw_os_error())
    });
    let Some(error) = waited.join().unwrap() else {
        skip!(
            "connection_that_was_refused_or_never_answered_was_not_established",
            "no device of the type dummy"
        );
    };
    assert_eq!(error, Some(libc::ETIMEDOUT));
    let silent = of(7);
    assert_eq!((&silent["error"], &silent["established"]), (&json!("ETIMEDOUT"), &json!(false)));
    assert_eq!(silent["local_ip"], "192.0.2.1");
}

fn address([a, b, c, d]: [u8; 4], port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([a, b, c, d]) },
        sin_zero: [0; 8],
    }
}

#[test]
fn connection_that_nobody_accepts_is_of_who_listens() {
    if let Some(reason) = cannot_trace() {
        skip!("connection_that_nobody_accepts_is_of_who_listens", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let listener = listener();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (own, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    client.write_all(b"abc").unwrap();
    drop(client);
    drop(listener);
    let into = flow(&daemon, peer, own);
    assert_eq!((&into["direction"], &into["received_bytes"]), (&json!("in"), &json!(3)));
}

#[test]
fn connection_that_an_io_uring_accepts_is_told_and_has_an_owner() {
    if let Some(reason) = cannot_trace() {
        skip!("connection_that_an_io_uring_accepts_is_told_and_has_an_owner", "{reason}");
    }
    let daemon = Daemon::start(&OWN);
    let listener = listener();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (own, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let none = std::ptr::null_mut();
    let accept = opcode::Accept::new(types::Fd(listener.as_raw_fd()), none, none.cast()).build();
    let Some(fd) = crate::by_ring(&accept) else {
        skip!("connection_that_an_io_uring_accepts_is_told_and_has_an_owner", "no io_uring");
    };
    assert!(fd >= 0, "{fd}");
    // SAFETY: the descriptor that the ring gave out.
    let server = unsafe { TcpStream::from_raw_fd(fd) };
    let accept = daemon.wait_for(|record| {
        record["event"]["kind"] == "accept" && record["event"]["remote_port"] == own.port()
    });
    assert_eq!((&accept["event"]["io_uring"], &accept["event"]["result"]), (&json!(true), &json!(fd)));
    assert_eq!(accept["process"]["pid"], std::process::id());
    drop((server, client));
    assert_eq!(flow(&daemon, peer, own)["direction"], "in");
}

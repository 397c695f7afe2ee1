//! Peers that are reached without connect(2), or under another form or name.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::Value;
use taffrail_tests::raw;
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::stage::{Ending, Object, Stage, seen};
use crate::swap::ipv4;

const PEER: [u8; 4] = [127, 0, 0, 5];

fn socket(family: i32, kind: i32) -> io::Result<OwnedFd> {
    raw::descriptor(syscall!(libc::SYS_socket, family, kind | libc::SOCK_CLOEXEC, 0))
}

fn listener(port: u16) -> io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind((std::net::Ipv4Addr::from(PEER), port))
}

/// Whether an event of one of these kinds names that peer.
fn reached(ending: &Ending, pid: u32, kinds: &[&str], port: u16) -> Option<String> {
    let names_peer = |record: &&Value| {
        let event = &record["event"];
        event["remote_ip"] == "127.0.0.5" && event["remote_port"] == port
    };
    let found = kinds.iter().find(|kind| ending.by(pid, kind).any(|record| names_peer(&record)));
    found.map(|kind| format!("the peer, by `{kind}`"))
}

/// Plays a trick that reaches port 4001 of the peer, beside a plain connect to port 4000.
#[track_caller]
fn reach(trick: &'static str, kinds: &[&str], part: impl FnOnce() -> io::Result<()>) {
    let Some(stage) = Stage::with_network(trick) else { return };
    let twin = stage.play(|| {
        let _listener = listener(4000)?;
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM)?;
        syscall!(libc::SYS_connect, socket.as_raw_fd(), ipv4(PEER, 4000).as_ptr(), 16).map(drop)
    });
    let twin = twin.unwrap();
    let Some(tried) = stage.play(part) else { return };
    let ending = stage.end();
    ending.twin("the connect", reached(&ending, twin.pid, &["connect"], 4000).is_some());
    let lost: u64 = kinds.iter().map(|kind| ending.lost(kind)).sum();
    ending.judge(match reached(&ending, tried.pid, kinds, 4001) {
        Some(note) => (Verdict::Seen, note),
        None if lost > 0 => (Verdict::LossReported, "lost, and the gap record says so".to_owned()),
        None => (Verdict::Missed, "the peer is not seen".to_owned()),
    });
}

#[test]
fn peer_of_a_fast_open_is_seen() {
    reach("connect: TCP fast open, sendto without connect", &["connect", "flow"], || {
        let listener = listener(4001)?;
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM)?;
        let (address, data) = (ipv4(PEER, 4001), b"data");
        let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL;
        syscall!(
            libc::SYS_sendto,
            socket.as_raw_fd(),
            data.as_ptr(),
            data.len(),
            flags,
            address.as_ptr(),
            address.len()
        )
        .map_err(|error| taffrail_tests::sandbox::unsupported(format!("no fast open: {error}")))?;
        let (mut stream, _) = listener.accept()?;
        let mut received = [0; 4];
        io::Read::read_exact(&mut stream, &mut received)?;
        assert_eq!(&received, data);
        Ok(())
    });
}

#[test]
fn peer_of_an_unconnected_datagram_is_seen() {
    reach("udp: sendto without connect", &["udp"], || {
        let receiver = std::net::UdpSocket::bind((std::net::Ipv4Addr::from(PEER), 4001))?;
        std::net::UdpSocket::bind("127.0.0.1:0")?.send_to(b"data", (std::net::Ipv4Addr::from(PEER), 4001))?;
        receiver.recv(&mut [0; 8]).map(drop)
    });
}

#[test]
fn each_peer_of_one_sendmmsg_is_seen() {
    reach("udp: sendmmsg to several peers, the last one counts", &["udp"], || {
        let receiver = std::net::UdpSocket::bind((std::net::Ipv4Addr::from(PEER), 4001))?;
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
        let addresses = [ipv4([127, 0, 0, 6], 53), ipv4(PEER, 4001)];
        let data = b"data";
        let mut vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        // SAFETY: all zeros are a valid value.
        let mut messages: [libc::mmsghdr; 2] = unsafe { std::mem::zeroed() };
        for (message, address) in messages.iter_mut().zip(&addresses) {
            message.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_namelen = 16;
            message.msg_hdr.msg_iov = &raw mut vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        let sent = syscall!(libc::SYS_sendmmsg, socket.as_raw_fd(), messages.as_mut_ptr(), 2, 0)?;
        assert_eq!(sent, 2);
        receiver.recv(&mut [0; 8]).map(drop)
    });
}

#[test]
fn ipv4_peer_in_ipv6_form_is_ipv4() {
    reach("connect: IPv4 peer in IPv6 form (::ffff:a.b.c.d)", &["connect"], || {
        let _listener = listener(4001)?;
        let peer = (std::net::Ipv4Addr::from(PEER).to_ipv6_mapped(), 4001);
        std::net::TcpStream::connect(peer).map(drop).map_err(|error| match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT) => taffrail_tests::sandbox::unsupported("no IPv6"),
            _ => error,
        })
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn peer_of_a_socketcall_is_seen() {
    use taffrail_tests::raw::compat::{call, low, unavailable};
    reach("connect: 32-bit entry, socketcall", &["connect"], || {
        unavailable().map_or(Ok(()), |reason| Err(taffrail_tests::sandbox::unsupported(reason)))?;
        const SOCKETCALL: u32 = 102;
        const SYS_CONNECT: u32 = 3;
        let _listener = listener(4001)?;
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM)?;
        let address = low(&ipv4(PEER, 4001))?;
        let words = [socket.as_raw_fd() as u32, address, 16].map(u32::to_le_bytes).concat();
        call(SOCKETCALL, &[SYS_CONNECT, low(&words)?]).map(drop)
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn peer_of_a_32_bit_connect_is_seen() {
    use taffrail_tests::raw::compat::{call, low, unavailable};
    reach("connect: 32-bit entry, connect", &["connect"], || {
        unavailable().map_or(Ok(()), |reason| Err(taffrail_tests::sandbox::unsupported(reason)))?;
        const CONNECT: u32 = 362;
        let _listener = listener(4001)?;
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM)?;
        call(CONNECT, &[socket.as_raw_fd() as u32, low(&ipv4(PEER, 4001))?, 16]).map(drop)
    });
}

#[test]
fn runtimes_socket_has_its_own_name_behind_a_renamed_bind_mount() {
    const RUNTIME: &str = "/run/containerd/containerd.sock";
    let Some(stage) = Stage::set("connect: runtime's socket through a renamed bind mount") else { return };
    let twin = stage.play(|| {
        std::fs::create_dir_all("/run/containerd")?;
        let _listener = UnixListener::bind(RUNTIME)?;
        let _stream = UnixStream::connect(RUNTIME)?;
        Ok(())
    });
    let twin = twin.unwrap();
    let tried = stage.play(|| {
        std::fs::remove_file(RUNTIME)?;
        let _listener = UnixListener::bind(RUNTIME)?;
        std::fs::write("/tmp/innocent", "")?;
        raw::mount(RUNTIME, "/tmp/innocent", "", libc::MS_BIND, "")?;
        let _stream = UnixStream::connect("/tmp/innocent")?;
        Object::of(&raw::open(RUNTIME, libc::O_PATH)?)
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    let connected = |pid: u32| ending.by(pid, "connect").find(|record| record["event"]["path"] == RUNTIME);
    ending.twin("the connect", connected(twin.pid).is_some());
    let found = connected(tried.pid).is_some_and(|record| record["event"]["path_ino"] == tried.value.ino);
    ending.judge(seen(found, "the name and inode that the socket was bound to"));
}

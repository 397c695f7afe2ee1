//! `dup`: a socket becomes standard input, output or error.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn socket_that_becomes_a_standard_stream_is_told_and_no_other_copy() {
    let Some(seen) = watch("socket_that_becomes_a_standard_stream_is_told_and_no_other_copy", || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        let fd = client.as_raw_fd();
        // The streams are put back before the test's own machinery misses them.
        let keep = outcome(syscall!(libc::SYS_fcntl, 0, libc::F_DUPFD_CLOEXEC, 100));
        // SAFETY: the descriptor is new and nobody else's.
        let keep = unsafe { OwnedFd::from_raw_fd(keep as i32) };
        outcome(syscall!(libc::SYS_dup3, fd, 0, 0));
        // `fcntl` gives the lowest that is free.
        outcome(syscall!(libc::SYS_close, 0));
        outcome(syscall!(libc::SYS_fcntl, fd, libc::F_DUPFD, 0));
        // What is not told: a copy elsewhere, other commands, a file, a Unix socket, a failure.
        outcome(syscall!(libc::SYS_dup3, fd, 90, 0));
        outcome(syscall!(libc::SYS_fcntl, fd, libc::F_GETFL, 0));
        let (unix, _peer) = UnixStream::pair()?;
        outcome(syscall!(libc::SYS_dup3, unix.as_raw_fd(), 0, 0));
        outcome(syscall!(libc::SYS_dup3, File::open("/etc/passwd")?.as_raw_fd(), 0, 0));
        outcome(syscall!(libc::SYS_dup3, fd, fd, 0));
        outcome(syscall!(libc::SYS_dup3, keep.as_raw_fd(), 0, 0));
        Ok((fd, client.local_addr()?.port(), listener.local_addr()?.port()))
    }) else {
        return;
    };
    let (fd, own, peer) = seen.value;
    for call in ["dup3", "fcntl"] {
        seen.one(
            "dup",
            json!({
                "type": call, "result": 0, "fd": fd, "protocol": "tcp", "remote_ip": "127.0.0.1", "remote_port": peer,
                "local_port": own, "address_source": "socket",
            }),
        );
    }
    assert_eq!(seen.all("dup", &json!({})).len(), 2);
}

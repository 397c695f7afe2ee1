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
        let output = outcome(syscall!(libc::SYS_fcntl, 1, libc::F_DUPFD_CLOEXEC, 100));
        // SAFETY: the descriptor is new and nobody else's.
        let output = unsafe { OwnedFd::from_raw_fd(output as i32) };
        let keep = outcome(syscall!(libc::SYS_fcntl, 0, libc::F_DUPFD_CLOEXEC, 100));
        // SAFETY: the descriptor is new and nobody else's.
        let keep = unsafe { OwnedFd::from_raw_fd(keep as i32) };
        outcome(syscall!(libc::SYS_dup3, fd, 0, 0));
        // `fcntl` and `dup` give the lowest that is free.
        for command in [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC] {
            outcome(syscall!(libc::SYS_close, 0));
            outcome(syscall!(libc::SYS_fcntl, fd, command, 0));
        }
        outcome(syscall!(libc::SYS_close, 0));
        outcome(syscall!(libc::SYS_dup, fd));
        #[cfg(target_arch = "x86_64")]
        outcome(syscall!(libc::SYS_dup2, fd, 0));
        let six = outcome(syscall!(libc::SYS_socket, libc::AF_INET6, libc::SOCK_DGRAM, 0));
        outcome(syscall!(libc::SYS_dup3, six, 1, 0));
        outcome(syscall!(libc::SYS_close, six));
        // What is not told: a copy elsewhere, other commands, a file, a Unix socket, a failure.
        outcome(syscall!(libc::SYS_dup3, fd, 90, 0));
        outcome(syscall!(libc::SYS_fcntl, fd, libc::F_GETFL, 0));
        let (unix, _peer) = UnixStream::pair()?;
        outcome(syscall!(libc::SYS_dup3, unix.as_raw_fd(), 0, 0));
        outcome(syscall!(libc::SYS_dup3, File::open("/etc/passwd")?.as_raw_fd(), 0, 0));
        outcome(syscall!(libc::SYS_dup3, fd, fd, 0));
        outcome(syscall!(libc::SYS_dup3, keep.as_raw_fd(), 0, 0));
        outcome(syscall!(libc::SYS_dup3, output.as_raw_fd(), 1, 0));
        Ok((fd, client.local_addr()?.port(), listener.local_addr()?.port()))
    }) else {
        return;
    };
    let (fd, own, peer) = seen.value;
    let calls = [("dup3", 1), ("fcntl", 2), ("dup", 1), ("dup2", usize::from(cfg!(target_arch = "x86_64")))];
    for (call, times) in calls {
        let told = seen.all(
            "dup",
            &json!({
                "type": call, "result": 0, "fd": fd, "protocol": "tcp", "remote_ip": "127.0.0.1", "remote_port": peer,
                "local_port": own, "address_source": "socket",
            }),
        );
        assert_eq!(told.len(), times, "{call}");
    }
    seen.one("dup", json!({ "type": "dup3", "result": 1, "family_name": "AF_INET6" }));
    let times: usize = calls.iter().map(|(_, times)| times).sum();
    assert_eq!(seen.all("dup", &json!({})).len(), times + 1);
}

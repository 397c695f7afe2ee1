//! `accept`: who came in.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn accepted_connection_is_told_with_both_ends() {
    let Some(seen) = watch("accepted_connection_is_told_with_both_ends", || {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = TcpStream::connect(tcp.local_addr()?)?;
        let (server, _) = tcp.accept()?;
        let unix = UnixListener::bind("/tmp/socket")?;
        let _client = UnixStream::connect("/tmp/socket")?;
        let _server = unix.accept()?;
        unix.set_nonblocking(true)?;
        let failed = outcome(syscall!(libc::SYS_accept, unix.as_raw_fd(), 0, 0));
        Ok((
            tcp.local_addr()?.port(),
            client.local_addr()?.port(),
            server.as_raw_fd(),
            tcp.as_raw_fd(),
            failed,
        ))
    }) else {
        return;
    };
    let (own, peer, server, listener, failed) = seen.value;
    seen.one(
        "accept",
        json!({
            "type": "accept4", "result": server, "fd": listener, "protocol": "tcp", "remote_ip": "127.0.0.1",
            "remote_port": peer, "local_ip": "127.0.0.1", "local_port": own, "address_source": "socket",
        }),
    );
    seen.one("accept", json!({"type": "accept4", "family_name": "AF_UNIX", "path": "/tmp/socket"}));
    seen.one("accept", json!({"type": "accept", "result": failed, "path": "/tmp/socket"}));
    assert_eq!(failed, -i64::from(libc::EAGAIN));
}

//! `listen`: who waits for connections, and where.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use serde_json::json;
use taffrail_tests::{raw, syscall};

use crate::{outcome, watch};

#[test]
fn listening_socket_is_told_with_its_address() {
    let Some(seen) = watch("listening_socket_is_told_with_its_address", || {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let _unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name("waits")?)?;
        let file = raw::open("/etc/passwd", libc::O_RDONLY)?;
        let failed = outcome(syscall!(libc::SYS_listen, file.as_raw_fd(), 5));
        Ok((tcp.local_addr()?.port(), tcp.as_raw_fd(), failed))
    }) else {
        return;
    };
    let (port, fd, failed) = seen.value;
    seen.one(
        "listen",
        json!({"result": 0, "fd": fd, "local_ip": "127.0.0.1", "local_port": port, "protocol": "tcp"}),
    );
    // An abstract name starts with NUL.
    seen.one("listen", json!({"result": 0, "family_name": "AF_UNIX", "path": "\0waits"}));
    seen.one("listen", json!({"result": failed, "address_source": "none"}));
    assert_eq!(failed, -i64::from(libc::ENOTSOCK));
}

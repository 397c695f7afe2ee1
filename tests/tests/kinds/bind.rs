//! `bind`: which addresses are taken.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::watch;

#[test]
fn bound_address_is_the_sockets_own() {
    let Some(seen) = watch("bound_address_is_the_sockets_own", || {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = tcp.local_addr()?.port();
        let taken =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).err().and_then(|error| error.raw_os_error());
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
        UnixListener::bind("/tmp/socket")?;
        let missing = UnixListener::bind("/missing/socket").err().and_then(|error| error.raw_os_error());
        Ok((port, taken, udp, missing))
    }) else {
        return;
    };
    let (port, taken, udp, missing) = seen.value;
    // The port that the kernel chose.
    let tcp = json!({"result": 0, "protocol": "tcp", "family_name": "AF_INET", "local_ip": "127.0.0.1",
        "local_port": port, "address_source": "socket"});
    seen.one("bind", tcp);
    seen.one("bind", json!({"result": 0, "protocol": "udp", "local_port": udp}));
    assert_eq!((taken, missing), (Some(libc::EADDRINUSE), Some(libc::ENOENT)));
    let failed = json!({"result": -libc::EADDRINUSE, "local_ip": "127.0.0.1", "local_port": port, "address_source": "caller"});
    seen.one("bind", failed);
    let unix = seen.one("bind", json!({"result": 0, "family_name": "AF_UNIX", "path": "/tmp/socket"}));
    assert!(unix["event"]["path_ino"].as_u64().unwrap() > 0);
    seen.one(
        "bind",
        json!({"result": -libc::ENOENT, "path": "/missing/socket", "path_flags": ["unverified"]}),
    );
}

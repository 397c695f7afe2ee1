//! `flow`: a TCP connection ended, or was never made.

use super::Header;

/// A TCP connection was closed (`inet_sock_set_state` to `TCP_CLOSE`). No payload. The header is of whoever opened or
/// accepted it; of one that came in and was not accepted by then, of whoever listens. If that was not seen, or was
/// forgotten among too many, it is of process 0 in the cgroup that the socket was made in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The owner of the connection.
    pub header: Header,
    /// Peer's address; IPv4 in the first four bytes.
    pub remote_addr: [u8; 16],
    /// Own address, as `remote_addr`.
    pub local_addr: [u8; 16],
    /// Bytes of payload that were sent, each counted once however often it was sent (`tcp_sock.bytes_sent` less
    /// `bytes_retrans`).
    pub bytes_sent: u64,
    /// Bytes of payload that came in (`tcp_sock.bytes_received`, less the one that the kernel counts for a FIN).
    pub bytes_received: u64,
    /// `CLOCK_BOOTTIME` when its SYN was sent, in ns; 0 if it came in, or that was not seen.
    pub begin_ns: u64,
    /// `CLOCK_BOOTTIME` when it was established, in ns; 0 if it never was, or that was not seen.
    pub established_ns: u64,
    /// Peer's port in host order.
    pub remote_port: u16,
    /// Own port in host order.
    pub local_port: u16,
    /// Address family (`AF_*`).
    pub family: u16,
    /// 1 if we connected, 2 if we accepted, 0 if not seen.
    pub direction: u16,
    /// The socket's error (`sk_err`), a positive errno: refused, timed out, reset by the peer; 0 if none, also if this
    /// end reset it.
    pub error: u32,
    /// The state before (`TCP_*`): 2 (`SYN_SENT`) says that it was never established.
    pub old_state: u32,
}

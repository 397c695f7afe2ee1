//! `flow`: a TCP connection ended, or was never made.

use super::Header;

/// A TCP socket that had a peer was closed (`inet_sock_set_state` to `TCP_CLOSE`). No payload. The header is of
/// whoever opened or accepted it, as far as that was seen; else of the task that ran.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The owner of the connection.
    pub header: Header,
    /// Peer's address; IPv4 in the first four bytes.
    pub remote_addr: [u8; 16],
    /// Own address, as `remote_addr`.
    pub local_addr: [u8; 16],
    /// Bytes that the peer has acknowledged (`tcp_sock.bytes_acked`).
    pub bytes_sent: u64,
    /// Bytes that came in (`tcp_sock.bytes_received`).
    pub bytes_received: u64,
    /// `CLOCK_BOOTTIME` when the connection was begun: its SYN was sent or came in, in ns; 0 if not seen.
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
    /// The socket's error (`sk_err`), a positive errno: refused, timed out, reset; 0 if none.
    pub error: u32,
    /// The state before (`TCP_*`): 2 (`SYN_SENT`) says that it was never established.
    pub old_state: u32,
}

//! `udp`: the first datagram of a flow.

use super::Header;

/// A UDP datagram went out, or came in, that is the first of its flow: of that cgroup, own port, peer and direction. A
/// flow that was forgotten among too many is told again. No payload. The header is of the sender; of one that came
/// in, of whoever bound or used the socket last: process 0 if that was not seen.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// The sender or the receiver, whichever is on this machine.
    pub header: Header,
    /// Peer's address as the network sees it; IPv4 in the first four bytes.
    pub remote_addr: [u8; 16],
    /// Own address, as `remote_addr`.
    pub local_addr: [u8; 16],
    /// Bytes that the datagram carries (of several that were sent at once by `UDP_SEGMENT`, of all).
    pub bytes: u32,
    /// Peer's port in host order.
    pub remote_port: u16,
    /// Own port in host order.
    pub local_port: u16,
    /// Address family (`AF_*`) of the packet: an IPv6 socket can send IPv4.
    pub family: u16,
    /// One of [`direction`].
    pub direction: u16,
    /// Zero.
    pub reserved: u32,
}

/// Where a packet went.
pub mod direction {
    /// Sent by the process.
    pub const OUT: u16 = 1;
    /// Received.
    pub const IN: u16 = 2;
}

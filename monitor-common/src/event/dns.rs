//! `dns`: a DNS message.

use super::{Header, Text};

/// The most bytes of one message that a record carries.
pub const DNS_MAX: usize = 2048;

/// A DNS message went out or came in, over UDP or TCP: of a socket with a peer or itself at port 53. Payload: `message`.
/// The header is as of a [`Udp`](super::Udp); of TCP, of who connected or accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Dns {
    /// The sender or the receiver, whichever is on this machine.
    pub header: Header,
    /// The message, without the length that TCP has before it: at most [`DNS_MAX`] bytes. Over TCP only what came with
    /// the segment that it starts in; `full_len` is what its length says.
    pub message: Text,
    /// Peer's address as the network sees it; IPv4 in the first four bytes.
    pub remote_addr: [u8; 16],
    /// Own address, as `remote_addr`.
    pub local_addr: [u8; 16],
    /// Peer's port in host order.
    pub remote_port: u16,
    /// Own port in host order.
    pub local_port: u16,
    /// Address family (`AF_*`) of the packet.
    pub family: u16,
    /// Transport protocol (`IPPROTO_*`).
    pub protocol: u16,
    /// One of [`direction`](super::direction).
    pub direction: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

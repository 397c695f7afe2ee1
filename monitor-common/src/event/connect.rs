//! `connect`, `bind`, `listen`, `accept`, `dup`: a socket and its addresses.

use super::{Header, Path};

/// Where the peer's address in a [`Connect`] came from, best first.
pub mod source {
    /// Read from the connected socket.
    pub const SOCKET: u8 = 1;
    /// The kernel's copy of the address, before it was used (cgroup connect hook).
    pub const KERNEL_COPY: u8 = 2;
    /// The caller's memory after the call: another thread can have changed it.
    pub const CALLER: u8 = 3;
    /// The address could not be read.
    pub const NONE: u8 = 0;
}

/// connect(2), bind(2), listen(2) or accept(2) returned, or the like was done by other means: by io_uring, by a send
/// with `MSG_FASTOPEN`, by the kernel for MPTCP. Payload: `path`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    /// The caller.
    pub header: Header,
    /// Unix sockets: the name that the listening socket was bound to (of an accept: the own one), with its inode
    /// where it lies in a file system. An abstract name starts with NUL. Else empty.
    pub path: Path,
    /// Peer's address; IPv4 in the first four bytes. Zero for other families.
    pub remote_addr: [u8; 16],
    /// Own address, as `remote_addr`.
    pub local_addr: [u8; 16],
    /// 0, or a negative errno (`-EINPROGRESS` for a non-blocking connect, and for one by other means, whose end is not
    /// known yet).
    pub result: i32,
    /// File descriptor of the socket; of an accept: of the one that listens; -1 if it was done by other means.
    pub fd: i32,
    /// Peer's port in host order, 0 if the family has none.
    pub remote_port: u16,
    /// Own port in host order, 0 if not known.
    pub local_port: u16,
    /// Address family (`AF_*`) of the peer's address.
    pub family: u16,
    /// Transport protocol (`IPPROTO_*`), 0 for Unix sockets.
    pub protocol: u16,
    /// Socket type (`SOCK_*`), 0 if not known.
    pub socket_type: u16,
    /// One of [`source`].
    pub source: u8,
    /// Zero.
    pub reserved: u8,
    /// Id of the call in [`CALLS`](crate::call::CALLS); by other means that of the call that was running, or
    /// [`NO_CALL`](crate::call::NO_CALL).
    pub call: u32,
}

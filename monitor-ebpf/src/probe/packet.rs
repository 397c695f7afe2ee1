//! Packets of sockets, at the cgroup hooks: what `udp` and `dns` are made of. A datagram goes out in its sender's
//! context; whatever comes in runs as anybody. These programs can interrupt one another on a CPU, so they use no scratch
//! memory. They always let the packet pass.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_cgroup_id, bpf_skb_load_bytes};
use aya_ebpf::macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext};
use core::mem::MaybeUninit;
use core::ptr::read_volatile;
use taffrail_common::event::{Header, direction};
use taffrail_common::kind::{DNS, UDP};

use super::{dns, udp};
use crate::maps::{DATAGRAM_OWNERS, DNS_SOCKETS, OWNERS};
use crate::read::{address, copy_header, offset, unknown};
use crate::scope;
use crate::socket::{self, AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use crate::task::{self, Task};

/// Pass.
const PASS: i32 = 1;

/// `BPF_CGROUP_INET_EGRESS`: a packet of a socket on its way out, before fragmentation.
#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    look::<true>(&ctx);
    PASS
}

/// `BPF_CGROUP_INET_INGRESS`: a packet that came for a socket.
#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    look::<false>(&ctx);
    PASS
}

/// `BPF_CGROUP_UDP4_SENDMSG`: a datagram with an address is about to be sent.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    asks(&ctx);
    PASS
}

/// `BPF_CGROUP_UDP6_SENDMSG`: as [`sendmsg4`].
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    asks(&ctx);
    PASS
}

/// `BPF_CGROUP_INET_SOCK_CREATE`: a socket of IPv4 or IPv6 was made. A datagram may come for it before it sends one.
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    // SAFETY: the context is valid for the program's run.
    if unsafe { read_volatile(&raw const (*ctx.sock).protocol) } == IPPROTO_UDP as u32 {
        let (sk, task) = (address(ctx.sock), Task::current());
        // Of an earlier socket at that address.
        let _ = DATAGRAM_OWNERS.remove(&(sk as u64));
        let _ = DNS_SOCKETS.remove(&(sk as u64));
        if !task.is_kernel_thread() {
            uses(sk, scope::cgroup_id(), task);
        }
    }
    PASS
}

/// Remembers a socket that asks port 53: in the packet it may be another, if the container's own network translates
/// it (Docker's resolver).
#[inline(always)]
fn asks(ctx: &SockAddrContext) {
    // SAFETY: the context is valid for the program's run.
    let (port, sk) = unsafe {
        (read_volatile(&raw const (*ctx.sock_addr).user_port), address((*ctx.sock_addr).__bindgen_anon_1.sk))
    };
    if u16::from_be(port as u16) == dns::PORT {
        let _ = DNS_SOCKETS.insert(&(sk as u64), &1, 0);
    }
}

/// What a packet says of itself.
pub struct Packet {
    pub skb: *mut __sk_buff,
    /// The `struct sock` that sends or receives it.
    pub sk: *const u8,
    /// Whose it is: the sender's, or that of who uses the socket; else the socket's own.
    pub cgroup_id: u64,
    /// Which process, 0 if that is not known.
    tgid: u32,
    pub remote_addr: [u32; 4],
    pub local_addr: [u32; 4],
    pub remote_port: u16,
    pub local_port: u16,
    pub family: u16,
    pub protocol: u16,
    /// The peer's port that the socket is connected to, 0 if none: NAT does not change it.
    pub connected_port: u16,
    /// One of [`direction`].
    pub direction: u16,
    /// Where the transport's header is.
    pub transport: u32,
    /// Bytes from there on.
    pub len: u32,
}

impl Packet {
    /// The header of a record, on the stack.
    #[inline(always)]
    pub fn header(&self, kind: u16) -> MaybeUninit<Header> {
        let mut memory = MaybeUninit::<Header>::uninit();
        let header = memory.as_mut_ptr();
        let sender = if self.direction == direction::OUT { sender::<true>(self.protocol) } else { None };
        match (sender, owner(self.sk, self.protocol)) {
            // SAFETY: memory of the right size.
            (Some(task), _) => unsafe { task::fill_header(header, kind, 0, self.cgroup_id, task) },
            (None, Some(owner)) => {
                // SAFETY: plain stores.
                #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one header")]
                unsafe {
                    copy_header(header, owner);
                    (*header).kind = kind;
                    (*header).flags = 0;
                    (*header).boot_ns = bpf_ktime_get_boot_ns();
                }
            }
            // SAFETY: memory of the right size.
            (None, None) => unsafe { socket::fill_nobody(header, kind, self.cgroup_id, self.sk) },
        }
        // SAFETY: plain store.
        unsafe { (*header).len = 0 };
        memory
    }

    /// Copies what is at a place of the packet; `None` if not all of it is there.
    #[inline(always)]
    pub fn load<T>(&self, at: u32) -> Option<T> {
        load(self.skb, at)
    }
}

#[inline(always)]
fn load<T>(skb: *mut __sk_buff, at: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes the value, or fails.
    let failed =
        unsafe { bpf_skb_load_bytes(skb.cast(), at, value.as_mut_ptr().cast(), size_of::<T>() as u32) != 0 };
    // SAFETY: it is written; callers take integers and arrays of them only.
    if failed { None } else { Some(unsafe { value.assume_init() }) }
}

#[inline(always)]
fn look<const OUT: bool>(ctx: &SkBuffContext) {
    let Some(packet) = packet::<OUT>(ctx.as_ptr().cast()) else { return };
    let kinds = scope::kinds_of(packet.cgroup_id, packet.tgid) & (1 << UDP | 1 << DNS);
    if kinds == 0 {
        return;
    }
    if packet.protocol == IPPROTO_TCP {
        if kinds & 1 << DNS != 0 {
            dns::in_segment(&packet);
        }
        return;
    }
    let flow = udp::flow(&packet, kinds & 1 << UDP != 0);
    if kinds & 1 << DNS != 0 && flow == udp::DNS_FLOW {
        dns::datagram(&packet);
    }
}

/// Takes a packet apart; `None` if it is neither a datagram nor a segment at port 53.
#[inline(always)]
fn packet<const OUT: bool>(skb: *mut __sk_buff) -> Option<Packet> {
    /// `ETH_P_IP`, `ETH_P_IPV6` in network order.
    const IPV4: u32 = 0x0008;
    const IPV6: u32 = 0xdd86;
    // SAFETY: the context is valid for the program's run.
    let (sk, ethernet, whole) = unsafe {
        (
            read_volatile(&raw const (*skb).__bindgen_anon_2.sk),
            read_volatile(&raw const (*skb).protocol),
            read_volatile(&raw const (*skb).len),
        )
    };
    if sk.is_null() {
        return None;
    }
    let (family, protocol, source, destination, transport, ports) = match ethernet {
        IPV4 => {
            // With the ports, if no options come between.
            let [first, _, third, source, destination, ports]: [u32; 6] = load(skb, 0)?;
            let header = (first & 0xf) * 4;
            // Protocol is the second byte of the third word.
            let protocol = (third >> 8 & 0xff) as u16;
            let ports = if header == 20 { ports } else { load(skb, header)? };
            (AF_INET, protocol, [source, 0, 0, 0], [destination, 0, 0, 0], header, ports)
        }
        IPV6 => {
            let [_, second, s0, s1, s2, s3, d0, d1, d2, d3, ports]: [u32; 11] = load(skb, 0)?;
            // Next header is the third byte of the second word.
            let (protocol, transport) = upper_layer(skb, (second >> 16 & 0xff) as u8)?;
            let ports = if transport == 40 { ports } else { load(skb, transport)? };
            (AF_INET6, protocol as u16, [s0, s1, s2, s3], [d0, d1, d2, d3], transport, ports)
        }
        _ => return None,
    };
    if protocol != IPPROTO_UDP && protocol != IPPROTO_TCP {
        return None;
    }
    let (source_port, destination_port) = (u16::from_be(ports as u16), u16::from_be((ports >> 16) as u16));
    let connected_port = connected_port(sk);
    if protocol == IPPROTO_TCP && ![source_port, destination_port, connected_port].contains(&dns::PORT) {
        return None;
    }
    let (remote_addr, local_addr, remote_port, local_port) = if OUT {
        (destination, source, destination_port, source_port)
    } else {
        (source, destination, source_port, destination_port)
    };
    let sk = address(sk);
    let (cgroup_id, tgid) = match (sender::<OUT>(protocol), owner(sk, protocol)) {
        (Some(task), _) => (task.cgroup_id(), task.field(offset!(task_tgid))),
        (None, Some(owner)) => (owner.cgroup_id, owner.tgid),
        // Sockets are in no hierarchy of v1.
        (None, None) if scope::hierarchy() != 0 => (0, 0),
        // SAFETY: the context is valid for the program's run.
        (None, None) => (unsafe { bpf_skb_cgroup_id(skb) }, 0),
    };
    Some(Packet {
        skb,
        sk,
        cgroup_id: unknown(cgroup_id),
        tgid: unknown(tgid as u64) as u32,
        remote_addr,
        local_addr,
        remote_port: unknown(remote_port as u64) as u16,
        local_port: unknown(local_port as u64) as u16,
        connected_port,
        family: unknown(family as u64) as u16,
        protocol: unknown(protocol as u64) as u16,
        direction: if OUT { direction::OUT } else { direction::IN },
        transport: unknown(transport as u64) as u32,
        len: unknown(whole.saturating_sub(transport) as u64) as u32,
    })
}

/// The acting task if it sends the packet: a datagram of a user's goes out in its context.
#[inline(always)]
fn sender<const OUT: bool>(protocol: u16) -> Option<Task> {
    if !OUT || protocol != IPPROTO_UDP {
        return None;
    }
    let task = Task::current();
    (!task.is_kernel_thread()).then_some(task)
}

/// Who is remembered to use a socket. It is of this socket: each new one overwrites or removes what is remembered of an
/// earlier one at its address.
#[inline(always)]
fn owner(sk: *const u8, protocol: u16) -> Option<&'static Header> {
    let key = sk as u64;
    match protocol {
        // SAFETY: callers copy the value at once.
        IPPROTO_TCP => unsafe { OWNERS.get(&key) }.map(|owner| &owner.header),
        // SAFETY: callers copy the value at once.
        _ => unsafe { DATAGRAM_OWNERS.get(&key) },
    }
}

/// The peer's port that a socket is connected to, 0 if none.
#[inline(always)]
fn connected_port(sk: *const bpf_sock) -> u16 {
    // SAFETY: not null, and the verifier checks the access.
    u16::from_be(unsafe { read_volatile(&raw const (*sk).dst_port) })
}

/// The transport protocol of an IPv6 packet and where its header is, behind all extension headers.
#[inline(always)]
fn upper_layer(skb: *mut __sk_buff, first: u8) -> Option<(u8, u32)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let (mut next, mut at) = (first, 40u32);
    // RFC 8200 has each at most once but for one; more are no packet that anybody takes.
    for _ in 0..6 {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return Some((next, at));
        }
        let [following, len]: [u8; 2] = load(skb, at)?;
        at += if next == FRAGMENT { 8 } else { (len as u32 + 1) * 8 };
        next = following;
    }
    None
}

/// Whether a datagram is of a socket at port 53, or one that asked it whatever the packet says.
#[inline(always)]
pub fn asked_dns(packet: &Packet) -> bool {
    [packet.remote_port, packet.local_port, packet.connected_port].contains(&dns::PORT)
        // SAFETY: the value is not looked at.
        || unsafe { DNS_SOCKETS.get(&(packet.sk as u64)) }.is_some()
}

/// Remembers who uses a UDP socket.
#[inline(always)]
pub fn remember(sk: *const u8, header: &Header) {
    let _ = DATAGRAM_OWNERS.insert(&(sk as u64), header, 0);
}

/// As [`remember`], for the caller of socket(2), bind(2) or connect(2).
#[inline(always)]
pub fn uses(sk: *const u8, cgroup_id: u64, task: Task) {
    if !scope::watched(UDP, cgroup_id) && !scope::watched(DNS, cgroup_id) {
        return;
    }
    let mut header = MaybeUninit::<Header>::uninit();
    let header = header.as_mut_ptr();
    // SAFETY: memory of the right size.
    unsafe { task::fill_header(header, UDP, 0, cgroup_id, task) };
    // SAFETY: plain store.
    unsafe { (*header).len = 0 };
    // SAFETY: all fields are written.
    remember(sk, unsafe { &*header });
}

//! `flow`: a TCP connection ended. Most of its states change in interrupts, where the running task is anybody:
//! its owner is who connected or accepted it, remembered from then. A connection that nobody accepted by a call is
//! of who listens, and one of which nothing is remembered is of the cgroup that its socket was made in.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::MaybeUninit;
use taffrail_common::event::{Flow, Header};
use taffrail_common::kind::{DNS, FLOW, LISTEN};
use taffrail_common::map::Owner;

use super::connect::{self, addresses};
use super::syscall::running;
use crate::emit::{Lane, emit};
use crate::maps::{LISTENERS, OWNERS};
use crate::read::{kernel, offset};
use crate::scope;
use crate::socket::{self, AF_INET, AF_INET6, IPPROTO_TCP, acting};
use crate::task::{self, Task};

const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_SYN_RECV: u32 = 3;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

/// Directions of a flow.
const UNKNOWN: u32 = 0;
const CONNECTED: u32 = 1;
const ACCEPTED: u32 = 2;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn flow(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    // SCTP and the outer socket of MPTCP have these states too.
    if kernel::<u16>(sk, offset!(sock_protocol)) != IPPROTO_TCP {
        return 0;
    }
    match (ctx.arg::<u32>(1), ctx.arg::<u32>(2)) {
        // By the caller of connect(2), or of whatever else connects.
        (_, TCP_SYN_SENT) => connects(sk),
        // In an interrupt: the socket is a new copy of the one that listens.
        (TCP_LISTEN, TCP_SYN_RECV) => comes_in(sk),
        (_, TCP_ESTABLISHED) => {
            if let Some(owner) = OWNERS.get_ptr_mut(&(sk as u64)) {
                // SAFETY: no arguments; nobody else changes this field.
                unsafe { (*owner).established_ns = bpf_ktime_get_boot_ns() };
            }
        }
        // By the caller of listen(2), or of whatever else does it.
        (_, TCP_LISTEN) => listens(sk),
        (TCP_LISTEN, TCP_CLOSE) => {
            let _ = LISTENERS.remove(&listener(sk));
        }
        (TCP_CLOSE, _) => {}
        (old_state, TCP_CLOSE) => ended(sk, old_state),
        _ => {}
    }
    0
}

/// Whose a connection is that begins. Whatever is remembered of an earlier socket at that address is overwritten.
#[inline(always)]
fn connects(sk: *const u8) {
    let Some(actor) = acting(sk, [FLOW, DNS]) else {
        let _ = OWNERS.remove(&(sk as u64));
        return;
    };
    let mut owner = MaybeUninit::<Owner>::uninit();
    let owner = owner.as_mut_ptr();
    // SAFETY: it starts with the header.
    unsafe { actor.fill_header(&raw mut (*owner).header, FLOW, sk) };
    // SAFETY: plain stores; all other fields are written.
    unsafe { finish(owner, CONNECTED, 0) };
    // SAFETY: all fields are written.
    let _ = OWNERS.insert(&(sk as u64), unsafe { &*owner }, 0);
}

/// Remembers who listens; and tells it, if not by the call for it.
#[inline(always)]
fn listens(sk: *const u8) {
    match acting(sk, [FLOW, DNS]) {
        None => {
            let _ = LISTENERS.remove(&listener(sk));
        }
        Some(actor) => {
            let mut header = MaybeUninit::<Header>::uninit();
            let header = header.as_mut_ptr();
            // SAFETY: memory of the right size.
            unsafe { actor.fill_header(header, FLOW, sk) };
            // SAFETY: plain store.
            unsafe { (*header).len = 0 };
            // SAFETY: the value is looked at at once.
            let other = unsafe { LISTENERS.get(&listener(sk)) };
            // In trees of v1 no socket says whose a connection is: with two that listen at one port it is nobody's.
            if scope::hierarchy() != 0 && other.is_some_and(|other| other.cgroup_id != actor.cgroup_id) {
                // SAFETY: plain store.
                unsafe { (*header).cgroup_id = 0 };
            }
            // SAFETY: all fields are written.
            let _ = LISTENERS.insert(&listener(sk), unsafe { &*header }, 0);
        }
    }
    if running(LISTEN).is_err() {
        connect::listens_otherwise(sk);
    }
}

/// The key of a listening socket: its network namespace and port.
#[inline(always)]
fn listener(sk: *const u8) -> u64 {
    let net: *const u8 = kernel(sk, offset!(sock_net));
    let port = u16::from_be(kernel(sk, offset!(inet_sport)));
    // While it begins to listen, `inet_sport` may not be set yet.
    let port = if port == 0 { kernel(sk, offset!(sock_num)) } else { port };
    (kernel::<u32>(net, offset!(net_inum)) as u64) << 16 | port as u64
}

/// A connection came in: until somebody accepts it, it is of who listens.
#[inline(always)]
fn comes_in(sk: *const u8) {
    let key = sk as u64;
    let cgroup_id = socket::cgroup_id(sk);
    // SAFETY: the value is copied at once.
    let listener = unsafe { LISTENERS.get(&listener(sk)) };
    // Another one may listen at the same port of another address.
    let listener = listener.filter(|header| match scope::hierarchy() {
        0 => header.cgroup_id == cgroup_id,
        _ => header.cgroup_id != 0,
    });
    let cgroup_id = listener.map_or(cgroup_id, |header| header.cgroup_id);
    let tgid = listener.map_or(0, |header| header.tgid);
    if !scope::watched_of(FLOW, cgroup_id, tgid) && !scope::watched_of(DNS, cgroup_id, tgid) {
        let _ = OWNERS.remove(&key);
        return;
    }
    let mut owner = MaybeUninit::<Owner>::uninit();
    let owner = owner.as_mut_ptr();
    match listener {
        // SAFETY: plain store.
        Some(header) => unsafe { (*owner).header = *header },
        // SAFETY: it starts with the header.
        None => unsafe { socket::fill_nobody(&raw mut (*owner).header, FLOW, cgroup_id, sk) },
    }
    // SAFETY: plain stores; all other fields are written.
    unsafe { finish(owner, ACCEPTED, 0) };
    // SAFETY: all fields are written.
    let _ = OWNERS.insert(&key, unsafe { &*owner }, 0);
}

/// accept(2) gave out a connection: now it is the caller's.
#[inline(always)]
pub fn accepted(sk: *const u8, cgroup_id: u64, task: Task) {
    let key = sk as u64;
    // Its end may have come already, and was told.
    if kernel::<u8>(sk, offset!(sock_state)) as u32 == TCP_CLOSE
        || kernel::<u16>(sk, offset!(sock_protocol)) != IPPROTO_TCP
    {
        return;
    }
    if !scope::watched(FLOW, cgroup_id) && !scope::watched(DNS, cgroup_id) {
        let _ = OWNERS.remove(&key);
        return;
    }
    // SAFETY: the value is copied at once.
    let established_ns = unsafe { OWNERS.get(&key) }.map_or(0, |owner| owner.established_ns);
    let mut owner = MaybeUninit::<Owner>::uninit();
    let owner = owner.as_mut_ptr();
    // SAFETY: it starts with the header.
    unsafe { task::fill_header(&raw mut (*owner).header, FLOW, 0, cgroup_id, task) };
    // SAFETY: plain stores; all other fields are written.
    unsafe { finish(owner, ACCEPTED, established_ns) };
    // SAFETY: all fields are written.
    let _ = OWNERS.insert(&key, unsafe { &*owner }, 0);
}

/// Fills in what is not the header.
///
/// # Safety
/// `owner` points to memory of the right size.
#[inline(always)]
unsafe fn finish(owner: *mut Owner, direction: u32, established_ns: u64) {
    // SAFETY: the caller's promise; plain stores.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one value")]
    unsafe {
        (*owner).header.len = 0;
        (*owner).established_ns = established_ns;
        (*owner).direction = direction;
        (*owner).reserved = 0;
    }
}

#[inline(always)]
fn ended(sk: *const u8, old_state: u32) {
    let family: u16 = kernel(sk, offset!(sock_family));
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    let key = sk as u64;
    let mut record = MaybeUninit::<Flow>::uninit();
    let record = record.as_mut_ptr();
    // SAFETY: the value is copied at once.
    let (direction, begin_ns, established_ns) = match unsafe { OWNERS.get(&key) } {
        Some(owner) => {
            let Owner { header, established_ns, direction, .. } = owner;
            // It may have been remembered for DNS alone.
            if !scope::watched_of(FLOW, header.cgroup_id, header.tgid) {
                let _ = OWNERS.remove(&key);
                return;
            }
            // SAFETY: it starts with the header.
            unsafe { (*record).header = *header };
            // SAFETY: plain store.
            unsafe { (*record).header.boot_ns = bpf_ktime_get_boot_ns() };
            let begin_ns = if *direction == CONNECTED { header.boot_ns } else { 0 };
            (*direction, begin_ns, *established_ns)
        }
        // It is older than the probes, or was forgotten among too many.
        None => {
            let cgroup_id = socket::cgroup_id(sk);
            if !scope::watched_of(FLOW, cgroup_id, 0) {
                return;
            }
            // SAFETY: it starts with the header.
            unsafe { socket::fill_nobody(&raw mut (*record).header, FLOW, cgroup_id, sk) };
            (UNKNOWN, 0, 0)
        }
    };
    let _ = OWNERS.remove(&key);
    scope::count_offered(FLOW);
    let ends = addresses(sk, family);
    // The kernel's count of received bytes has one for the peer's FIN, which `SOCK_DONE` says came.
    const SOCK_DONE: u64 = 1 << 1;
    let fin = (kernel::<u64>(sk, offset!(sock_flags)) & SOCK_DONE != 0) as u64;
    let received: u64 = kernel(sk, offset!(tcp_bytes_received));
    let sent: u64 = kernel(sk, offset!(tcp_bytes_sent));
    let again: u64 = kernel(sk, offset!(tcp_bytes_retrans));
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (&raw mut (*record).remote_addr).cast::<[u32; 4]>().write(ends.remote_addr);
        (&raw mut (*record).local_addr).cast::<[u32; 4]>().write(ends.local_addr);
        (*record).bytes_sent = sent.saturating_sub(again);
        (*record).bytes_received = received.saturating_sub(fin);
        (*record).begin_ns = begin_ns;
        (*record).established_ns = established_ns;
        (*record).remote_port = ends.remote_port;
        // The other copy of it is cleared already.
        (*record).local_port = u16::from_be(kernel(sk, offset!(inet_sport)));
        (*record).family = family;
        (*record).direction = direction as u16;
        (*record).error = kernel(sk, offset!(sock_err));
        (*record).old_state = old_state;
    }
    // SAFETY: all fields are written.
    unsafe { emit(record, Lane::Bulk) };
}

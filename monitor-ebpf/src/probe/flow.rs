//! `flow`: a TCP connection ended. Most of its states change in interrupts, where the running task is anybody:
//! its owner is who connected or accepted it, remembered from then.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::mem::MaybeUninit;
use taffrail_common::event::{Flow, Header};
use taffrail_common::kind::FLOW;
use taffrail_common::map::Owner;

use super::connect::{AF_INET, AF_INET6, addresses};
use crate::emit::{Lane, emit};
use crate::maps::OWNERS;
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{self, Task};

const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;

/// Directions of a flow.
pub const CONNECTED: u32 = 1;
pub const ACCEPTED: u32 = 2;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn flow(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    match ctx.arg::<u32>(2) {
        // In connect(2), by the caller.
        TCP_SYN_SENT => remember(sk, scope::cgroup_id(), Task::current(), CONNECTED),
        TCP_ESTABLISHED => {
            if let Some(owner) = OWNERS.get_ptr_mut(&(sk as u64)) {
                // SAFETY: no arguments; nobody else changes the entry of a socket in this state.
                unsafe { (*owner).established_ns = bpf_ktime_get_boot_ns() };
            }
        }
        TCP_CLOSE => ended(sk, ctx.arg(1)),
        _ => {}
    }
    0
}

/// Remembers whose a connection is.
#[inline(always)]
pub fn remember(sk: *const u8, cgroup_id: u64, task: Task, direction: u32) {
    if !scope::watched(FLOW, cgroup_id) {
        return;
    }
    let mut owner = MaybeUninit::<Owner>::uninit();
    let owner = owner.as_mut_ptr();
    // SAFETY: it starts with the header.
    unsafe { task::fill_header(&raw mut (*owner).header, FLOW, 0, cgroup_id, task) };
    // SAFETY: plain stores.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one value")]
    unsafe {
        (*owner).header.len = 0;
        (*owner).established_ns = if direction == ACCEPTED { (*owner).header.boot_ns } else { 0 };
        (*owner).direction = direction;
        (*owner).reserved = 0;
    }
    // SAFETY: all fields are written.
    let _ = OWNERS.insert(&(sk as u64), unsafe { &*owner }, 0);
}

#[inline(always)]
fn ended(sk: *const u8, old_state: u32) {
    let key = sk as u64;
    // SAFETY: the value is copied at once.
    let Some(owner) = (unsafe { OWNERS.get(&key) }) else { return };
    let Owner { header, established_ns, direction, .. } = *owner;
    let _ = OWNERS.remove(&key);
    let family: u16 = kernel(sk, offset!(sock_family));
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    scope::count_offered(FLOW);
    let ends = addresses(sk, family);
    let mut record = MaybeUninit::<Flow>::uninit();
    let record = record.as_mut_ptr();
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).header = Header { boot_ns: bpf_ktime_get_boot_ns(), ..header };
        (&raw mut (*record).remote_addr).cast::<[u32; 4]>().write(ends.remote_addr);
        (&raw mut (*record).local_addr).cast::<[u32; 4]>().write(ends.local_addr);
        (*record).bytes_sent = kernel(sk, offset!(tcp_bytes_acked));
        (*record).bytes_received = kernel(sk, offset!(tcp_bytes_received));
        (*record).begin_ns = header.boot_ns;
        (*record).established_ns = established_ns;
        (*record).remote_port = ends.remote_port;
        (*record).local_port = ends.local_port;
        (*record).family = family;
        (*record).direction = direction as u16;
        (*record).error = kernel(sk, offset!(sock_err));
        (*record).old_state = old_state;
    }
    // SAFETY: all fields are written.
    unsafe { emit(record, Lane::Bulk) };
}

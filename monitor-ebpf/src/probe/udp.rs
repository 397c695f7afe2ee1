//! `udp`: the first datagram of a flow, either way. (About 0.4 µs for each datagram.)

use taffrail_common::event::{Udp, direction};
use taffrail_common::kind::UDP;
use taffrail_common::map::UdpFlow;

use super::packet::{Packet, asked_dns, remember};
use crate::emit::{Lane, reserve};
use crate::maps::UDP_FLOWS;
use crate::read::copy_header;
use crate::scope;

/// Bytes of a UDP header.
pub const HEADER: u32 = 8;

/// What a flow is remembered as: one of DNS, or any other.
pub const DNS_FLOW: u8 = 2;
const OTHER_FLOW: u8 = 1;

/// Tells a datagram, if that is wanted and it is the first of its flow; returns what flow it is of.
#[inline(always)]
pub fn flow(packet: &Packet, wanted: bool) -> u8 {
    const EXISTS: i32 = -17;
    const NO_EXIST: u64 = 1;
    let flow = UdpFlow {
        cgroup_id: packet.cgroup_id,
        remote_addr: packet.remote_addr,
        remote_port: packet.remote_port,
        local_port: packet.local_port,
        family: packet.family,
        direction: packet.direction,
    };
    // SAFETY: the value is copied at once, and never changes.
    if let Some(known) = unsafe { UDP_FLOWS.get(&flow) } {
        return *known;
    }
    let known = if asked_dns(packet) { DNS_FLOW } else { OTHER_FLOW };
    // Another CPU may have been faster. Any other error only means that the next datagram is told too.
    if UDP_FLOWS.insert(&flow, &known, NO_EXIST) != Err(EXISTS) && wanted {
        tell(packet);
    }
    known
}

#[inline(always)]
fn tell(packet: &Packet) {
    scope::count_offered(UDP);
    let header = packet.header(UDP);
    // SAFETY: it is written.
    let header = unsafe { header.assume_init_ref() };
    if packet.direction == direction::OUT {
        remember(packet.sk, header);
    }
    // VERIFIER: in the ring, since the stack is full.
    let Some(mut slot) = reserve::<Udp, 0>(UDP, packet.cgroup_id, Lane::Bulk) else { return };
    let (record, _) = slot.parts();
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        copy_header(&raw mut (*record).header, header);
        (&raw mut (*record).remote_addr).cast::<[u32; 4]>().write(packet.remote_addr);
        (&raw mut (*record).local_addr).cast::<[u32; 4]>().write(packet.local_addr);
        (*record).bytes = packet.len.saturating_sub(HEADER);
        (*record).remote_port = packet.remote_port;
        (*record).local_port = packet.local_port;
        (*record).family = packet.family;
        (*record).direction = packet.direction;
        (*record).reserved = 0;
    }
    // SAFETY: all fields are written.
    unsafe { slot.submit(0) };
}

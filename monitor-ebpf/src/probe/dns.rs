//! `dns`: messages at port 53, as they are; the daemon takes them apart.

use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use taffrail_common::event::{DNS_MAX, Dns, Header, Text, direction};
use taffrail_common::kind::DNS;
use taffrail_common::map::{DnsNext, DnsStream};

use super::packet::Packet;
use super::udp;
use crate::emit::{Lane, count_lost, reserve};
use crate::maps::DNS_STREAMS;
use crate::read::{copy_header, kernel, mask, offset};
use crate::scope;

/// Where DNS servers are.
pub const PORT: u16 = 53;

/// Tells the message in a datagram.
#[inline(always)]
pub fn datagram(packet: &Packet) {
    let len = packet.len.saturating_sub(udp::HEADER);
    let header = packet.header(DNS);
    // SAFETY: it is written.
    tell(packet, unsafe { header.assume_init_ref() }, packet.transport + udp::HEADER, len, len);
}

/// Tells the messages that start in a TCP segment. Each has its length before it, in two bytes.
#[inline(always)]
pub fn in_segment(packet: &Packet) {
    let _ = find(packet);
}

#[inline(always)]
fn find(packet: &Packet) -> Option<()> {
    /// More in one segment are counted as lost, as one.
    const MESSAGES: u32 = 4;
    const SYN: u32 = 2;
    // Ports, sequence number, acknowledged, and in the fourth word the header's length and flags.
    let [_, sequence, _, fourth]: [u32; 4] = packet.load(packet.transport)?;
    let header = (fourth >> 4 & 0xf) * 4;
    let syn = (fourth >> 8 & SYN != 0) as u32;
    let len = packet.len.saturating_sub(header);
    if len == 0 {
        return None;
    }
    let sequence = u32::from_be(sequence).wrapping_add(syn);
    let key = DnsStream { socket: packet.sk as u64, direction: packet.direction as u64 };
    // Counted: of what goes out with this segment, of what comes in without it.
    let first = if packet.direction == direction::OUT {
        kernel::<u64>(packet.sk, offset!(tcp_bytes_sent)) <= len as u64
    } else {
        kernel::<u64>(packet.sk, offset!(tcp_bytes_received)) == 0
    };
    // SAFETY: the value is copied at once.
    let known = unsafe { DNS_STREAMS.get(&key) }.copied();
    let mut next = match known {
        _ if first => DnsNext { sequence, len: 0 },
        Some(next) => next,
        // The connection is older than the probes, or was forgotten among too many.
        None => DnsNext { sequence, len: 0 },
    };
    // A segment was missed or comes out of order: best is to take it for the start of a message.
    if (sequence.wrapping_sub(next.sequence) as i32) > 0 {
        next = DnsNext { sequence, len: 0 };
    }
    // VERIFIER: once, before the loop, not for each message.
    let whose = packet.header(DNS);
    for _ in 0..MESSAGES {
        let at = next.sequence.wrapping_sub(sequence);
        // The rest of a message that was told, or the same again.
        if at >= len {
            break;
        }
        let mut start = at;
        if next.len == 0 {
            let Some(prefix) = packet.load::<[u8; 2]>(packet.transport + header + at) else { break };
            next.len = u16::from_be_bytes(prefix) as u32;
            start += 2;
        }
        // Its length may come in a segment of its own.
        if start < len {
            // SAFETY: it is written.
            let whose = unsafe { whose.assume_init_ref() };
            tell(packet, whose, packet.transport + header + start, len - start, next.len);
            start += next.len;
            next.len = 0;
        }
        next.sequence = sequence.wrapping_add(start);
    }
    if next.len == 0 && next.sequence.wrapping_sub(sequence) < len.saturating_sub(1) {
        scope::count_offered(DNS);
        count_lost(DNS, packet.cgroup_id);
    }
    let _ = DNS_STREAMS.insert(&key, &next, 0);
    Some(())
}

/// Sends the record of the message at a place of the packet, of which `there` bytes are in it.
#[inline(always)]
fn tell(packet: &Packet, header: &Header, at: u32, there: u32, full_len: u32) {
    scope::count_offered(DNS);
    let len = if there < full_len { there } else { full_len };
    if len <= 512 {
        send::<512>(packet, header, at, len, full_len);
    } else {
        send::<DNS_MAX>(packet, header, at, len, full_len);
    }
}

#[inline(always)]
fn send<const MAX: usize>(packet: &Packet, header: &Header, at: u32, len: u32, full_len: u32) {
    let Some(mut slot) = reserve::<Dns, MAX>(DNS, packet.cgroup_id, Lane::Bulk) else { return };
    let (record, payload) = slot.parts();
    // SAFETY: it starts with the header.
    unsafe { copy_header(&raw mut (*record).header, header) };
    let mut taken = 0;
    if len != 0 {
        let len = if len > MAX as u32 { MAX as u32 } else { len };
        // VERIFIER: 1 to `MAX`, which is a power of two, as a bound that it sees.
        let len = match MAX {
            512 => mask::<0x1ff>(len as u64 - 1),
            _ => mask::<0x7ff>(len as u64 - 1),
        } as u32
            + 1;
        // SAFETY: the verifier checks the room.
        if unsafe { bpf_skb_load_bytes(packet.skb.cast(), at, payload.cast(), len) } == 0 {
            taken = len;
        }
    }
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).message = Text { len: taken, full_len };
        (&raw mut (*record).remote_addr).cast::<[u32; 4]>().write(packet.remote_addr);
        (&raw mut (*record).local_addr).cast::<[u32; 4]>().write(packet.local_addr);
        (*record).remote_port = packet.remote_port;
        (*record).local_port = packet.local_port;
        (*record).family = packet.family;
        (*record).protocol = packet.protocol;
        (*record).direction = packet.direction;
        (*record).reserved = [0; 3];
    }
    // SAFETY: all fields are written, and so many bytes of payload.
    unsafe { slot.submit(taken) };
}

const _: () = assert!(DNS_MAX == 2048);

//! A batch of records as Kafka keeps it (message format 2), and the partition that a key belongs to. Pure functions.

use super::wire::{Identity, Write as _};
use crate::export::settings::Compression;

/// What each batch begins with.
const HEAD: usize = 61;

/// Bytes of a record besides its key, id and value, at most.
pub const AROUND: usize = 48;

/// A record: an event in the receiver's form.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// By which it finds its partition.
    pub key: &'a str,
    /// What the event is known by everywhere: the header `id`.
    pub id: &'a str,
    /// The event.
    pub value: &'a [u8],
    /// When it happened, in ms since 1970.
    pub time_ms: i64,
}

/// A batch of these records, numbered from `sequence` on.
pub fn batch(
    records: &[Record<'_>],
    producer: Identity,
    sequence: i32,
    compression: Compression,
) -> std::io::Result<Vec<u8>> {
    let start_ms = records.first().map_or(0, |record| record.time_ms);
    let end_ms = records.iter().map(|record| record.time_ms).max().unwrap_or_default();
    let mut body = Vec::with_capacity(records.iter().map(size).sum());
    for (record, n) in records.iter().zip(0..) {
        write(record, n, record.time_ms.wrapping_sub(start_ms), &mut body);
    }
    let body = compression.pack(&body)?.unwrap_or(body);
    let mut batch = Vec::with_capacity(HEAD + body.len());
    batch.i64(0); // the first record's offset, which the broker gives
    batch.count(HEAD - 12 + body.len()); // of all that follows
    batch.i32(-1); // the leader's epoch
    batch.i8(2);
    let crc_at = batch.len();
    batch.i32(0);
    batch.i16(match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Zstd => 4,
    });
    batch.count(records.len().saturating_sub(1));
    batch.i64(start_ms);
    batch.i64(end_ms);
    batch.i64(producer.id);
    batch.i16(producer.epoch);
    batch.i32(sequence);
    batch.count(records.len());
    batch.extend_from_slice(&body);
    let (head, summed) = batch.split_at_mut(crc_at + 4);
    head[crc_at..].copy_from_slice(&crc32c::crc32c(summed).to_be_bytes());
    Ok(batch)
}

/// How much a record takes at most.
pub fn size(record: &Record<'_>) -> usize {
    record.key.len() + record.id.len() + record.value.len() + AROUND
}

fn write(record: &Record<'_>, n: i64, after_ms: i64, out: &mut Vec<u8>) {
    let Record { key, id, value, time_ms: _ } = record;
    let mut body = Vec::with_capacity(size(record));
    body.push(0); // no attributes
    varint(after_ms, &mut body);
    varint(n, &mut body);
    counted(key.as_bytes(), &mut body);
    counted(value, &mut body);
    varint(1, &mut body); // headers
    counted(b"id", &mut body);
    counted(id.as_bytes(), &mut body);
    counted(&body, out);
}

fn counted(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// Seven bits a byte, the least first, the sign in the last bit.
fn varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The number behind those of so many records: it begins anew after the greatest.
pub fn next_sequence(sequence: i32, records: usize) -> i32 {
    ((sequence as u64 + records as u64) & i32::MAX as u64) as i32
}

/// Where Java's producer, and all that follow it, put a record of this key.
pub fn partition(key: &str, partitions: usize) -> i32 {
    let count = u32::try_from(partitions).unwrap_or(u32::MAX).max(1);
    ((murmur2(key.as_bytes()) & i32::MAX as u32) % count) as i32
}

/// Austin Appleby's MurmurHash2 with the seed of Kafka's producers.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (byte, shift) in rest.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_kafkas_own_tests() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
        assert!((0..7).contains(&partition("x", 7)));
        assert_eq!(partition("x", 0), 0);
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        for (value, expected) in [
            (0, &[0][..]),
            (-1, &[1]),
            (63, &[126]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            varint(value, &mut out);
            assert_eq!(out, expected, "{value}");
        }
    }

    #[test]
    fn sequence_begins_anew_after_the_greatest() {
        assert_eq!(next_sequence(5, 3), 8);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn record_is_no_larger_than_it_is_said_to_be() {
        let record = Record { key: "k", id: "i", value: b"v", time_ms: i64::MAX };
        let mut out = Vec::new();
        write(&record, i64::from(i32::MAX), i64::MIN, &mut out);
        assert!(out.len() <= size(&record), "{}", out.len());
    }
}

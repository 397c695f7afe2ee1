//! Kafka's messages as bytes: the six that a producer needs, each in one version, which all brokers since 2.1 speak and
//! which has no optional parts. Lengths that a broker names are believed only as far as its answer reaches: nothing is
//! allocated for them before.

use thiserror::Error;

/// A request: its number, and the version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    pub key: i16,
    pub version: i16,
    /// Its name in Kafka's documentation.
    pub name: &'static str,
}

pub const PRODUCE: Api = Api { key: 0, version: 7, name: "Produce" };
pub const METADATA: Api = Api { key: 3, version: 7, name: "Metadata" };
pub const SASL_HANDSHAKE: Api = Api { key: 17, version: 1, name: "SaslHandshake" };
pub const API_VERSIONS: Api = Api { key: 18, version: 0, name: "ApiVersions" };
pub const INIT_PRODUCER_ID: Api = Api { key: 22, version: 1, name: "InitProducerId" };
pub const SASL_AUTHENTICATE: Api = Api { key: 36, version: 1, name: "SaslAuthenticate" };

/// What came is no answer of Kafka's.
#[derive(Debug, Error)]
#[error("the answer ends in the middle of {0}")]
pub struct Malformed(&'static str);

/// Appends to a message.
pub trait Write {
    fn i8(&mut self, value: i8);
    fn i16(&mut self, value: i16);
    fn i32(&mut self, value: i32);
    fn i64(&mut self, value: i64);
    /// A text with its length before it. None of ours is longer than 32 KiB.
    fn text(&mut self, text: &str);
    fn no_text(&mut self);
    /// Bytes with their length before them.
    fn bytes(&mut self, bytes: &[u8]);
    /// The length of a list, or of what else is counted. None of ours is longer than 2 GiB.
    fn count(&mut self, count: usize);
}

impl Write for Vec<u8> {
    fn i8(&mut self, value: i8) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn i16(&mut self, value: i16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        let text = &text[..text.floor_char_boundary(i16::MAX as usize)];
        self.i16(text.len() as i16);
        self.extend_from_slice(text.as_bytes());
    }

    fn no_text(&mut self) {
        self.i16(-1);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.extend_from_slice(bytes);
    }

    fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX));
    }
}

/// Reads an answer.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(answer: &'a [u8]) -> Self {
        Self(answer)
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("a number"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A text; empty if there is none.
    pub fn text(&mut self) -> Result<String, Malformed> {
        let length = usize::try_from(self.i16()?).unwrap_or_default();
        Ok(String::from_utf8_lossy(self.take(length, "a text")?).into_owned())
    }

    /// Bytes; none if there are none.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.i32()?).unwrap_or_default();
        self.take(length, "bytes")
    }

    /// A list; empty if there is none. Each item has to take at least a byte.
    pub fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut items = Vec::new();
        for _ in 0..self.i32()? {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

/// A broker, as another one tells of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: i32,
}

/// A partition of the topic, and who leads it: a negative number if nobody does.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    pub leader: i32,
}

/// What brokers there are, and the topic's partitions.
#[derive(Debug, PartialEq, Eq)]
pub struct Metadata {
    pub brokers: Vec<Broker>,
    /// Of the topic.
    pub error: i16,
    pub partitions: Vec<Partition>,
}

/// Asks for one topic. One that is not there is not made.
pub fn metadata_request(topic: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.count(1);
    body.text(topic);
    body.i8(0);
    body
}

pub fn metadata_answer(answer: &[u8]) -> Result<Metadata, Malformed> {
    let mut answer = Reader::new(answer);
    answer.i32()?; // for how long we were slowed down
    let brokers = answer.list(|broker| {
        let broker_of = Broker { id: broker.i32()?, host: broker.text()?, port: broker.i32()? };
        broker.text()?; // its rack
        Ok(broker_of)
    })?;
    answer.text()?; // the cluster's id
    answer.i32()?; // the controller
    let mut topics = answer.list(|topic| {
        let error = topic.i16()?;
        topic.text()?;
        topic.i8()?; // whether it is internal
        let partitions = topic.list(|partition| {
            // An error is about a partition without a leader, which says enough.
            partition.i16()?;
            let of = Partition { index: partition.i32()?, leader: partition.i32()? };
            partition.i32()?; // the leader's epoch
            for _replicas in ["all", "in sync", "offline"] {
                partition.list(Reader::i32)?;
            }
            Ok(of)
        })?;
        Ok((error, partitions))
    })?;
    let (error, partitions) = topics.pop().ok_or(Malformed("the topics"))?;
    Ok(Metadata { brokers, error, partitions })
}

/// An idempotent producer, as brokers know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: i64,
    pub epoch: i16,
}

/// Asks for an identity without transactions.
pub fn identity_request() -> Vec<u8> {
    let mut body = Vec::new();
    body.no_text();
    body.i32(0); // how long a transaction may take
    body
}

pub fn identity_answer(answer: &[u8]) -> Result<(i16, Identity), Malformed> {
    let mut answer = Reader::new(answer);
    answer.i32()?; // for how long we were slowed down
    Ok((answer.i16()?, Identity { id: answer.i64()?, epoch: answer.i16()? }))
}

/// Batches of records, each with its partition; all replicas in sync have to have them.
pub fn produce_request(topic: &str, timeout_ms: i32, batches: &[(i32, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + batches.iter().map(|(_, batch)| batch.len() + 8).sum::<usize>());
    body.no_text(); // the transaction
    body.i16(-1); // all of them
    body.i32(timeout_ms);
    body.count(1);
    body.text(topic);
    body.count(batches.len());
    for (partition, batch) in batches {
        body.i32(*partition);
        body.bytes(batch);
    }
    body
}

/// Of each partition its error, 0 for none.
pub fn produce_answer(answer: &[u8]) -> Result<Vec<(i32, i16)>, Malformed> {
    let topics = Reader::new(answer).list(|topic| {
        topic.text()?;
        topic.list(|partition| {
            let of = (partition.i32()?, partition.i16()?);
            for _offset in ["of the first record", "time", "of the log's start"] {
                partition.i64()?;
            }
            Ok(of)
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}

/// A kind of request, and the versions of it that a broker speaks.
pub struct Spoken {
    pub key: i16,
    pub from: i16,
    pub to: i16,
}

/// The error, and what the broker speaks.
pub fn versions_answer(answer: &[u8]) -> Result<(i16, Vec<Spoken>), Malformed> {
    let mut answer = Reader::new(answer);
    let spoken = |api: &mut Reader<'_>| Ok(Spoken { key: api.i16()?, from: api.i16()?, to: api.i16()? });
    Ok((answer.i16()?, answer.list(spoken)?))
}

pub fn handshake_request(mechanism: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.text(mechanism);
    body
}

/// The error, and the mechanisms that the broker knows.
pub fn handshake_answer(answer: &[u8]) -> Result<(i16, Vec<String>), Malformed> {
    let mut answer = Reader::new(answer);
    Ok((answer.i16()?, answer.list(Reader::text)?))
}

pub fn authenticate_request(token: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.bytes(token);
    body
}

/// What the broker says to a token.
#[derive(Debug, PartialEq, Eq)]
pub struct Authenticated {
    pub error: i16,
    /// Its reason, for people.
    pub reason: String,
    pub token: Vec<u8>,
    /// For how long it holds; 0 if for ever.
    pub lifetime_ms: i64,
}

pub fn authenticate_answer(answer: &[u8]) -> Result<Authenticated, Malformed> {
    let mut answer = Reader::new(answer);
    Ok(Authenticated {
        error: answer.i16()?,
        reason: answer.text()?,
        token: answer.bytes()?.to_vec(),
        lifetime_ms: answer.i64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_that_names_lengths_it_does_not_have_is_an_error_and_takes_no_memory() {
        let mut huge = Vec::new();
        huge.i32(0);
        huge.i32(i32::MAX);
        for answer in [&huge[..], &[], &[0xff; 64], &[0x7f; 64], &[0; 7]] {
            assert!(metadata_answer(answer).is_err(), "{answer:?}");
            assert!(authenticate_answer(answer).is_err() || answer == [0xff; 64], "{answer:?}");
        }
        assert!(produce_answer(&huge[4..]).is_err());
        assert!(versions_answer(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]).is_err());
    }

    #[test]
    fn list_that_is_not_there_is_empty() {
        assert_eq!(handshake_answer(&[0, 33, 0xff, 0xff, 0xff, 0xff]).unwrap(), (33, vec![]));
    }
}

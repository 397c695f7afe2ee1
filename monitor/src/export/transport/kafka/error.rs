//! What a broker's error numbers mean: in plain words, and for what is done next.

use std::borrow::Cow;

/// What has to become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The broker has it.
    Taken,
    /// It will never take it as it is: its records have to be tried alone.
    Refused,
    /// Another broker leads the partition now.
    Moved,
    /// The broker does not know our numbers any more.
    Forgotten,
    /// We may not.
    Forbidden,
    /// Later, perhaps.
    Later,
}

/// An error: its number, its name in Kafka's documentation, what it is for us, and what people are told.
struct Code(i16, &'static str, Verdict, &'static str);

#[rustfmt::skip]
static CODES: &[Code] = &[
    Code(2, "CORRUPT_MESSAGE", Verdict::Later, "what arrived was damaged on its way"),
    Code(3, "UNKNOWN_TOPIC_OR_PARTITION", Verdict::Moved, "there is no such topic or partition: create the topic, or correct the address"),
    Code(5, "LEADER_NOT_AVAILABLE", Verdict::Moved, "the partition has no leader at the moment"),
    Code(6, "NOT_LEADER_OR_FOLLOWER", Verdict::Moved, "another broker leads the partition now"),
    Code(7, "REQUEST_TIMED_OUT", Verdict::Later, "the replicas did not have it in time"),
    Code(10, "MESSAGE_TOO_LARGE", Verdict::Refused, "it is larger than the topic's `max.message.bytes`"),
    Code(14, "COORDINATOR_LOAD_IN_PROGRESS", Verdict::Later, "the broker is starting"),
    Code(15, "COORDINATOR_NOT_AVAILABLE", Verdict::Later, "the broker is not ready to number producers"),
    Code(17, "INVALID_TOPIC_EXCEPTION", Verdict::Later, "the topic cannot be written to, or its name is not valid"),
    Code(18, "RECORD_LIST_TOO_LARGE", Verdict::Refused, "it is larger than the topic's `segment.bytes`"),
    Code(19, "NOT_ENOUGH_REPLICAS", Verdict::Later, "fewer replicas are in sync than `min.insync.replicas`"),
    Code(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Verdict::Later, "fewer replicas are in sync than `min.insync.replicas`"),
    Code(29, "TOPIC_AUTHORIZATION_FAILED", Verdict::Forbidden, "we may not write to the topic: give this user the operations Write and Describe"),
    Code(31, "CLUSTER_AUTHORIZATION_FAILED", Verdict::Forbidden, "we may not be an idempotent producer: give this user the operation IdempotentWrite, or Write to the topic"),
    Code(32, "INVALID_TIMESTAMP", Verdict::Refused, "the topic does not take events of that time: see its `message.timestamp.before.max.ms`"),
    Code(33, "UNSUPPORTED_SASL_MECHANISM", Verdict::Forbidden, "the broker does not take this kind of login"),
    Code(34, "ILLEGAL_SASL_STATE", Verdict::Forbidden, "the broker takes no login here: leave `user` out"),
    Code(35, "UNSUPPORTED_VERSION", Verdict::Later, "the broker is too old: Kafka 2.1 or newer is needed"),
    Code(44, "POLICY_VIOLATION", Verdict::Refused, "a policy of the broker is against it"),
    Code(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Verdict::Forgotten, "the broker misses what it should have had before: with a new number of ours, some events may be there twice"),
    Code(46, "DUPLICATE_SEQUENCE_NUMBER", Verdict::Taken, "the broker has it already"),
    Code(47, "INVALID_PRODUCER_EPOCH", Verdict::Forgotten, "the broker does not take our number any more: with a new one, some events may be there twice"),
    Code(49, "INVALID_PRODUCER_ID_MAPPING", Verdict::Forgotten, "the broker does not know our number any more: with a new one, some events may be there twice"),
    Code(56, "KAFKA_STORAGE_ERROR", Verdict::Moved, "the broker's disk fails"),
    Code(58, "SASL_AUTHENTICATION_FAILED", Verdict::Forbidden, "the user or the password is not right"),
    Code(59, "UNKNOWN_PRODUCER_ID", Verdict::Forgotten, "the broker does not know our number any more: with a new one, some events may be there twice"),
    Code(74, "FENCED_LEADER_EPOCH", Verdict::Moved, "another broker leads the partition now"),
    Code(76, "UNSUPPORTED_COMPRESSION_TYPE", Verdict::Later, "the topic does not take this `compression`"),
    Code(87, "INVALID_RECORD", Verdict::Refused, "the broker does not take the record"),
];

/// What is done next.
pub fn verdict(code: i16) -> Verdict {
    let known = CODES.iter().find(|known| known.0 == code);
    known.map_or(if code == 0 { Verdict::Taken } else { Verdict::Later }, |known| known.2)
}

/// For people.
pub fn meaning(code: i16) -> Cow<'static, str> {
    match CODES.iter().find(|known| known.0 == code) {
        Some(Code(_, name, _, meaning)) => format!("{meaning} ({name})").into(),
        None => format!("the broker says no: error {code}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_is_told_with_its_name_and_unknown_ones_with_their_number() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(meaning(29).ends_with("(TOPIC_AUTHORIZATION_FAILED)"));
        assert_eq!(meaning(1234), "the broker says no: error 1234");
        assert_eq!([0, 46, 1234].map(verdict), [Verdict::Taken, Verdict::Taken, Verdict::Later]);
    }
}

//! Takes DNS messages apart (RFC 1035, section 4). They come from anybody on the network: nothing here panics,
//! allocates, or reads a byte twice without getting nearer to an end. What cannot be read is left out and said so.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The most bytes of a name in text form that are kept. A name has at most 255 bytes in a message; only dots and
/// backslashes within a label take two here.
const NAME_MAX: usize = 510;

/// A name in text form: labels in lower case, between dots. A dot or backslash within a label has a backslash before
/// it; all other bytes are as they came. The root is `.`.
#[derive(Clone, Copy)]
pub struct Name {
    len: u16,
    bytes: [u8; NAME_MAX],
}

impl Name {
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
            self.len += 1;
        }
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.as_bytes().escape_ascii())
    }
}

/// The head of a message and its first question.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Number that an answer shares with its query.
    pub id: u16,
    /// The second word of the head.
    flags: u16,
    /// How many questions, answers, authorities and additional records there are to be.
    counts: [u16; 4],
    /// The first question's name, type and class; `None` if there is none, or not in the bytes that are there.
    pub question: Option<(Name, u16, u16)>,
    /// Where the first answer is; 0 if it cannot be found.
    answers_at: usize,
}

/// Questions that are read, at most: real messages have one. What is behind more of them is not found.
const QUESTIONS_MAX: u16 = 4;

/// Pointers that are followed for one name, at most: so all of a message costs time in proportion to its bytes.
const HOPS_MAX: usize = 32;

/// Type of the pseudo record of EDNS.
const OPT: u16 = 41;
const HEAD: usize = 12;

impl Message {
    /// Reads the head and the first question; `None` if the bytes are not even a head, or claim what no message of DNS
    /// does.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let words: [u16; 6] = std::array::from_fn(|n| word(bytes, 2 * n).unwrap_or_default());
        let [id, flags, counts @ ..] = words;
        // Operations above 6 and the bit between the flags have no meaning.
        if bytes.len() < HEAD || flags >> 11 & 0xf > 6 || flags & 0x40 != 0 {
            return None;
        }
        let mut message = Self { id, flags, counts, question: None, answers_at: 0 };
        let mut at = HEAD;
        for n in 0..counts[0] {
            if n == QUESTIONS_MAX {
                return Some(message);
            }
            let Some((name, after)) = name(bytes, at) else { return Some(message) };
            let (Some(ty), Some(class)) = (word(bytes, after), word(bytes, after + 2)) else {
                return Some(message);
            };
            if n == 0 {
                message.question = Some((name, ty, class));
            }
            at = after + 4;
        }
        message.answers_at = at;
        Some(message)
    }

    /// Whether it is an answer.
    pub fn is_answer(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// What is wanted: 0 is a usual query.
    pub fn operation(&self) -> u16 {
        self.flags >> 11 & 0xf
    }

    /// Whether the sender says that it left something out (over UDP).
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// How it went, of an answer: the number (RFC 6895, section 2.3).
    pub fn response_code(&self) -> u16 {
        self.flags & 0xf
    }

    /// How many questions it says it has.
    pub fn question_count(&self) -> u16 {
        self.counts[0]
    }

    /// How many answers it says it has.
    pub fn answer_count(&self) -> u16 {
        self.counts[1]
    }

    /// The answers that can be read; `bytes` are those that it was parsed from.
    pub fn answers<'a>(&self, bytes: &'a [u8]) -> Answers<'a> {
        let left = if self.answers_at == 0 { 0 } else { self.counts[1] };
        Answers { bytes, at: self.answers_at, left }
    }
}

/// One record of the answer section.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Whose it is.
    pub name: Name,
    /// Its type.
    pub ty: u16,
    /// How long it may be kept, in seconds.
    pub ttl_s: u32,
    /// What it says.
    pub data: Data<'a>,
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack, one at a time")]
pub enum Data<'a> {
    /// A.
    V4(Ipv4Addr),
    /// AAAA.
    V6(Ipv6Addr),
    /// CNAME, NS, PTR, DNAME; MX and SRV without their numbers.
    Name(Name),
    /// TXT: its bytes, with a length before each part.
    Text(&'a [u8]),
    /// Any other: its bytes.
    Other(&'a [u8]),
}

/// Goes through the answers. It ends at the first that cannot be read.
#[derive(Clone, Debug)]
pub struct Answers<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u16,
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        while self.left > 0 {
            self.left -= 1;
            let answer = self.one();
            if answer.is_none() {
                self.left = 0;
            }
            if answer.is_some_and(|answer| answer.ty != OPT) {
                return answer;
            }
        }
        None
    }
}

impl<'a> Answers<'a> {
    fn one(&mut self) -> Option<Answer<'a>> {
        let bytes = self.bytes;
        let (whose, at) = name(bytes, self.at)?;
        let ty = word(bytes, at)?;
        let ttl_s = u32::from(word(bytes, at + 4)?) << 16 | u32::from(word(bytes, at + 6)?);
        let (start, len) = (at + 10, usize::from(word(bytes, at + 8)?));
        let raw = bytes.get(start..start + len)?;
        self.at = start + len;
        let target = |skip: usize| match name(bytes, start + skip) {
            Some((name, _)) => Data::Name(name),
            None => Data::Other(raw),
        };
        let data = match (ty, raw) {
            (1, &[a, b, c, d]) => Data::V4(Ipv4Addr::new(a, b, c, d)),
            (28, _) => <[u8; 16]>::try_from(raw).map_or(Data::Other(raw), |ip| Data::V6(ip.into())),
            // NS, CNAME, PTR, DNAME.
            (2 | 5 | 12 | 39, _) => target(0),
            // MX has a preference, SRV priority, weight and port.
            (15, _) => target(2),
            (33, _) => target(6),
            (16, _) => Data::Text(raw),
            _ => Data::Other(raw),
        };
        Some(Answer { name: whose, ty, ttl_s, data })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The name that starts at a place, and where what follows it is.
fn name(bytes: &[u8], start: usize) -> Option<(Name, usize)> {
    let mut name = Name { len: 0, bytes: [0; NAME_MAX] };
    let (mut at, mut after, mut total, mut hops) = (start, None, 0, 0);
    // Pointers must lead backwards, each before the last: so there is an end.
    let mut limit = start;
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len >> 6 {
            0 if len == 0 => break,
            0 => {
                total += len + 1;
                if total > 254 {
                    return None;
                }
                if name.len > 0 {
                    name.push(b'.');
                }
                for &byte in bytes.get(at + 1..at + 1 + len)? {
                    if matches!(byte, b'.' | b'\\') {
                        name.push(b'\\');
                    }
                    name.push(byte.to_ascii_lowercase());
                }
                at += 1 + len;
            }
            3 => {
                let to = (len & 0x3f) << 8 | usize::from(*bytes.get(at + 1)?);
                after = after.or(Some(at + 2));
                if to >= limit || hops == HOPS_MAX {
                    return None;
                }
                (at, limit, hops) = (to, to, hops + 1);
            }
            _ => return None,
        }
    }
    if name.len == 0 {
        name.push(b'.');
    }
    Some((name, after.unwrap_or(at + 1)))
}

/// The name of a record type (the registry of IANA); `None` if it has none here.
pub fn type_name(ty: u16) -> Option<&'static str> {
    Some(match ty {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        10 => "NULL",
        12 => "PTR",
        13 => "HINFO",
        15 => "MX",
        16 => "TXT",
        24 => "SIG",
        25 => "KEY",
        28 => "AAAA",
        29 => "LOC",
        33 => "SRV",
        35 => "NAPTR",
        37 => "CERT",
        39 => "DNAME",
        41 => "OPT",
        43 => "DS",
        44 => "SSHFP",
        46 => "RRSIG",
        47 => "NSEC",
        48 => "DNSKEY",
        50 => "NSEC3",
        52 => "TLSA",
        64 => "SVCB",
        65 => "HTTPS",
        99 => "SPF",
        249 => "TKEY",
        250 => "TSIG",
        251 => "IXFR",
        252 => "AXFR",
        255 => "ANY",
        256 => "URI",
        257 => "CAA",
        _ => return None,
    })
}

/// The name of a response code (RFC 6895, section 2.3).
pub fn response_name(code: u16) -> Option<&'static str> {
    const NAMES: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
        "NOTAUTH", "NOTZONE",
    ];
    NAMES.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head with those counts, then bytes.
    fn message(flags: u16, questions: u16, answers: u16, rest: &[&[u8]]) -> Vec<u8> {
        let head = [0x1234, flags, questions, answers, 0, 0];
        let mut bytes: Vec<u8> = head.iter().flat_map(|word: &u16| word.to_be_bytes()).collect();
        bytes.extend(rest.concat());
        bytes
    }

    const QUESTION: &[u8] = b"\x03WWW\x07example\x03com\0\0\x01\0\x01";

    fn answers(bytes: &[u8]) -> Vec<(String, u16, u32, String)> {
        let message = Message::parse(bytes).expect("a message");
        let text = |name: &Name| name.as_bytes().escape_ascii().to_string();
        let list = message.answers(bytes).map(|answer| {
            let data = match answer.data {
                Data::V4(ip) => ip.to_string(),
                Data::V6(ip) => ip.to_string(),
                Data::Name(name) => text(&name),
                Data::Text(raw) | Data::Other(raw) => raw.escape_ascii().to_string(),
            };
            (text(&answer.name), answer.ty, answer.ttl_s, data)
        });
        list.collect()
    }

    #[test]
    fn query_has_its_name_in_lower_case_and_its_type() {
        let parsed = Message::parse(&message(0x0100, 1, 0, &[QUESTION])).expect("a message");
        let (name, ty, class) = parsed.question.expect("a question");
        assert_eq!((name.as_bytes(), ty, class), (&b"www.example.com"[..], 1, 1));
        assert_eq!((parsed.id, parsed.is_answer(), parsed.operation()), (0x1234, false, 0));
    }

    #[test]
    fn answers_of_each_sort_are_read_through_pointers() {
        let bytes = message(
            0x8180,
            1,
            6,
            &[
                QUESTION,
                b"\xc0\x0c\0\x05\0\x01\0\0\x01\x2c\0\x08\x05other\xc0\x10",
                b"\x05other\xc0\x10\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07",
                b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
                b"\xc0\x0c\0\x0f\0\x01\0\0\0\x3c\0\x07\0\x0a\x02mx\xc0\x10",
                b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x04\x03a\x1bc",
                b"\xc0\x0c\0\x21\0\x01\0\0\0\x3c\0\x09\0\x01\0\x02\x14\xe9\x01x\0",
            ],
        );
        let www = "www.example.com".to_owned();
        let expected: Vec<(String, u16, u32, String)> = vec![
            (www.clone(), 5, 300, "other.example.com".to_owned()),
            ("other.example.com".to_owned(), 1, 60, "192.0.2.7".to_owned()),
            (www.clone(), 28, 60, "2001:db8::1".to_owned()),
            (www.clone(), 15, 60, "mx.example.com".to_owned()),
            (www.clone(), 16, 60, "\\x03a\\x1bc".to_owned()),
            (www, 33, 60, "x".to_owned()),
        ];
        assert_eq!(answers(&bytes), expected);
    }

    #[test]
    fn name_that_points_in_circles_or_forward_or_is_too_long_is_none() {
        let long = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(4);
        for rest in [
            &b"\xc0\x0c\0\x01\0\x01"[..],
            b"\xc0\x20\0\x01\0\x01",
            b"\x01a\xc0\x0c\0\x01\0\x01",
            b"\x40a",
            b"\x80a",
            b"\x05ab",
            b"",
            &long,
        ] {
            let parsed = Message::parse(&message(0x0100, 1, 1, &[rest])).expect("a head");
            assert!(parsed.question.is_none(), "{}", rest.escape_ascii());
        }
    }

    #[test]
    fn name_behind_too_many_pointers_and_answers_behind_too_many_questions_are_none() {
        // The first name is the root; each answer's name points to the one before.
        let chain: Vec<u8> = (0..40u8)
            .flat_map(|n| {
                let to = if n == 0 { 12 } else { 17 + (n - 1) * 2 };
                [0xc0, to]
            })
            .collect();
        let name_at =
            |hops: usize| name(&message(0, 1, 0, &[b"\0\0\x01\0\x01", &chain]), 17 + (hops - 1) * 2);
        assert!(name_at(HOPS_MAX).is_some() && name_at(HOPS_MAX + 1).is_none());

        let answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07";
        let count = |questions: u16| {
            let bytes = message(0x8180, questions, 1, &[&QUESTION.repeat(questions.into()), answer]);
            let message = Message::parse(&bytes).expect("a message");
            assert!(message.question.is_some());
            message.answers(&bytes).count()
        };
        assert_eq!((count(QUESTIONS_MAX), count(QUESTIONS_MAX + 1)), (1, 0));
    }

    #[test]
    fn dot_within_a_label_is_not_one_between_labels_and_the_root_is_a_dot() {
        let parsed =
            Message::parse(&message(0, 1, 0, &[b"\x04a.\\\xff\x03com\0\0\x10\0\x01"])).expect("a head");
        assert_eq!(parsed.question.expect("a question").0.as_bytes(), b"a\\.\\\\\xff.com");
        let parsed = Message::parse(&message(0, 1, 0, &[b"\0\0\x02\0\x01"])).expect("a head");
        assert_eq!(parsed.question.expect("a question").0.as_bytes(), b".");
    }

    #[test]
    fn bytes_that_are_no_message_are_none() {
        for bytes in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 40], &[0; 11]] {
            assert!(Message::parse(bytes).is_none(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic_and_to_an_end() {
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let sample = message(
            0x8180,
            1,
            3,
            &[QUESTION, &b"\xc0\x0c\0\x05\0\x01\0\0\x01\x2c\0\x08\x05other\xc0\x10".repeat(3)],
        );
        for _ in 0..50_000 {
            let mut bad = sample.clone();
            for _ in 0..random() % 8 {
                let at = random() % bad.len();
                bad[at] = if random() % 3 == 0 { 0xc0 } else { random() as u8 };
            }
            bad.truncate(random() % (bad.len() + 20));
            if let Some(message) = Message::parse(&bad) {
                assert!(message.answers(&bad).count() <= usize::from(message.answer_count()));
            }
        }
    }
}

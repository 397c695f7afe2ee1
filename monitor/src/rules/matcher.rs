//! Compiled conditions: a tree of tests on field values. Evaluating one cannot fail, allocate or do I/O, and
//! takes time linear in the texts that it looks at.

use std::net::IpAddr;

use hashbrown::HashSet;
use memchr::memmem::Finder;

use super::ast::Op;
use crate::event::field::{Field, Get, Value, Values};

/// A compiled condition.
#[derive(Clone, Debug)]
pub enum Node {
    /// All hold; cheap ones first.
    And(Box<[Node]>),
    /// One holds; cheap ones first.
    Or(Box<[Node]>),
    /// It does not hold.
    Not(Box<Node>),
    /// A test of a field.
    Test(Box<Test>),
}

impl Node {
    /// Whether the condition holds for an event.
    pub fn holds(&self, values: &impl Values) -> bool {
        match self {
            Node::And(parts) => parts.iter().all(|part| part.holds(values)),
            Node::Or(parts) => parts.iter().any(|part| part.holds(values)),
            Node::Not(part) => !part.holds(values),
            Node::Test(test) => test.holds(values),
        }
    }

    /// About how long it takes, to put cheap tests first.
    pub fn cost(&self) -> u32 {
        match self {
            Node::And(parts) | Node::Or(parts) => parts.iter().map(Node::cost).sum(),
            Node::Not(part) => part.cost(),
            Node::Test(test) => {
                let Test { field, matcher, .. } = &**test;
                let get = match field.get {
                    Get::One(_) => 1,
                    Get::Ancestors(_) | Get::Many(_) | Get::Indexed(_) => 20,
                };
                get + match matcher {
                    Matcher::Exists | Matcher::Bool(_) | Matcher::Number(..) => 0,
                    Matcher::Text(..) | Matcher::Prefix(_) | Matcher::Suffix(_) => 1,
                    Matcher::Numbers(_) | Matcher::Addresses { .. } => 2,
                    Matcher::Texts(_) => 3,
                    Matcher::Find(_) => 5,
                    Matcher::FindFolded(_) | Matcher::Glob(_) => 8,
                }
            }
        }
    }
}

/// A test of one field.
#[derive(Clone, Debug)]
pub struct Test {
    /// Which field.
    pub field: &'static Field,
    /// The number in brackets.
    pub index: Option<u32>,
    /// What its value must be like.
    pub matcher: Matcher,
}

impl Test {
    fn holds(&self, values: &impl Values) -> bool {
        values.any(self.field, self.index, &mut |value| self.matcher.matches(&value))
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// What a value must be like.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// There is one.
    Exists,
    /// This text, or any other if the flag is false.
    Text(Box<[u8]>, bool),
    /// One of these texts.
    Texts(HashSet<Box<[u8]>>),
    /// A text that begins so.
    Prefix(Box<[u8]>),
    /// A text that ends so.
    Suffix(Box<[u8]>),
    /// A text that has this in it.
    Find(Box<Finder<'static>>),
    /// A text that has this in it, in upper or lower case (ASCII); the needle is lower case.
    FindFolded(Box<[u8]>),
    /// A text like this pattern.
    Glob(Box<[u8]>),
    /// A number that compares so.
    Number(Op, i64),
    /// One of these numbers.
    Numbers(Box<[i64]>),
    /// This truth.
    Bool(bool),
    /// An address in one of these networks, or in none if the flag is false.
    Addresses(Box<[Network]>, bool),
}

impl Matcher {
    fn matches(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Matcher::Exists, _) => true,
            (Matcher::Bool(wanted), Value::Bool(value)) => wanted == value,
            (Matcher::Number(op, wanted), Value::Number(value)) => compare(*op, *value, *wanted),
            (Matcher::Numbers(wanted), Value::Number(value)) => wanted.contains(value),
            (Matcher::Addresses(networks, wanted), Value::Address(address)) => {
                networks.iter().any(|network| network.contains(*address)) == *wanted
            }
            (matcher, value) => value.text().is_some_and(|text| matcher.matches_text(text)),
        }
    }

    fn matches_text(&self, text: &[u8]) -> bool {
        match self {
            Matcher::Text(wanted, equal) => (**wanted == *text) == *equal,
            Matcher::Texts(wanted) => wanted.contains(text),
            Matcher::Prefix(prefix) => text.starts_with(prefix),
            Matcher::Suffix(suffix) => text.ends_with(suffix),
            Matcher::Find(finder) => finder.find(text).is_some(),
            Matcher::FindFolded(needle) => {
                needle.is_empty() || text.windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle))
            }
            Matcher::Glob(pattern) => glob(pattern, text),
            _ => false,
        }
    }
}

fn compare(op: Op, value: i64, wanted: i64) -> bool {
    match op {
        Op::Ne => value != wanted,
        Op::Lt => value < wanted,
        Op::Le => value <= wanted,
        Op::Gt => value > wanted,
        Op::Ge => value >= wanted,
        _ => value == wanted,
    }
}

/// An address or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Self { address, prefix })
    }

    fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Whether a text is like a pattern: `*` is any bytes, `?` is any one byte, `[a-z]` and `[!a-z]` are classes.
/// A star that fails is only ever moved on, never tried in combination with earlier ones, so the time is at
/// most pattern times text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
            continue;
        }
        if let Some(len) = one(&pattern[p..], text[t]) {
            p += len;
            t += 1;
            continue;
        }
        match star {
            Some((star_p, star_t)) => {
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
            None => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Whether the pattern's first element takes that byte; its length if so.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let Some(end) = pattern.iter().skip(2).position(|&byte| byte == b']').map(|at| at + 2) else {
                return (byte == b'[').then_some(1);
            };
            let class = &pattern[1..end];
            let (negated, class) = match class {
                [b'!' | b'^', rest @ ..] => (true, rest),
                class => (false, class),
            };
            (in_class(class, byte) != negated).then_some(end + 1)
        }
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        first => (*first == byte).then_some(1),
    }
}

fn in_class(mut class: &[u8], byte: u8) -> bool {
    loop {
        match class {
            [low, b'-', high, rest @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                class = rest;
            }
            [one, rest @ ..] => {
                if *one == byte {
                    return true;
                }
                class = rest;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text, matches) in [
            ("/etc/*", "/etc/passwd", true),
            ("/etc/*", "/etc/", true),
            ("/etc/*", "/etcx", false),
            ("*.s?", "a.so", true),
            ("*.s?", "a.s", false),
            ("[a-c]x[!0-9]", "bxz", true),
            ("[a-c]x[!0-9]", "bx5", false),
            ("a[", "a[", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn pattern_of_many_stars_takes_no_exponential_time() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!glob(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    }

    #[test]
    fn networks_hold_their_addresses() {
        for (network, address, holds) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("169.254.169.254", "169.254.169.254", true),
            ("169.254.169.254", "169.254.169.253", false),
            ("fd00::/8", "fd00:ec2::254", true),
            ("::/0", "1.2.3.4", false),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), holds, "{network:?} {address}");
        }
        for text in ["10.0.0.0/33", "10.0.0", "x", "::/129", ""] {
            assert_eq!(Network::parse(text), None);
        }
    }
}

//! What a container was told when it asked for names: which name an address was the answer to. That is whom the
//! container meant when it connects to the address, whoever else the address belongs to; a name server that lies
//! misleads the container and this table alike. Nothing is asked for here.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::event::Dns;
use crate::event::dns::Data;

/// Answers in order of their coming, the newest last; the oldest are forgotten. Copies are of one and the same.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    names: VecDeque<(IpAddr, Box<[u8]>)>,
    bytes: usize,
}

/// What one container's answers may take, in bytes: some hundred.
const BYTES_MAX: usize = 4096;

/// What an answer takes beside its name.
const ENTRY_BYTES: usize = size_of::<(IpAddr, Box<[u8]>)>();

impl Answers {
    /// Takes in an answer that came from a name server. Of an alias the name that was asked for counts.
    pub fn learn(&self, dns: &Dns<'_>) {
        let Some(message) = dns.message.filter(|message| message.is_answer()) else { return };
        let Some(name) = dns.question_name() else { return };
        for answer in message.answers(dns.bytes) {
            match answer.data {
                Data::V4(ip) => self.keep(ip.into(), name),
                Data::V6(ip) => self.keep(ip.into(), name),
                Data::Name(_) | Data::Text(_) | Data::Other(_) => {}
            }
        }
    }

    fn keep(&self, address: IpAddr, name: &[u8]) {
        let Ok(mut kept) = self.0.lock() else { return };
        let Kept { names, bytes } = &mut *kept;
        let known = names.iter().position(|(known, called)| *known == address && **called == *name);
        match known.and_then(|at| names.remove(at)) {
            Some(again) => names.push_back(again),
            None => {
                *bytes += ENTRY_BYTES + name.len();
                names.push_back((address, name.into()));
            }
        }
        while *bytes > BYTES_MAX {
            let Some((_, oldest)) = names.pop_front() else { break };
            *bytes -= ENTRY_BYTES + oldest.len();
        }
    }

    /// Calls `test` with each name that the address was an answer to, the newest first, until it returns true; returns
    /// whether it did.
    pub fn any_name(&self, address: IpAddr, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let address = address.to_canonical();
        let Ok(kept) = self.0.lock() else { return false };
        kept.names.iter().rev().any(|(known, name)| *known == address && test(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(answers: &Answers, address: &str) -> Vec<String> {
        let mut names = Vec::new();
        answers.any_name(address.parse().unwrap(), &mut |name| {
            names.push(String::from_utf8_lossy(name).into_owned());
            false
        });
        names
    }

    #[test]
    fn address_has_the_names_that_it_was_an_answer_to_newest_first() {
        let answers = Answers::default();
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        for name in ["a.example", "b.example", "a.example"] {
            answers.keep(address, name.as_bytes());
        }
        answers.keep("2001:db8::1".parse().unwrap(), b"six.example");
        assert_eq!(names(&answers, "192.0.2.7"), ["a.example", "b.example"]);
        assert_eq!(names(&answers, "::ffff:192.0.2.7"), ["a.example", "b.example"]);
        assert_eq!(names(&answers, "2001:db8::1"), ["six.example"]);
        assert_eq!(names(&answers, "192.0.2.8"), [""; 0]);
    }

    #[test]
    fn flood_of_answers_forgets_the_oldest_and_stays_within_its_bounds() {
        let answers = Answers::default();
        for n in 0..10_000u32 {
            answers.keep(IpAddr::from(n.to_be_bytes()), format!("{n}.example").as_bytes());
        }
        answers.keep("192.0.2.7".parse().unwrap(), &[b'x'; 510]);
        let kept = answers.0.lock().unwrap();
        let bytes: usize = kept.names.iter().map(|(_, name)| ENTRY_BYTES + name.len()).sum();
        assert_eq!(bytes, kept.bytes);
        assert!(bytes <= BYTES_MAX);
        drop(kept);
        assert_eq!(names(&answers, "0.0.39.15"), ["9999.example"]);
        assert_eq!(names(&answers, "0.0.0.1"), [""; 0]);
    }
}

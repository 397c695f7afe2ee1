//! Keys of what rules remember: the values of some fields as one number of 128 bits. Values are chosen by whoever is
//! watched, so the hash is keyed at random, and nothing of a value is kept. Two keys out of 2^32 at once are
//! the same with a chance of 2^-65.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::event::field::{Value, Values};
use crate::rules::state::Operand;

/// Most values of one field that are tried: a process and its ancestors.
const SEVERAL_MAX: usize = 65;

/// Makes keys.
#[derive(Clone, Debug)]
pub struct Keys(SipHasher13);

impl Keys {
    /// With a secret of its own.
    pub fn new() -> Self {
        let secret = || RandomState::new().build_hasher().finish();
        Self(SipHasher13::new_with_keys(secret(), secret()))
    }

    /// The key of fields with one value each; no value is a value of its own.
    pub fn one(&self, values: &impl Values, by: &[Operand]) -> u128 {
        let mut hash = self.0;
        write_fields(&mut hash, values, by);
        hash.finish128().as_u128()
    }

    /// The keys of fields of which one may have several values.
    pub fn several(&self, values: &impl Values, by: &[Operand], keys: &mut Vec<u128>) {
        keys.clear();
        let Some(at) = by.iter().position(Operand::is_several) else {
            keys.push(self.one(values, by));
            return;
        };
        let mut before = self.0;
        write_fields(&mut before, values, &by[..at]);
        values.any(by[at].field, by[at].index, &mut |value| {
            let mut hash = before;
            write_value(&mut hash, Some(&value));
            write_fields(&mut hash, values, &by[at + 1..]);
            keys.push(hash.finish128().as_u128());
            keys.len() >= SEVERAL_MAX
        });
    }

    /// The key of a value.
    pub fn value(&self, value: &Value<'_>) -> u128 {
        let mut hash = self.0;
        write_value(&mut hash, Some(value));
        hash.finish128().as_u128()
    }
}

fn write_fields(hash: &mut SipHasher13, values: &impl Values, by: &[Operand]) {
    for operand in by {
        write_value(hash, operand.value(values).as_ref());
    }
}

/// Each value says where it ends, so that no two lists of values are the same bytes.
fn write_value(hash: &mut SipHasher13, value: Option<&Value<'_>>) {
    match value {
        None => hash.write_u8(0),
        Some(Value::Number(number)) => {
            hash.write_u8(1);
            hash.write_i64(*number);
        }
        Some(Value::Bool(bool)) => hash.write(&[2, u8::from(*bool)]),
        Some(Value::Address(address)) => {
            let bytes = match address {
                std::net::IpAddr::V4(address) => address.to_ipv6_mapped(),
                std::net::IpAddr::V6(address) => *address,
            };
            hash.write_u8(3);
            hash.write(&bytes.octets());
        }
        Some(value @ (Value::Text(_) | Value::Inline(_))) => {
            let text = value.text().unwrap_or_default();
            hash.write_u8(4);
            hash.write_u64(text.len() as u64);
            hash.write(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::field::{Field, Get, Type};

    /// Labels, as a container has them.
    static LABEL: Field =
        Field { name: "label", ty: Type::Text, kinds: 1, doc: "A label.", get: Get::Keyed(|_, _| None) };

    struct Labels<'a>(&'a [(&'a str, &'a str)]);

    impl Values for Labels<'_> {
        fn one(&self, _field: &'static Field, _index: Option<u32>) -> Option<Value<'_>> {
            None
        }

        fn any(
            &self,
            _field: &'static Field,
            _index: Option<u32>,
            _test: &mut dyn FnMut(Value<'_>) -> bool,
        ) -> bool {
            false
        }

        fn keyed(&self, _field: &'static Field, key: &[u8]) -> Option<Value<'_>> {
            self.0
                .iter()
                .find(|(name, _)| name.as_bytes() == key)
                .map(|(_, text)| Value::Text(text.as_bytes()))
        }
    }

    #[test]
    fn values_that_go_by_name_make_keys_and_no_two_lists_of_values_are_one() {
        let label = |name: &str| Operand { field: &LABEL, index: None, key: Some(name.as_bytes().into()) };
        let by = [label("a"), label("b")];
        assert_eq!(by[0].to_string(), "label[a]");
        let keys = Keys::new();
        let lists: [&[(&str, &str)]; 6] = [
            &[("a", "x"), ("b", "y")],
            &[("a", "y"), ("b", "x")],
            &[("a", "xy"), ("b", "")],
            &[("a", "xy")],
            &[("b", "xy")],
            &[],
        ];
        let made: Vec<u128> = lists.iter().map(|list| keys.one(&Labels(list), &by)).collect();
        let distinct: std::collections::BTreeSet<_> = made.iter().collect();
        assert_eq!(distinct.len(), lists.len());
        assert_eq!(keys.one(&Labels(lists[0]), &by), made[0]);
        assert_ne!(Keys::new().one(&Labels(lists[0]), &by), made[0]);
    }
}

//! An event whose fields have whatever values come next.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use taffrail::event::field::{Field, Type, Value, Values};

/// See above.
pub struct Event<'a> {
    values: Vec<&'a [u8]>,
    next: Cell<usize>,
}

impl<'a> Event<'a> {
    /// Starts with the first value; after the last one comes none, and then the first again.
    pub fn new(values: Vec<&'a [u8]>) -> Self {
        Self { values, next: Cell::new(0) }
    }
}

impl Values for Event<'_> {
    fn one(&self, field: &'static Field, _: Option<u32>) -> Option<Value<'_>> {
        let place = self.next.replace(self.next.get().wrapping_add(1));
        let bytes = self.values.get(place % (self.values.len() + 1)).copied()?;
        let number = bytes.iter().fold(0i64, |number, byte| number << 8 | i64::from(*byte));
        Some(match field.ty {
            Type::Text | Type::Path | Type::TextList => Value::Text(bytes),
            Type::Number => Value::Number(number),
            Type::Bool => Value::Bool(number & 1 == 1),
            Type::Address => Value::Address(IpAddr::V4(Ipv4Addr::from_bits(number as u32))),
        })
    }

    fn any(
        &self,
        field: &'static Field,
        index: Option<u32>,
        test: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> bool {
        (0..4).map_while(|_| self.one(field, index)).any(test)
    }

    fn keyed(&self, field: &'static Field, _: &[u8]) -> Option<Value<'_>> {
        self.one(field, None)
    }
}

//! Whatever text a person could write as a condition: it parses and prints to the same tree, or is told what is wrong;
//! and what can be compiled holds for an event or not, whatever the event's values.
#![no_main]

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use taffrail::diagnostic::{Source, render};
use taffrail::event::field::{Field, Type, Value, Values};
use taffrail::rules::{Filter, parser};
use taffrail::yaml::Node;

/// An event whose fields have whatever values come next.
struct Event<'a> {
    values: Vec<&'a [u8]>,
    next: Cell<usize>,
}

impl Event<'_> {
    fn bytes(&self) -> Option<&[u8]> {
        let place = self.next.replace(self.next.get().wrapping_add(1));
        self.values.get(place % (self.values.len() + 1)).copied()
    }
}

impl Values for Event<'_> {
    fn one(&self, field: &'static Field, _: Option<u32>) -> Option<Value<'_>> {
        let bytes = self.bytes()?;
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

fn node(text: &str) -> Arc<Node> {
    let source = Source { name: "fuzz".to_owned(), text: text.to_owned() };
    Arc::new(Node::whole(&Arc::new(source)))
}

// The condition ends with the first NUL, and so does each value behind it.
fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 0);
    let Some(condition) = parts.next().and_then(|text| std::str::from_utf8(text).ok()) else { return };
    if let Ok(expr) = parser::parse(&node(condition)) {
        assert_eq!(parser::parse(&node(&expr.to_string())), Ok(expr));
    }
    match Filter::from_text(condition, "fuzz") {
        Ok(filter) => {
            render(&filter.warnings, false);
            filter.matches(&Event { values: parts.collect(), next: Cell::new(0) });
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            render(&diagnostics, false);
        }
    }
});

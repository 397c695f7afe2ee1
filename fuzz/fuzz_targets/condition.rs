//! Whatever text a person could write as a condition: it parses and prints to the same tree, or is told what is wrong;
//! and what can be compiled holds for an event or not, whatever the event's values.
#![no_main]

#[path = "../event.rs"]
mod event;

use std::sync::Arc;

use event::Event;
use libfuzzer_sys::fuzz_target;
use taffrail::diagnostic::{Source, render};
use taffrail::rules::{Filter, parser};
use taffrail::yaml::Node;

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
            filter.matches(&Event::new(parts.collect()));
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            render(&diagnostics, false);
        }
    }
});

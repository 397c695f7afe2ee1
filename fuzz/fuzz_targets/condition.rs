//! Whatever text a person could write as a condition: it parses and prints to the same tree, or is told what is wrong.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taffrail::diagnostic::render;
use taffrail::rules::{Filter, parser};

fuzz_target!(|text: &str| {
    if let Ok(expr) = parser::parse(text) {
        let printed = expr.to_string();
        assert_eq!(parser::parse(&printed).map(|expr| expr.to_string()), Ok(printed));
    }
    if let Err(diagnostics) = Filter::from_text(text, "fuzz") {
        assert!(!diagnostics.is_empty());
        render(&diagnostics, false);
    }
});

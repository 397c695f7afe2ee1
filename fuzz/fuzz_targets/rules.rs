//! Whatever text a rule file could be: rules, or diagnostics that can be shown.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use taffrail::diagnostic::{Source, render};
use taffrail::rules::{RuleSet, run_examples};

fuzz_target!(|text: &str| {
    let source = Arc::new(Source { name: "fuzz.yaml".to_owned(), text: text.to_owned() });
    match RuleSet::load(&[source]) {
        Ok((set, warnings)) => {
            run_examples(&set);
            render(&warnings, false);
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            render(&diagnostics, false);
        }
    }
});

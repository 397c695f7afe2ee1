//! Whatever text a Sigma file could be: rules, or diagnostics that can be shown. What is imported loads again.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use taffrail::diagnostic::{Source, render};
use taffrail::rules::{RuleSet, sigma};

fn load(text: String) -> Result<RuleSet, String> {
    match RuleSet::load(&[Arc::new(Source { name: "fuzz.yml".to_owned(), text })]) {
        Ok((set, warnings)) => {
            render(&warnings, false);
            Ok(set)
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            Err(render(&diagnostics, false))
        }
    }
}

fuzz_target!(|text: &str| {
    // Inputs are tried as a whole file, and as the detection of one.
    let rule = format!("title: T\nlogsource: {{category: process_creation}}\ndetection:\n  condition: s\n  s:\n{text}");
    for text in [text.to_owned(), rule] {
        let Ok(set) = load(text) else { continue };
        let imported = sigma::export::rules(&set);
        let count = set.rules.iter().filter(|rule| rule.origin.is_some()).count();
        match load(imported) {
            Ok(again) => assert_eq!(again.rules.len(), count),
            Err(wrong) => panic!("{wrong}"),
        }
    }
});

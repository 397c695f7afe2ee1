//! Whatever a line of the log could be: no record, or one in each format, within its bounds, and JSON where it must be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use taffrail::export::format::FORMATS;
use taffrail::export::record::Record;

fuzz_target!(|line: &[u8]| {
    let Ok(record) = Record::parse(line) else { return };
    for format in FORMATS {
        for max in [usize::MAX, 2000, 300] {
            let mut out = Vec::new();
            if !format.encode(&record, max, &mut out) {
                continue;
            }
            assert!(out.len() <= max);
            // The line itself is the native form; whatever white space it has is the log's.
            if format.is_json && format.name != "json" {
                serde_json::from_slice::<serde_json::Value>(&out).expect(format.name);
                assert!(!out.contains(&b'\n'));
            }
            if matches!(format.name, "cef" | "leef") {
                let text = std::str::from_utf8(&out).expect(format.name);
                assert!(!text.chars().any(|char| char.is_control() && char != '\t'));
            }
        }
    }
});

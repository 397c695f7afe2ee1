//! Whatever a line of the log could be: no record, or one in each format, within its bounds, and JSON where it must be.
//! Whatever a text could be: it is in its place in each format that is JSON, and nowhere else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use taffrail::export::format::FORMATS;
use taffrail::export::record::Record;

fuzz_target!(|input: &[u8]| {
    encode(input);
    if let Ok(text) = std::str::from_utf8(input) {
        read_back(text);
    }
});

fn encode(line: &[u8]) {
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
}

fn read_back(text: &str) {
    for (format, place) in [
        ("json", "/process/exe"),
        ("falco", "/output_fields/proc.exepath"),
        ("ecs", "/process/executable"),
        ("ocsf", "/actor/process/file/path"),
    ] {
        let object = object(format, text);
        assert_eq!(object.pointer(place).and_then(Value::as_str), Some(text), "{format}");
        assert_eq!(names(&object), names(&self::object(format, "text")), "{format}");
    }
}

/// A record whose texts are all the same, in a format.
fn object(format: &str, text: &str) -> Value {
    let line = json!({
        "seq": 7, "prev": "00", "kind": "event", "time": "2026-11-24T12:00:00Z", "node": text, "boot_id": "00",
        "event": { "kind": "open", "type": "openat", "file": text },
        "process": { "exe": text, "name": text },
        "container": { "name": text },
    })
    .to_string();
    let record = Record::parse(line.as_bytes()).expect("it is a record");
    let mut out = Vec::new();
    let known = FORMATS.iter().find(|known| known.name == format).expect(format);
    assert!(known.encode(&record, usize::MAX, &mut out));
    serde_json::from_slice(&out).expect(format)
}

/// The object without its values.
fn names(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), names(value))).collect(),
        _ => Value::Null,
    }
}

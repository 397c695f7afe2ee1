//! Whatever values an event has: each way to test them comes to an end, and says what a plain implementation says.
#![no_main]

#[path = "../event.rs"]
mod event;

use std::ffi::CString;
use std::sync::OnceLock;

use event::Event;
use libfuzzer_sys::fuzz_target;
use taffrail::rules::Filter;
use taffrail::rules::path::Paths;
use taffrail::rules::pattern::{FoldedTexts, Needles, Pattern, Texts, glob};

/// All operators and transformers.
const CONDITIONS: &[&str] = &[
    "fd.name = a or fd.name != b or fd.name < c or fd.name in (a, b) or fd.name regex \"(a|b)*c\"",
    "fd.name contains ab and fd.name icontains anyof (A, B) and fd.name search \"[^a]\\.\"",
    "fd.name pmatch (/a, /a*/b/?) or fd.name iglob \"*[a-c]*[!x]\" or fd.name bcontains 6100",
    "fd.name startswith allof (a, ab) or fd.name iendswith oneof (A, BA) or fd.name iequals AbC",
    "fd.num > 1.5 or fd.num in (1, 0x2) or fd.rip in (10.0.0.0/8, 1.2.3.4) or evt.failed != true",
    "tolower(fd.name) = val(proc.name) or toupper(basename(fd.name)) icontains val(proc.name)",
    "b64(fd.name) glob val(proc.name) or b64(b64(fd.name)) iglob val(proc.name)",
    "len(proc.aname) > 2 or len(fd.name) = val(fd.num) or text(fd.rip) startswith val(proc.name)",
    "concat(fd.name, proc.name, x) endswith val(proc.name) or join(\",\", proc.aname) exists",
    "join(\"\", (b64(fd.name), proc.name)) in val(proc.arg) or proc.arg in (a, b)",
    "getopt(proc.arg, \"ab:\") in (a, b) or getopt(proc.arg, \"ab:\")[b] = x or getopt(proc.arg, \"a\")[a] exists",
    "concat(concat(proc.name, proc.name), concat(proc.name, concat(proc.name, proc.name))) = a",
];

// Each value ends with NUL.
fuzz_target!(|data: &[u8]| {
    static FILTERS: OnceLock<Vec<Filter>> = OnceLock::new();
    let filters = FILTERS.get_or_init(|| {
        CONDITIONS.iter().map(|text| Filter::from_text(text, "fuzz").expect("valid conditions")).collect()
    });
    let values: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    for filter in filters {
        filter.matches(&Event::new(values.clone()));
    }
    let [first, second, rest @ ..] = values.as_slice() else { return };
    shells_agree(first, second);
    sets_agree(first, &values[1..]);
    paths_agree(first, rest);
    if let Ok(text) = std::str::from_utf8(second)
        && let (Ok(whole), Ok(anywhere)) = (Pattern::whole(text), Pattern::anywhere(text))
    {
        assert!(!whole.matches(first) || text.contains(['^', '$']) || anywhere.matches(first));
    }
});

fn shells_agree(text: &[u8], pattern: &[u8]) {
    // What the C library has beyond ours, and where it reads beyond ASCII.
    let differs =
        |part: &[u8]| part.is_ascii() && !part.windows(2).any(|two| matches!(two, b"[." | b"[=" | b"[:"));
    if !differs(pattern) || !text.is_ascii() || pattern.ends_with(b"\\") || unclosed(pattern) {
        return;
    }
    let (Ok(c_text), Ok(c_pattern)) = (CString::new(text), CString::new(pattern)) else { return };
    // SAFETY: Both are texts that end with NUL and live until the call is over.
    let expected = unsafe { libc::fnmatch(c_pattern.as_ptr(), c_text.as_ptr(), 0) } == 0;
    assert_eq!(glob(pattern, text, false), expected, "{text:?} {pattern:?}");
}

/// Whether there is a bracket of which the C library and shells do not agree whether it is one.
fn unclosed(pattern: &[u8]) -> bool {
    pattern.iter().filter(|byte| **byte == b'[').count() > 1
        || pattern.contains(&b'[') && pattern.contains(&b'\\')
}

fn sets_agree(text: &[u8], texts: &[&[u8]]) {
    let each = || texts.iter().copied();
    let contains =
        |part: &[u8], text: &[u8]| part.is_empty() || text.windows(part.len()).any(|some| some == part);
    assert_eq!(Texts::new(each()).contains(text), each().any(|one| one == text));
    assert_eq!(FoldedTexts::new(each()).contains(text), each().any(|one| one.eq_ignore_ascii_case(text)));
    let needles = Needles::new(each(), false).expect("few");
    assert_eq!(needles.are_in(text), each().any(|one| contains(one, text)));
    let folded = Needles::new(each(), true).expect("few");
    let lower = text.to_ascii_lowercase();
    assert_eq!(folded.are_in(text), each().any(|one| contains(&one.to_ascii_lowercase(), &lower)));
}

fn paths_agree(path: &[u8], paths: &[&[u8]]) {
    fn components(path: &[u8]) -> Vec<&[u8]> {
        path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()).collect()
    }
    let path_components = components(path);
    let covers = |above: &&[u8]| {
        let above = components(above);
        above.len() <= path_components.len()
            && above.iter().zip(&path_components).all(|(above, below)| {
                let is_pattern = above.iter().any(|byte| b"*?[".contains(byte));
                if is_pattern { glob(above, below, false) } else { above == below }
            })
    };
    if let Some(set) = Paths::new(paths.iter().copied()) {
        assert_eq!(set.cover(path), paths.iter().any(|above| covers(&above)));
    }
}

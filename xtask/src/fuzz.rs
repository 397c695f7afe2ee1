//! Fuzzing: what takes bytes or text from others, for some time, from real inputs on.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{cargo, root, setup, succeed};

/// Records of a recorded session, which the target `decode` begins with.
const SESSION: &str = "tests/data/session.recording";

/// Events of that session as JSON, which the targets `export` and `logged` begin with.
const LINES: &str = "tests/data/session.ndjson";

/// How many records one input begins with.
const RECORDS: usize = 8;

/// Fuzzes a target. What it learns stays in `fuzz/corpus`, what it finds in `fuzz/artifacts`.
pub fn run(target: &str, seconds: u32) -> Result<()> {
    setup::fuzzer()?;
    let corpus = root().join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&corpus)?;
    let seeds = seeds(target, &corpus)?;
    // Stable Rust: the coverage counters are unstable flags, the sanitizers are left out.
    let mut fuzz = cargo(&["fuzz", "run", "--sanitizer", "none", target]);
    fuzz.arg(&corpus).args(seeds);
    fuzz.args(["--", &format!("-max_total_time={seconds}"), "-max_len=4096"]);
    succeed(fuzz.env("RUSTC_BOOTSTRAP", "1"))
}

/// Folders to read inputs from besides the corpus, where inputs that have to be made first are put.
fn seeds(target: &str, corpus: &Path) -> Result<Vec<PathBuf>> {
    match target {
        "decode" => {
            let recording = std::fs::read(root().join(SESSION))?;
            let records = records(&recording).with_context(|| format!("{SESSION} is no recording"))?;
            for (n, some) in records.chunks(RECORDS).enumerate() {
                std::fs::write(corpus.join(format!("session-{n}")), input(some))?;
            }
            Ok(Vec::new())
        }
        "rules" => Ok(vec![root().join("rules")]),
        "export" | "logged" => {
            // The lines as the log has them, one an input.
            let session = std::fs::read_to_string(root().join(LINES))?;
            for (n, line) in session.lines().enumerate() {
                let begin = r#"{"seq":1,"prev":"00","kind":"event","node":"n","boot_id":"b","#;
                let rest = line.strip_prefix('{').with_context(|| format!("{LINES} has no objects"))?;
                std::fs::write(corpus.join(format!("session-{n}")), format!("{begin}{rest}"))?;
            }
            Ok(Vec::new())
        }
        _ => Ok(Vec::new()),
    }
}

/// The probes' records in a recording: see `monitor/src/capture.rs`.
fn records(recording: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    let first = recording.iter().position(|byte| *byte == b'\n')?;
    let mut rest = recording.get(first + 1..)?;
    while let Some((kind, after)) = rest.split_first() {
        let (len, after) = after.split_first_chunk()?;
        let (frame, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        if *kind == b'R' {
            records.push(frame);
        }
        rest = after;
    }
    Some(records)
}

/// Records as the target `decode` takes them: each after a byte with half its length.
fn input(records: &[&[u8]]) -> Vec<u8> {
    let mut input = Vec::new();
    for record in records {
        let Ok(half) = u8::try_from(record.len().div_ceil(2)) else { continue };
        input.push(half);
        input.extend_from_slice(record);
        input.resize(input.len() + usize::from(half) * 2 - record.len(), 0);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_a_recording_become_an_input() {
        let mut recording = b"magic\n".to_vec();
        for (kind, frame) in [(b'T', &b"12345678"[..]), (b'R', b"abc"), (b'R', b"defg")] {
            recording.push(kind);
            recording.extend((frame.len() as u32).to_le_bytes());
            recording.extend(frame);
        }
        let records = records(&recording);
        assert_eq!(records, Some(vec![&b"abc"[..], b"defg"]));
        assert_eq!(input(&records.unwrap_or_default()), b"\x02abc\0\x02defg");
        assert_eq!(super::records(&recording[..recording.len() - 1]), None);
    }

    #[test]
    fn recorded_session_is_a_seed() {
        let recording = std::fs::read(root().join(SESSION)).unwrap_or_default();
        assert!(records(&recording).is_some_and(|records| !input(&records).is_empty()));
    }
}

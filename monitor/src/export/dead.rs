//! Dead letters: what a receiver will not take, and what is no record, each a line beside the log with the reason. The
//! records are read again from the log for that, so that nothing has to be kept until it is known what becomes of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::cursor::{Files, folder};
use crate::audit::read::{Cursor, Step};
use crate::clock;
use crate::event::json::Members;

/// Letters that are written at once, in bytes: about so many.
const LETTERS_MAX: usize = 1 << 20;

/// A file that has grown to this size replaces the older one.
const FILE_MAX: u64 = 64 << 20;

/// Keeps what nobody will take: of each its number, 0 if it is no record, and the reason.
pub fn bury(files: &Files, log: &Path, mut dead: Vec<(u64, String)>) -> io::Result<()> {
    dead.sort_by_key(|(seq, _)| *seq);
    let time = clock::rfc3339(clock::Clock::now().realtime_ns(clock::boot_ns()));
    let mut letters = Vec::new();
    let mut cursor = None;
    for (seq, reason) in dead {
        letters.push(b'{');
        let mut members = Members::within(&mut letters);
        members.text("time", time.as_bytes());
        members.text("reason", reason.as_bytes());
        if seq > 0 {
            members.number("seq", seq as i64);
            if let Some(line) = find(&mut cursor, log, seq) {
                members.text("record", &line);
            }
        }
        letters.extend_from_slice(b"}\n");
        if letters.len() >= LETTERS_MAX {
            append(files, log, &std::mem::take(&mut letters))?;
        }
    }
    if letters.is_empty() { Ok(()) } else { append(files, log, &letters) }
}

/// The line of a record, read on from the last one that was found so.
fn find(cursor: &mut Option<Cursor>, log: &Path, seq: u64) -> Option<Vec<u8>> {
    let reading = cursor.get_or_insert_with(|| Cursor::new(log, seq));
    loop {
        match reading.next() {
            Ok(Step::Record { seq: found, line }) if found == seq => return Some(line.to_vec()),
            Ok(Step::Record { seq: found, .. }) if found < seq => {}
            Ok(Step::Skipped { .. } | Step::Damaged { .. }) => {}
            Ok(Step::Record { .. } | Step::End) | Err(_) => break,
        }
    }
    // It is not there; the next one may be what was just passed.
    *cursor = None;
    None
}

fn append(files: &Files, log: &Path, letters: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder(log))?;
    let path = files.path("dead.ndjson");
    if path.metadata().is_ok_and(|found| found.len() > FILE_MAX) {
        std::fs::rename(&path, files.path("dead.ndjson.1"))?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
    // Of a write that a crash has cut off there is half a line.
    file.set_len(whole_lines(&file)?)?;
    file.write_all(letters)?;
    file.sync_data()
}

/// Where the last whole line of a file ends.
fn whole_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut room = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(room.len() as u64);
        let (part, _) = room.split_at_mut((end - start) as usize);
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_letter_goes_when_the_next_one_comes() {
        let log = tempfile::tempdir().unwrap();
        let files = Files::new(log.path(), "siem");
        let path = log.path().join("export/siem.dead.ndjson");
        let half = "x".repeat(10_000);
        for before in ["", "{\"a\":1}\n"] {
            std::fs::create_dir_all(log.path().join("export")).unwrap();
            std::fs::write(&path, format!("{before}{half}")).unwrap();
            append(&files, log.path(), b"{\"b\":2}\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{before}{{\"b\":2}}\n"));
        }
    }

    #[test]
    fn letters_have_their_records_in_whatever_order_they_came() {
        let log = tempfile::tempdir().unwrap();
        let line = |seq: u64| format!("{{\"seq\":{seq},\"text\":\"{seq}\"}}");
        let text: String = [1, 2, 3, 5].map(|seq| line(seq) + "\n").concat();
        std::fs::write(log.path().join("00000000000000000001.ndjson"), text).unwrap();
        let files = Files::new(log.path(), "siem");
        let dead = [5, 0, 2, 4, 3].map(|seq| (seq, format!("reason {seq}")));
        bury(&files, log.path(), dead.into()).unwrap();
        let letters = std::fs::read_to_string(log.path().join("export/siem.dead.ndjson")).unwrap();
        let letters: Vec<serde_json::Value> =
            letters.lines().map(|letter| serde_json::from_str(letter).unwrap()).collect();
        let found: Vec<_> =
            letters.iter().map(|letter| (letter["seq"].as_u64(), letter["record"].as_str())).collect();
        let [two, three, five] = [2, 3, 5].map(line);
        assert_eq!(
            found,
            [
                (None, None),
                (Some(2), Some(&*two)),
                (Some(3), Some(&*three)),
                (Some(4), None),
                (Some(5), Some(&*five))
            ]
        );
    }
}

//! Reading while the log is written, packed, cut and deleted.

use std::fs::OpenOptions;
use std::io::Write as _;

use super::*;
use crate::audit::archive::{closed, pack};
use crate::audit::tests::{bodies, options, write};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn append(segment: &Segment, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(&segment.path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn records(seqs: Range<u64>) -> String {
    seqs.map(|seq| format!("{{\"seq\":{seq},\"prev\":\"\"}}\n")).collect()
}

/// The next step, in short.
fn step(cursor: &mut Cursor) -> String {
    match cursor.next().unwrap() {
        Step::Record { seq, line } => {
            assert_eq!(seq_of(line), Some(seq));
            seq.to_string()
        }
        Step::Skipped { from, to } => format!("{from}-{to}"),
        Step::Damaged { offset, bytes, .. } => format!("{bytes:?}@{offset}"),
        Step::End => "end".to_owned(),
    }
}

/// All steps up to the end.
fn steps(cursor: &mut Cursor) -> String {
    let mut steps = Vec::new();
    while steps.last().is_none_or(|last| last != "end") {
        steps.push(step(cursor));
    }
    steps.join(" ")
}

#[test]
fn cursor_goes_through_all_segments_from_any_record_on() {
    let folder = tempfile::tempdir().unwrap();
    for first in [1, 4, 7] {
        append(&Segment::new(folder.path(), first), &records(first..first + 3));
    }
    pack(&Segment::new(folder.path(), 4)).unwrap();
    let all = "1 2 3 4 5 6 7 8 9 end";
    for from in 1..=9 {
        let mut cursor = Cursor::new(folder.path(), from);
        assert_eq!(steps(&mut cursor), all[2 * (from as usize - 1)..]);
        assert_eq!(cursor.position(), 10);
    }
    assert_eq!(steps(&mut Cursor::new(folder.path(), 10)), "end");
    assert_eq!(last_seq(folder.path()).unwrap(), Some(9));
}

#[test]
fn half_a_line_is_given_out_once_its_newline_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let segment = Segment::new(folder.path(), 1);
    let mut cursor = Cursor::new(folder.path(), 1);
    assert_eq!(steps(&mut cursor), "end");
    let text = records(1..3);
    for byte in text.chars().map(String::from) {
        append(&segment, &byte);
        assert!(cursor.wait(LONG).unwrap());
        let told = steps(&mut cursor);
        assert_eq!(told.contains(' '), byte == "\n", "{told}");
        assert!(!cursor.wait(SHORT).unwrap());
    }
    assert_eq!(cursor.position(), 3);
}

#[test]
fn half_a_line_that_a_crash_left_is_told_and_one_that_was_cut_off_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let segment = Segment::new(folder.path(), 1);
    append(&segment, &(records(1..3) + "{\"seq\":3,\"pr"));
    let mut cursor = Cursor::new(folder.path(), 1);
    assert_eq!(steps(&mut cursor), "1 2 end");
    let mut other = Cursor::new(folder.path(), 1);
    assert_eq!(steps(&mut other), "1 2 end");
    // The next writer cuts it off.
    let len = records(1..3).len() as u64;
    OpenOptions::new().write(true).open(&segment.path).unwrap().set_len(len).unwrap();
    append(&segment, &(records(3..4) + "{\"seq\":4,"));
    assert_eq!(steps(&mut cursor), "3 end");
    append(&Segment::new(folder.path(), 4), &records(4..5));
    assert_eq!(steps(&mut cursor), format!("Some(9)@{} 4 end", records(1..4).len()));
}

#[test]
fn what_retention_deleted_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let segments = [1, 4, 7, 10].map(|first| Segment::new(folder.path(), first));
    for segment in &segments[..3] {
        append(segment, &records(segment.first..segment.first + 3));
    }
    let mut cursor = Cursor::new(folder.path(), 1);
    assert_eq!(step(&mut cursor), "1");
    segments[0].remove().unwrap();
    segments[1].remove().unwrap();
    // The file that is open can be read to its end.
    assert_eq!(steps(&mut cursor), "2 3 4-6 7 8 9 end");
    assert_eq!(steps(&mut Cursor::new(folder.path(), 2)), "2-6 7 8 9 end");
    segments[2].remove().unwrap();
    append(&segments[3], &records(10..11));
    assert_eq!(steps(&mut Cursor::new(folder.path(), 2)), "2-9 10 end");
    assert_eq!(steps(&mut cursor), "10 end");
}

#[test]
fn what_is_no_record_in_its_place_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(LINE_MAX);
    let text = format!("{}{long}\nno\n{}", records(1..2), records(1..2));
    append(&Segment::new(folder.path(), 1), &(text + &records(4..5) + &records(900..901)));
    append(&Segment::new(folder.path(), 5), &records(5..6));
    let after = records(1..2).len() as u64;
    let (no, twice) = (after + LINE_MAX as u64 + 1, after + LINE_MAX as u64 + 4);
    let far = twice + 2 * after;
    assert_eq!(
        steps(&mut Cursor::new(folder.path(), 1)),
        format!(
            "1 Some({})@{after} Some(3)@{no} Some({after})@{twice} 2-3 4 Some({})@{far} 5 end",
            LINE_MAX + 1,
            after + 2,
        )
    );
}

#[test]
fn records_that_are_not_durable_are_held_back_and_may_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let segment = Segment::new(folder.path(), 1);
    append(&segment, &records(1..6));
    let (mut cursor, mut other) = (Cursor::new(folder.path(), 1), Cursor::new(folder.path(), 1));
    cursor.set_limit(2);
    assert_eq!(steps(&mut cursor), "1 2 end");
    assert_eq!(steps(&mut other), "1 2 3 4 5 end");
    let file = OpenOptions::new().write(true).open(&segment.path).unwrap();
    file.set_len(records(1..3).len() as u64).unwrap();
    assert!(other.wait(LONG).unwrap());
    assert_eq!(steps(&mut other), "end");
    append(&segment, &records(3..4));
    cursor.set_limit(3);
    assert!(cursor.wait(LONG).unwrap());
    assert_eq!(steps(&mut cursor), "3 end");
    append(&segment, &records(4..8));
    assert_eq!(steps(&mut other), "6 7 end");
}

#[test]
fn damaged_frames_are_told_whatever_the_damage() {
    let folder = tempfile::tempdir().unwrap();
    let segment = Segment::new(folder.path(), 1);
    append(&segment, &records(1..200));
    pack(&segment).unwrap();
    append(&Segment::new(folder.path(), 200), &records(200..201));
    let good = std::fs::read(segment.packed().path).unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            std::fs::write(segment.packed().path, &bad).unwrap();
            let (mut cursor, mut next, mut damaged) = (Cursor::new(folder.path(), 1), 1, false);
            let mut told = 0;
            loop {
                match cursor.next().unwrap() {
                    Step::Record { seq, .. } => {
                        assert_eq!(seq, next);
                        next += 1;
                        told += 1;
                    }
                    Step::Skipped { from, to } => {
                        assert_eq!(from, next);
                        next = to + 1;
                    }
                    Step::Damaged { .. } => damaged = true,
                    Step::End => break,
                }
            }
            // One bit of a frame's head means nothing.
            assert!(damaged || told == 200, "byte {at}, bit {bit} of {}", good.len());
            assert_eq!(next, 201);
        }
    }
}

#[test]
fn cursor_has_each_record_while_they_are_written_packed_and_closed() {
    const RECORDS: usize = 400;
    const RUNS: usize = 30;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut options = options(path);
    options.policy.segment_bytes = 16 << 10;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for _ in 0..RUNS {
                write(options.clone(), bodies(RECORDS));
            }
        });
        scope.spawn(move || {
            while !writer.is_finished() {
                for segment in closed(path).unwrap_or_default() {
                    pack(&segment).unwrap();
                }
            }
        });
        let mut cursor = Cursor::new(path, 1);
        while cursor.position() <= (RUNS * RECORDS) as u64 {
            let next = cursor.position();
            match cursor.next().unwrap() {
                Step::Record { seq, .. } => assert_eq!(seq, next),
                Step::End => assert!(cursor.wait(LONG).unwrap()),
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(segments(path).unwrap().len() >= RUNS / 2);
}

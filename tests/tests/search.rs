//! The log by the command line, without a daemon: search, tail, stats, export, changes, diff.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use taffrail::audit::archive::pack;
use taffrail::audit::segment::Segment;
use taffrail_tests::daemon::taffrail;

/// The recorded session as a log of two segments, the first of which is packed, with a checkpoint near its end.
struct Log {
    folder: tempfile::TempDir,
    lines: Vec<String>,
}

fn log() -> Log {
    let folder = tempfile::tempdir().unwrap();
    let session = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/session.ndjson");
    let mut lines: Vec<String> = Vec::new();
    for line in std::fs::read_to_string(session).unwrap().lines() {
        let members = line.strip_prefix('{').unwrap();
        // What `trace` prints of an alert has no time; the event itself follows.
        if members.starts_with("\"time\"") {
            lines.push(record(lines.len() + 1, "event", members));
        } else {
            let time = time_of(lines.last().unwrap());
            lines.push(record(lines.len() + 1, "alert", &format!("\"time\":\"{time}\",{members}")));
        }
    }
    let time = format!("\"time\":\"{END}\",\"boot_ns\":9}}");
    for kind in ["checkpoint", "stop"] {
        lines.push(record(lines.len() + 1, kind, &time));
    }
    let half = lines.len() / 2;
    for (first, part) in [(1, &lines[..half]), (half + 1, &lines[half..])] {
        std::fs::write(Segment::new(folder.path(), first as u64).path, part.concat()).unwrap();
    }
    pack(&Segment::new(folder.path(), 1)).unwrap();
    Log { folder, lines }
}

/// When the log ends: long after the session.
const END: &str = "2036-01-01T00:00:00.000000000Z";

fn time_of(line: &str) -> &str {
    line.split_once("\"time\":\"").unwrap().1.split_once('"').unwrap().0
}

fn record(seq: usize, kind: &str, rest: &str) -> String {
    format!("{{\"seq\":{seq},\"prev\":\"{}\",\"kind\":\"{kind}\",{rest}\n", "0".repeat(64))
}

impl Log {
    /// Exit code, stdout, stderr.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = taffrail(arguments);
        command.arg("--log").arg(self.folder.path());
        command
    }

    fn packed(&self) -> PathBuf {
        Segment::new(self.folder.path(), 1).packed().path
    }

    /// Lines that have a text.
    fn with(&self, text: &str) -> String {
        self.lines.iter().filter(|line| line.contains(text)).map(String::as_str).collect()
    }
}

#[test]
fn search_finds_records_byte_for_byte_and_its_exit_code_says_whether_there_are_any() {
    let log = log();
    for (arguments, text) in [
        (&["evt.kind = exit"][..], "\"kind\":\"exit\""),
        (&["--kind", "exit"], "\"kind\":\"exit\""),
        (
            &["fd.name = /usr/bin/evil and evt.kind = write"],
            "\"kind\":\"write\",\"type\":\"write\",\"result\":2,\"file\":\"/usr/bin/evil\"",
        ),
        (&["--rule", "Password hashes read"], "\"rule\":\"Password hashes read\""),
        (&["--container", "0123456789ab", "--kind", "alert"], "\"kind\":\"alert\""),
    ] {
        let (code, out, err) = log.run(&[&["audit", "search", "--json"], arguments].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        assert_eq!(out, log.with(text), "{arguments:?}");
        assert!(!out.is_empty());
    }
    let all = log.run(&["audit", "search", "--json"]).1;
    assert_eq!(all, log.lines.concat());
    let newest = log.run(&["audit", "search", "--json", "--limit", "2"]).1;
    assert_eq!(newest, log.lines.iter().rev().take(2).map(String::as_str).collect::<String>());
    let oldest = log.run(&["audit", "search", "--json", "--limit", "2", "--oldest-first"]).1;
    assert_eq!(oldest, log.lines[..2].concat());
    let since = time_of(&log.lines[20]);
    let late: String = log.lines.iter().filter(|line| time_of(line) >= since).map(String::as_str).collect();
    assert_eq!(log.run(&["audit", "search", "--json", "--since", since]).1, late);
    let early = log.run(&["audit", "search", "--json", "--until", since]).1;
    assert_eq!(early + &late, log.lines.concat());
    assert_eq!(log.run(&["audit", "search", "--since", "2037-01-01"]), (1, String::new(), String::new()));
    let (code, out, err) = log.run(&["audit", "search", "proc.aname = sh"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("error[A101]: the log does not have `proc.aname`"), "{err}");
    let (code, _, err) = log.run(&["audit", "search", "proc.cwd = /"]);
    assert!(code == 0 && err.contains("warning[A102]"), "{err}");
    assert_eq!(log.run(&["audit", "search", "--kind", "nothing"]).0, 2);
    assert_eq!(taffrail(&["audit", "search", "--log", "/nowhere"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn search_for_people_hides_nothing() {
    let log = log();
    let hostile = record(
        log.lines.len() + 1,
        "alert",
        "\"time\":\"2036-01-01T00:00:01.000000000Z\",\"rule\":\"r\\u001b[2J\",\"output\":\"a\\nb\\u202e\",\"event\":{},\"container\":null}",
    );
    let last = Segment::new(log.folder.path(), log.lines.len() as u64 / 2 + 1);
    OpenOptions::new().append(true).open(last.path).unwrap().write_all(hostile.as_bytes()).unwrap();
    let (code, out, _) = log.run(&["audit", "search"]);
    assert_eq!((code, out.lines().count()), (0, log.lines.len() + 1));
    assert!(out.chars().all(|char| char == '\n' || !char.is_control() && char != '\u{202e}'));
    assert!(out.ends_with("r\\x1b[2J: a\\nb\\u{202e}\n"), "{out}");
    assert!(out.contains("exec /bin/busybox cat /etc/shadow\n"), "{out}");
}

#[test]
fn packed_segment_is_what_zstdcat_gives_back() {
    let log = log();
    match Command::new("zstdcat").arg(log.packed()).output() {
        Ok(output) => assert!(output.stdout == log.lines[..log.lines.len() / 2].concat().as_bytes()),
        Err(error) => taffrail_tests::skip!("packed_segment_is_what_zstdcat_gives_back", "zstdcat: {error}"),
    }
}

#[test]
fn segment_that_is_damaged_is_told() {
    let log = log();
    let mut bytes = std::fs::read(log.packed()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(log.packed(), bytes).unwrap();
    let (code, out, err) = log.run(&["audit", "search", "--json"]);
    assert_eq!((code, out), (2, log.lines[log.lines.len() / 2..].concat()));
    assert!(err.contains("cannot be read as a whole"), "{err}");
}

#[test]
fn line_that_is_no_record_any_more_is_told() {
    let log = log();
    let last = Segment::new(log.folder.path(), log.lines.len() as u64 / 2 + 1);
    let text = std::fs::read_to_string(&last.path).unwrap();
    // The first exec of the open segment: a colon becomes something else.
    let damaged = text.replacen("\"event\":{\"kind\":\"exec\"", "\"event\";{\"kind\":\"exec\"", 1);
    assert_ne!(text, damaged);
    std::fs::write(&last.path, damaged).unwrap();
    let (code, _, err) = log.run(&["audit", "search", "--json", "--kind", "exec"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("1 lines are no records"), "{err}");
}

#[test]
fn tail_shows_the_end_and_what_is_written_then() {
    let log = log();
    let mut child = log
        .command(&[
            "audit", "tail", "--json", "--lines", "1", "--kind", "exec", "--kind", "stop", "--kind", "start",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        line
    };
    let count = log.lines.len();
    assert_eq!(next(), log.lines[count - 1]);
    let last = Segment::new(log.folder.path(), count as u64 / 2 + 1);
    let append = |segment: &Segment, text: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(&segment.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let time = "\"time\":\"2036-01-01T00:00:01.000000000Z\"}";
    append(&last, &(record(count + 1, "start", time) + &record(count + 2, "gap", time)));
    assert_eq!(next(), record(count + 1, "start", time));
    append(&Segment::new(log.folder.path(), count as u64 + 3), &record(count + 3, "start", time));
    assert_eq!(next(), record(count + 3, "start", time));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn stats_add_up() {
    let log = log();
    let (code, out, _) = log.run(&["audit", "stats", "--json"]);
    let stats: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(stats["records"], log.lines.len());
    assert_eq!(stats["bytes"], log.lines.concat().len());
    assert_eq!((&stats["first_seq"], &stats["missing"]), (&1.into(), &0.into()));
    let sum = |list: &Value| {
        list.as_array().unwrap().iter().map(|item| item["records"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(sum(&stats["kinds"]), log.lines.len() as u64);
    assert_eq!(sum(&stats["events"]), log.lines.len() as u64 - 2);
    assert_eq!(sum(&stats["rules"]), 6);
    assert_eq!(log.run(&["audit", "stats", "--kind", "gap"]).0, 1);
    assert!(log.run(&["audit", "stats"]).1.contains("rules                2 "));
}

#[test]
fn export_is_a_range_without_holes_up_to_a_checkpoint() {
    let log = log();
    let count = log.lines.len();
    let (code, out, _) = log.run(&["audit", "export", "--from", "3", "--to", "9"]);
    assert_eq!((code, out), (0, log.lines[2..count - 1].concat()));
    let file = log.folder.path().join("out");
    let path = file.to_str().unwrap();
    let since = time_of(&log.lines[30]);
    let (code, out, _) = log.run(&["audit", "export", "--since", since, "--output", path]);
    assert_eq!((code, out.as_str()), (0, ""));
    let exported = std::fs::read_to_string(&file).unwrap();
    assert!(log.lines.concat().ends_with(&exported) && !exported.is_empty());
    // A file that is there already is left alone.
    assert_eq!(log.run(&["audit", "export", "--output", path]).0, 2);
    assert_eq!(log.run(&["audit", "export", "--from", "1000"]).0, 1);
    std::fs::remove_file(log.packed()).unwrap();
    assert_eq!(log.run(&["audit", "export", "--from", "3", "--to", "40"]).0, 2);
}

#[test]
fn changes_are_those_that_the_session_made() {
    let log = log();
    let (code, out, err) = log.run(&["changes", "--container", "0123456789ab", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let mut told = String::new();
    for line in out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let how: Vec<_> = line["how"].as_array().unwrap().iter().map(|how| how.as_str().unwrap()).collect();
        writeln!(
            told,
            "{} {} ({})",
            line["sort"].as_str().unwrap(),
            line["what"].as_str().unwrap(),
            how.join(", ")
        )
        .unwrap();
    }
    assert_eq!(told, CHANGES);
    let (code, out, _) = log.run(&["changes", "--container", "0123456789ab"]);
    assert!(code == 0 && out.contains("program (2)\n") && out.contains("/tmp/true\n"), "{out}");
    assert_eq!(log.run(&["changes", "--container", "feedfeed"]).0, 1);
}

// The session ran in a machine all of whose files are in memory.
const CHANGES: &str = "\
program /bin/busybox (in memory)
program /tmp/true (in memory, written before)
file /tmp/true (emptied, written)
file /usr/bin/evil (emptied, written)
";

#[test]
fn difference_of_two_times_is_told_both_ways() {
    let log = log();
    let is_start =
        |line: &&String| line.contains("\"kind\":\"exec\"") && line.contains("\"exe\":\"/tmp/true\"");
    let middle = time_of(log.lines.iter().find(is_start).unwrap());
    let (before, after) = (format!("2026-01-01..{middle}"), format!("{middle}..2036-01-01"));
    let windows = ["--before", before.as_str(), "--after", after.as_str()];
    let (code, out, _) =
        log.run(&[&["diff", "--container", "0123456789ab", "--json"], &windows[..]].concat());
    assert_eq!(code, 0);
    let differences: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let has = |change: &str, sort: &str, what: &str| {
        differences
            .iter()
            .any(|line| line["change"] == change && line["sort"] == sort && line["what"] == what)
    };
    assert!(has("new", "program", "/tmp/true"), "{out}");
    assert!(has("new", "file", "/usr/bin/evil"), "{out}");
    assert!(!has("new", "program", "/bin/busybox"), "{out}");
    assert_eq!(log.run(&[&["diff", "--container", "feedfeed"], &windows[..]].concat()).0, 1);
    assert_eq!(log.run(&["diff", "--before", "1h..2h", "--after", "2h..1h"]).0, 2);
}

//! The command line without root: what goes to stdout, what to stderr, and the exit codes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::process::Stdio;

use taffrail_tests::daemon::taffrail;

/// Exit code, stdout, stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = taffrail(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn shipped_rules_are_valid_and_listed() {
    let (code, out, err) = run(&["rules", "check"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("rules are valid, 0 of"), "{out}");
    let (code, out, _) = run(&["rules", "list", "--json"]);
    assert_eq!(code, 0);
    let rules: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rules.len() >= 10);
    assert!(rules.iter().all(|rule| {
        rule["tags"].as_array().unwrap().iter().any(|tag| tag.as_str().unwrap().starts_with('T'))
    }));
}

#[test]
fn broken_rules_from_standard_input_are_told_with_their_place() {
    let mut child = taffrail(&["rules", "check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let rule = "- rule: r\n  desc: d\n  condition: proc.pid = root\n  output: o\n  priority: INFO\n";
    child.stdin.take().unwrap().write_all(rule.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("error[R203]") && err.contains("<stdin>:3:25"), "{err}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1 errors, 0 warnings\n");
}

#[test]
fn exit_codes_tell_no_from_could_not() {
    for (arguments, code) in [
        (vec!["rules", "check", "/never/there"], 2),
        (vec!["trace", "--filter", "proc.nmae = x", "--replay", "/never/there"], 1),
        (vec!["trace", "--replay", "/never/there"], 2),
        (vec!["audit", "verify", "/never/there"], 3),
        (vec!["audit", "verify", "/", "--expect-head", "xyz"], 2),
        (vec!["config", "check", "-o", "a=b"], 1),
        (vec!["config", "check", "--config", "/never/there"], 2),
        (vec!["nonsense"], 2),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
    ] {
        let (found, out, err) = run(&arguments);
        assert_eq!(found, code, "{arguments:?}\n{out}\n{err}");
        assert!(code == 0 || !err.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn settings_that_are_printed_are_settings_that_are_taken() {
    let (code, out, _) = run(&["config", "check", "-o", "log.dir=/tmp/x"]);
    assert_eq!(code, 0);
    assert!(out.contains("dir: \"/tmp/x\""), "{out}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &out).unwrap();
    assert_eq!(run(&["config", "check", "--config", file.path().to_str().unwrap()]), (0, out, String::new()));
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("taffrail") && out.contains("doctor"), "{shell}");
    }
}

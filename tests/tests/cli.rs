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
fn sigma_rules_of_a_folder_are_checked_and_imported_once() {
    let folder = tempfile::tempdir().unwrap();
    let rule = |title: &str, product: &str| {
        format!(
            "title: {title}\nauthor: A. Author\nlogsource: {{product: {product}, category: process_creation}}\n\
             detection:\n  s: {{Image|endswith: /sh}}\n  condition: s\n"
        )
    };
    let inner = folder.path().join("linux");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("a.yml"), rule("A", "linux")).unwrap();
    std::fs::write(folder.path().join("b.yml"), rule("B", "windows")).unwrap();
    let imported = folder.path().join("imported.yaml");
    let (path, imported) = (folder.path().to_str().unwrap(), imported.to_str().unwrap());
    let (code, out, err) = run(&["rules", "check", path]);
    assert_eq!(
        (code, out.as_str()),
        (0, "1 rules are valid, 1 were left out, 0 of 0 examples failed\n"),
        "{err}"
    );
    assert!(err.contains("warning[S201]: rule `B` is left out"), "{err}");
    let (code, out, _) = run(&["rules", "import", path, "-o", imported]);
    assert_eq!((code, out.as_str()), (0, ""));
    // A file that is there already is left alone.
    assert_eq!(run(&["rules", "import", path, "-o", imported]).0, 2);
    let (code, out, err) = run(&["rules", "list", imported, "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["rule"], "A");
    assert_eq!(run(&["rules", "import"]).0, 2);
}

#[test]
fn rule_is_explained_with_its_whole_condition_its_fields_and_its_probes() {
    let (code, out, err) = run(&["rules", "explain", "Kernel setting for escape written", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let condition = told["condition"].as_str().unwrap();
    assert!(condition.starts_with("evt.kind = open and evt.is_open_write = true"), "{condition}");
    assert_eq!(told["kernel"]["kinds"], serde_json::json!(["open"]));
    assert!(told["fields"].as_array().unwrap().iter().any(|field| field == "fd.name"));
    assert!(told["probes"].as_array().unwrap().iter().any(|probe| probe["probe"] == "open"), "{out}");
    let (code, out, err) = run(&["rules", "explain", "Kernel setting for escape writen"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("did you mean `Kernel setting for escape written`?"), "{err}");
}

#[test]
fn examples_that_fail_are_told_as_text_and_for_ci_systems() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rule = "- rule: r <&>\n  desc: d\n  condition: evt.kind = exec and proc.name = x\n  output: o\n  priority: INFO\n  \
                tests:\n    - {event: {evt.kind: exec, proc.name: x}, match: true}\n    \
                - {event: {evt.kind: exec, proc.name: y}, match: true}\n";
    std::fs::write(file.path(), rule).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, out, _) = run(&["rules", "test", path]);
    assert_eq!(code, 1);
    assert_eq!(out, "FAILED  rule `r <&>`, example 2: should match, but does not\n1 of 2 examples failed\n");
    let (code, out, _) = run(&["rules", "test", path, "--format", "junit"]);
    assert_eq!(code, 1);
    assert!(out.contains("name=\"r &lt;&amp;&gt;\" tests=\"2\"") && out.contains("failures=\"1\""), "{out}");
    let (code, out, _) = run(&["rules", "check", path, "--format", "sarif"]);
    assert_eq!(code, 1);
    let sarif: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "example");
    std::fs::write(file.path(), rule.replace("proc.name = x", "proc.nmae = x")).unwrap();
    let (code, out, _) = run(&["rules", "check", path, "--format", "sarif"]);
    assert_eq!(code, 1);
    let sarif: serde_json::Value = serde_json::from_str(&out).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    let region = &result["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        (&result["ruleId"], &region["startLine"], &region["startColumn"]),
        (&"R201".into(), &3.into(), &34.into())
    );
}

#[test]
fn rules_are_matched_against_a_recording() {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/data/session.recording");
    let (code, out, err) = run(&["rules", "test", "--recording", recording, "--format", "json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let matches = |rule: &str| {
        let lines = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["rule"] == rule).map(|line| line["matches"].as_u64().unwrap()).sum::<u64>()
    };
    let (rule, other) =
        ("Cloud metadata service contacted by hand", "Package installed in a running container");
    assert!(matches(rule) > 0, "{out}");
    let test = |more: &[&str]| run(&[&["rules", "test", "--recording", recording], more].concat()).0;
    assert_eq!(test(&["--expect", rule]), 0);
    assert_eq!(test(&["--expect", rule, "--nothing-else"]), 1);
    assert_eq!(test(&["--expect", rule, "--nothing-else", "--rule", rule]), 0);
    assert_eq!(matches(other), 0);
    assert_eq!(test(&["--expect", other]), 1);
}

#[test]
fn fields_are_listed_by_a_part_of_their_name() {
    let (code, out, _) = run(&["rules", "fields", "dns.question", "--json"]);
    assert_eq!((code, out.lines().count()), (0, 2), "{out}");
    assert_eq!(run(&["rules", "fields", "no.such"]).0, 1);
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

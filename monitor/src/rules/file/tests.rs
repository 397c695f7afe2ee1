//! Files as people write them, and what their rules do. What a rule does is said by examples in the file.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity, Source, render};
use crate::rules::{RuleSet, run_examples};

fn load(files: &[&str]) -> Result<(RuleSet, Vec<Diagnostic>), Vec<Diagnostic>> {
    let source = |(number, text): (usize, &&str)| {
        Arc::new(Source { name: format!("{number}.yaml"), text: (*text).to_owned() })
    };
    RuleSet::load(&files.iter().enumerate().map(source).collect::<Vec<_>>())
}

/// Loads files without an error, and sees that all examples come out as they say.
fn right(files: &[&str]) -> RuleSet {
    let (set, _) = load(files).unwrap_or_else(|found| panic!("{}", render(&found, false)));
    let examples: usize = set.rules.iter().map(|rule| rule.example_counts()).map(|(a, b)| a + b).sum();
    assert!(examples > 0, "nothing is shown");
    let failed: Vec<_> = run_examples(&set).into_iter().filter(|outcome| !outcome.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    set
}

/// The codes of what is wrong or odd with files, in order.
fn codes(files: &[&str]) -> Vec<&'static str> {
    let (Ok((_, found)) | Err(found)) = load(files);
    found.iter().map(|one| one.code).collect()
}

const RULE: &str = "
- rule: r
  desc: d
  condition: evt.kind = exec and proc.name in (sh, bash, python)
  output: o
  priority: INFO
";

#[test]
fn exceptions_of_all_shapes_silence_their_rule() {
    right(&["
- list: apt_files
  items: [/bin/ls, /bin/rm]

- rule: r
  desc: d
  condition: evt.kind = open or evt.kind = exec
  output: o
  priority: INFO
  exceptions:
    - name: rows
      fields: [proc.name, fd.directory]
      comps: [=, startswith]
      values:
        - [yum, /usr/bin]
        - [\"my apt\", /usr/local]
    - name: equal by default
      fields: [proc.name, fd.name]
      values: [[cat, /etc/motd]]
    - name: lists within
      fields: [proc.name, fd.name]
      comps: [=, in]
      values:
        - [dpkg, [/usr/bin/a, apt_files]]
        - [rpm, apt_files]
        - [dnf, '(/x, \"/y z\")']
    - name: one field
      fields: fd.filename
      values: [python, \"go lang\", '\"quoted twice\"']
    - name: nothing yet
      fields: [proc.cmdline]
      comps: [startswith]
  tests:
    - {event: {evt.kind: open}, match: true}
    - {event: {evt.kind: open, proc.name: yum, fd.directory: /usr/bin/x}, match: false}
    - {event: {evt.kind: exec, proc.name: my apt, fd.directory: /usr/local}, match: false}
    - {event: {evt.kind: open, proc.name: yum, fd.directory: /usr/local}, match: true}
    - {event: {evt.kind: open, proc.name: cat, fd.name: /etc/motd}, match: false}
    - {event: {evt.kind: open, proc.name: dpkg, fd.name: /usr/bin/a}, match: false}
    - {event: {evt.kind: open, proc.name: dpkg, fd.name: /bin/rm}, match: false}
    - {event: {evt.kind: open, proc.name: dpkg, fd.name: apt_files}, match: true}
    - {event: {evt.kind: open, proc.name: rpm, fd.name: /bin/ls}, match: false}
    - {event: {evt.kind: open, proc.name: dnf, fd.name: /y z}, match: false}
    - {event: {evt.kind: open, proc.name: dnf, fd.name: /x}, match: false}
    - {event: {evt.kind: open, fd.filename: python}, match: false}
    - {event: {evt.kind: open, fd.filename: go lang}, match: false}
    - {event: {evt.kind: open, fd.filename: quoted twice}, match: false}
"]);
}

#[test]
fn values_of_exceptions_are_added_by_later_entries_also_of_lists_behind() {
    let later = "
- rule: r
  exceptions:
    - {name: files, values: [[apk, /lib], [npm, [node_files]]]}
    - {name: new, fields: proc.pname, values: [init]}
  append: true

- rule: r
  exceptions: [{name: new, values: [cron]}]
  tests:
    - {event: {evt.kind: exec, proc.name: sh}, match: true}
    - {event: {evt.kind: exec, proc.name: sh, proc.pname: init}, match: false}
    - {event: {evt.kind: exec, proc.name: sh, proc.pname: cron}, match: false}
    - {event: {evt.kind: exec, proc.name: sh, proc.exe: npm, proc.cwd: /a}, match: false}
    - {event: {evt.kind: exec, proc.name: sh, proc.exe: apk, proc.cwd: /lib}, match: false}
    - {event: {evt.kind: exec, proc.name: sh, proc.exe: apk, proc.cwd: /a}, match: true}
  override: {exceptions: append, tests: append}

- list: node_files
  items: [/a, /b]
";
    let first =
        format!("{RULE}  exceptions: [{{name: files, fields: [proc.exe, proc.cwd], comps: [=, in]}}]\n");
    right(&[&first, later]);
    let replaced = "
- rule: r
  exceptions: [{name: files, fields: proc.pname, values: [cron]}]
  tests:
    - {event: {evt.kind: exec, proc.name: sh, proc.exe: apk, proc.cwd: /lib}, match: true}
    - {event: {evt.kind: exec, proc.name: sh, proc.pname: cron}, match: false}
  override: {exceptions: replace, tests: replace}
";
    right(&[&first, later, replaced]);
}

#[test]
fn mistake_in_an_exception_is_shown_where_it_is() {
    for (exception, place) in [
        ("{name: a, fields: [proc.nmae], values: [[x]]}", "proc.nmae"),
        ("{name: a, fields: [proc.pid], values: [[7], [root]]}", "root"),
        ("{name: a, fields: [proc.pid], comps: [contains], values: [[7]]}", "contains"),
        ("{name: a, fields: [proc.name, proc.exe], comps: [=, lik], values: []}", "lik"),
        ("{name: a, fields: [proc.name, proc.exe], values: [[only]]}", "[only"),
    ] {
        let text = format!("{RULE}  exceptions: [{exception}]\n");
        let (Ok((_, found)) | Err(found)) = load(&[&text]);
        let [found] = found.as_slice() else { panic!("{found:#?}") };
        let shown = &text[found.labels[0].span.range.clone()];
        assert!(shown == place, "{exception}: {shown}");
    }
}

#[test]
fn keys_are_appended_to_and_replaced_one_by_one() {
    let set = right(&[
        RULE,
        "
- rule: r
  condition: and proc.pname = cron or proc.name = zsh
  output: more (%proc.name)
  desc: and so on
  tags: [T1, T2]
  override: {condition: append, output: append, desc: append, tags: append}
",
        "
- rule: r
  priority: ERROR
  enabled: false
  tags: [T2, T3]
  warn_evttypes: false
  skip-if-unknown-filter: true
  capture: true
  capture_duration: 500
  tests:
    - {event: {evt.kind: exec, proc.name: sh}, match: false}
    - {event: {evt.kind: exec, proc.name: sh, proc.pname: cron}, match: true}
    - {event: {evt.kind: open, proc.name: zsh}, match: true}
  override: {priority: replace, enabled: replace, tags: append, warn_evttypes: replace, capture: replace,
    capture_duration: replace, skip-if-unknown-filter: replace, tests: append}
",
    ]);
    let [rule] = set.rules.as_slice() else { panic!("{} rules", set.rules.len()) };
    assert_eq!(rule.desc, "d and so on");
    assert_eq!(rule.tags, ["T1", "T2", "T3"]);
    assert_eq!(rule.priority.name(), "Error");
    assert!(!rule.enabled);
}

#[test]
fn macros_and_lists_are_changed_in_the_order_of_the_files() {
    let first = "
- list: shells
  items: [sh, bash]
- macro: shell
  condition: proc.name in (shells)
- rule: r
  desc: d
  condition: evt.kind = exec and (shell)
  output: o
  priority: INFO
";
    let tests = |sh: bool, zsh: bool, fish: bool| {
        format!(
            "
- rule: r
  tests:
    - {{event: {{evt.kind: exec, proc.name: sh}}, match: {sh}}}
    - {{event: {{evt.kind: exec, proc.name: zsh}}, match: {zsh}}}
    - {{event: {{evt.kind: exec, proc.name: fish}}, match: {fish}}}
  override: {{tests: replace}}
"
        )
    };
    let append = "
- list: shells
  items: [zsh]
  override: {items: append}
- macro: shell
  append: true
  condition: or proc.name = fish
";
    let replace = "
- list: shells
  items: [zsh]
  override: {items: replace}
- macro: shell
  condition: proc.name in (shells) and not proc.name = fish
";
    right(&[first, append, &tests(true, true, true)]);
    right(&[first, append, replace, &tests(false, true, false)]);
    right(&[first, replace, append, &tests(false, true, true)]);
    assert_eq!(codes(&[append, first]), ["R318", "R318"]);
    assert_eq!(codes(&[first, "- list: shells\n  items: [zsh]\n"]), ["R307"]);
}

#[test]
fn redefined_rule_has_nothing_of_the_earlier_one() {
    let set = right(&[
        &format!("{RULE}  tags: [T1]\n  exceptions: [{{name: a, fields: proc.name, values: [sh]}}]\n"),
        "- rule: other\n  desc: d\n  condition: evt.kind = open\n  output: o\n  priority: INFO\n",
        &format!("{RULE}  tests: [{{event: {{evt.kind: exec, proc.name: sh}}, match: true}}]\n"),
        "- rule: r\n  enabled: false\n",
    ]);
    let names: Vec<_> =
        set.rules.iter().map(|rule| (rule.name.as_str(), rule.tags.len(), rule.enabled)).collect();
    assert_eq!(names, [("r", 0, false), ("other", 0, true)]);
}

#[test]
fn nothing_more_is_said_of_a_broken_definition() {
    let broken = RULE.replace("exec and", "exec andd");
    assert_eq!(codes(&[&broken, "- rule: r\n  enabled: false\n"]), ["R102"]);
    assert_eq!(codes(&[RULE, "- rule: r\n  condition: and (\n  override: {condition: append}\n"]), ["R102"]);
    // Whoever uses a macro with an error in it has none.
    let broken = "- macro: m\n  condition: proc.name = x\n- macro: m\n  condition: and (\n  append: true\n";
    assert_eq!(codes(&[broken, &RULE.replace("condition: ", "condition: m and ")]), ["R102"]);
}

#[test]
fn rule_of_another_source_is_left_out_with_all_that_changes_it() {
    let other = RULE.replace("desc: d", "desc: d\n  source: k8s_audit").replace("evt.kind", "ka.verb");
    let change = "- rule: r\n  condition: and ka.x = y\n  override: {condition: append}\n";
    let (set, found) = load(&[&other, change]).unwrap();
    assert_eq!(set.rules.len(), 0);
    assert_eq!(
        found.iter().map(|one| (one.code, one.severity)).collect::<Vec<_>>(),
        [("R309", Severity::Warning)]
    );
}

#[test]
fn any_file_is_rules_or_diagnostics_never_a_panic() {
    let seed = format!(
        "{RULE}  exceptions: [{{name: a, fields: [proc.name], comps: [in], values: [[[a, '(b, c)']]]}}]\n\
         - rule: r\n  exceptions: [{{name: a, values: [x]}}]\n  condition: or m\n  override: {{exceptions: append, condition: append}}\n\
         - macro: m\n  condition: proc.name in (l)\n- list: l\n  items: [a, b]\n  append: true\n- required_engine_version: 0.1.0\n"
    );
    let mut state = 7u64;
    for _ in 0..4_000 {
        let mut text: Vec<char> = seed.chars().collect();
        for _ in 0..4 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (state >> 33) as usize % text.len();
            text[at] =
                ['\n', '"', '{', '}', '[', ']', 'ü', ':', ' ', '(', '\'', '-'][(state >> 20) as usize % 12];
        }
        let text: String = text.into_iter().collect();
        if let Err(found) = load(&[&text]) {
            assert!(!render(&found, false).is_empty());
        }
    }
}

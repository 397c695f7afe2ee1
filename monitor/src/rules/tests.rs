//! Rule sets as they are loaded: order, overrides, digests, and conditions against events.

use super::*;

fn codes(text: &str) -> Vec<&'static str> {
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text: text.to_owned() });
    let mut codes: Vec<_> = match RuleSet::load(&[source]) {
        Ok((_, diagnostics)) | Err(diagnostics) => diagnostics.iter().map(|found| found.code).collect(),
    };
    // Most conditions here are about one thing only; `rule_that_is_about_all_events_is_told` is about that.
    codes.retain(|code| *code != "R218");
    codes.sort_unstable();
    codes
}

fn rule(condition: &str) -> String {
    format!("- rule: r\n  desc: d\n  condition: {condition}\n  output: o\n  priority: WARNING\n")
}

#[test]
fn each_mistake_has_its_code_and_the_right_form_has_none() {
    let r = rule;
    let e = |exceptions: &str| format!("{}  exceptions: [{exceptions}]\n", r("proc.name = x"));
    let change = |value: &str, action: &str| {
        let action = action.trim_matches(['{', '}']);
        format!("{}- rule: r\n  {value}\n  override: {{{action}}}\n", r("proc.name = x"))
    };
    for (wrong, code, right) in [
        (r("proc.nmae = x"), "R201", r("proc.name = x")),
        (r("no_macro"), "R202", format!("- macro: no_macro\n  condition: proc.name = x\n{}", r("no_macro"))),
        (r("proc.pid = root"), "R203", r("proc.pid = 1")),
        (r("evt.failed = 1"), "R203", r("evt.failed = true")),
        (r("fd.rip = example"), "R203", r("fd.rip = 10.0.0.0/8")),
        (
            format!("- macro: a\n  condition: a\n{}", r("a")),
            "R204",
            format!("- macro: a\n  condition: proc.name = x\n{}", r("a")),
        ),
        (
            format!("- list: a\n  items: [a]\n{}", r("proc.name in (a)")),
            "R204",
            format!("- list: a\n  items: [b]\n{}", r("proc.name in (a)")),
        ),
        (r("proc.name in (xs)"), "", format!("- list: xs\n  items: [x]\n{}", r("proc.name = xs"))),
        (r("proc.name[1] = x"), "R206", r("proc.aname[1] = x")),
        (r("proc.aname[x] = x"), "R206", r("evt.arg[flags] = x")),
        (r("proc.pid contains 1"), "R207", r("text(proc.pid) contains 1")),
        (r("fd.rip > 10.0.0.1"), "R207", r("fd.num > 1")),
        (
            format!("- list: xs\n  items: [x, y]\n{}", r("proc.name = xs")),
            "R208",
            format!("- list: xs\n  items: [x, y]\n{}", r("proc.name = \"xs\"")),
        ),
        (r("tolwer(proc.name) = x"), "R209", r("tolower(proc.name) = x")),
        (r("tolower(proc.pid) = 1"), "R210", r("tolower(text(proc.pid)) = 1")),
        (r("tolower(proc.name, proc.exe) = 1"), "R210", r("concat(proc.name, proc.exe) = 1")),
        (r("concat(proc.name) = 1"), "R210", r("concat(proc.name, x) = 1")),
        (r("concat(proc.name, proc.aname) = 1"), "R210", r("concat(proc.name, proc.aname[1]) = 1")),
        (r("join(proc.arg, x) = 1"), "R210", r("join(x, proc.arg) = 1")),
        (r("join(x, proc.name) = 1"), "R210", r("join(x, (proc.name, proc.pid)) = 1")),
        (r("getopt(proc.name, x) = 1"), "R210", r("getopt(proc.args, x) intersects (1)")),
        (r("getopt(proc.arg, x)[xy] = 1"), "R210", r("getopt(proc.arg, x)[x] = 1")),
        (r("proc.name = val(proc.pid)"), "R211", r("text(proc.pid) = val(proc.name)")),
        (r("proc.name regex val(proc.pname)"), "R211", r("proc.name contains val(proc.pname)")),
        (r("proc.name regex \"(\""), "R212", r("proc.name regex \"a+\"")),
        (r("proc.name regex \"((a{200}){200}){9}\""), "R212", r("proc.name regex \"a{200}\"")),
        (r("evt.type in (openat, ptraze)"), "R213", r("evt.type in (openat, ptrace)")),
        (r("proc.name = sixteen-letters-"), "R214", r("proc.name = fifteen-letters")),
        (r("proc.name in (sixteen-letters-)"), "R214", r("proc.name startswith sixteen-letters-")),
        (r("fd.name = \"\""), "R214", r("not fd.name exists")),
        (
            r("proc.name = x and (proc.pid = 1 and proc.name = y)"),
            "R214",
            r("proc.name = x or proc.name = y"),
        ),
        (r("proc.name in (a, b) and proc.name = c"), "R214", r("proc.name in (a, b) and proc.name = a")),
        (r("evt.dir = >"), "R214", r("evt.dir = <")),
        (r("fd.num = 1.5"), "R214", r("fd.num > 1.5")),
        (r("fd.name regex \"\""), "R214", r("fd.name regex x*")),
        (r("fd.name contains \"\""), "R215", r("fd.name contains x")),
        (r("fd.name glob *"), "R215", r("fd.name glob /*")),
        (r("proc.args > 5"), "R216", r("len(proc.args) > 5")),
        (r("not proc.env[HOME] exists"), "R217", r("not proc.cwd exists")),
        ("a: b\n".to_owned(), "R301", r("proc.name = x")),
        ("- desc: d\n".to_owned(), "R302", r("proc.name = x")),
        (format!("{}  desk: x\n", r("proc.name = x")), "R303", r("proc.name = x")),
        (
            "- rule: r\n  desc: d\n  condition: evt.kind = exec\n  priority: INFO\n".to_owned(),
            "R304",
            r("proc.name = x"),
        ),
        (
            format!("{}  enabled: maybe\n", r("proc.name = x")),
            "R305",
            format!("{}  enabled: false\n", r("proc.name = x")),
        ),
        (r("proc.name = x").replace("WARNING", "BAD"), "R306", r("proc.name = x").replace("WARNING", "info")),
        (format!("{}{}", r("proc.name = x"), r("proc.name = y")), "R307", r("proc.name = x")),
        (
            r("proc.name = x").replace("desc: d", "desc: d\n  source: k8s_audit"),
            "R309",
            r("proc.name = x").replace("desc: d", "desc: d\n  source: syscall"),
        ),
        (r("evt.kind = exec and evt.kind = open"), "R308", r("evt.kind = exec and proc.name = x")),
        (r("evt.type = ptraze"), "R213 R308", r("evt.type = openat")),
        (
            format!("{}  tests: [{{event: {{proc.nam: x}}, match: true}}]\n", r("proc.name = x")),
            "R201",
            format!("{}  tests: [{{event: {{proc.name: x}}, match: true}}]\n", r("proc.name = x")),
        ),
        (
            format!("{}  tests: [{{event: {{proc.pid: x}}, match: true}}]\n", r("proc.pid = 1")),
            "R203",
            format!("{}  tests: [{{event: {{proc.pid: 1}}, match: true}}]\n", r("proc.pid = 1")),
        ),
        (
            format!("{}  tests: [{{event: {{proc.pid: 1}}}}]\n", r("proc.pid = 1")),
            "R304",
            format!("{}  tests: []\n", r("proc.pid = 1")),
        ),
        (
            r("proc.name = x").replace("output: o", "output: o %proc.nam"),
            "R201",
            r("proc.name = x").replace("output: o", "output: o %proc.name."),
        ),
        (
            "- required_engine_version: 0.99.0\n".to_owned(),
            "R310",
            "- required_engine_version: 0.57.0\n".to_owned(),
        ),
        ("- required_engine_version: new\n".to_owned(), "R310", "- required_engine_version: 57\n".to_owned()),
        (
            e("{name: a, fields: [proc.name], comps: [like], values: [[x]]}"),
            "R311",
            e("{name: a, fields: [proc.name], comps: [glob], values: [[x]]}"),
        ),
        (
            e("{name: a, fields: proc.name, comps: glob, values: [x]}"),
            "R311",
            e("{name: a, fields: proc.name, comps: in, values: [x]}"),
        ),
        (
            e("{name: a, fields: [proc.name, proc.exe], comps: [in], values: [[x, y]]}"),
            "R312",
            e("{name: a, fields: [proc.name, proc.exe], comps: [in, =], values: [[x, y]]}"),
        ),
        (
            e("{name: a, fields: [proc.name, proc.exe], values: [[x]]}"),
            "R313",
            e("{name: a, fields: [proc.name, proc.exe], values: [[x, y]]}"),
        ),
        (
            e("{name: a, fields: [proc.name], values: [[[x, y]]]}"),
            "R305",
            e("{name: a, fields: [proc.name], comps: [in], values: [[[x, y]]]}"),
        ),
        (
            e("{name: a, fields: proc.name}, {name: a, values: [x]}"),
            "R314",
            e("{name: a, fields: proc.name}, {name: b, fields: proc.exe, values: [x]}"),
        ),
        (
            format!(
                "{}- rule: r\n  exceptions: [{{name: a, fields: proc.exe, values: [x]}}]\n  append: true\n",
                e("{name: a, fields: proc.name}")
            ),
            "R314",
            format!(
                "{}- rule: r\n  exceptions: [{{name: a, values: [x]}}]\n  append: true\n",
                e("{name: a, fields: proc.name}")
            ),
        ),
        (e("{name: a, values: [x]}"), "R304", e("{name: a, fields: proc.exe, values: [x]}")),
        (e("{name: a, field: proc.exe, fields: proc.exe}"), "R303", e("{name: a, fields: proc.exe}")),
        (change("priority: INFO", "priority: append"), "R315", change("priority: INFO", "priority: replace")),
        (change("output: x", "output: prepend"), "R315", change("output: x", "output: append")),
        (change("output: x", "{}"), "R316", change("output: x", "output: replace")),
        (change("output: x", "output: append, desc: append"), "R316", change("output: x", "output: append")),
        (change("output: x", "outptu: append"), "R303", change("output: x", "output: append")),
        (
            format!(
                "{}- rule: r\n  condition: and proc.pname = y\n  output: x\n  append: true\n",
                r("proc.name = x")
            ),
            "R317",
            format!("{}- rule: r\n  condition: and proc.pname = y\n  append: true\n", r("proc.name = x")),
        ),
        (
            change("enabled: false", "enabled: replace").replacen("rule: r", "rule: rr", 1),
            "R318",
            change("enabled: false", "enabled: replace"),
        ),
        (
            format!("{}- rule: s\n  enabled: false\n", r("proc.name = x")),
            "R318",
            format!("{}- rule: r\n  enabled: false\n", r("proc.name = x")),
        ),
        (
            "- macro: a\n  condition: b\n- macro: b\n  condition: proc.name = x\n".to_owned(),
            "R319",
            "- macro: b\n  condition: proc.name = x\n- macro: a\n  condition: b\n".to_owned(),
        ),
        (
            "- list: a\n  items: [b]\n- list: b\n  items: [x]\n".to_owned(),
            "R319",
            "- list: b\n  items: [x]\n- list: a\n  items: [b]\n".to_owned(),
        ),
        (
            r("proc.name = x and fd.types contains ipv4"),
            "R320",
            r("proc.name = x and (not fd.types contains ipv4 or fd.name = x)"),
        ),
        (
            "- required_plugin_versions: [{name: json, version: 0.1.0}]\n".to_owned(),
            "R321",
            "- required_plugin_versions: [{name: container, version: 0.4.0}]\n".to_owned(),
        ),
        (
            format!("{}  skip-if-unknown-filter: true\n", r("proc.new_field = x")),
            "R323",
            format!("{}  skip-if-unknown-filter: true\n", r("proc.name = x")),
        ),
        (
            "- macro: a-b\n  condition: proc.name = x\n".to_owned(),
            "R324",
            "- macro: a_b\n  condition: proc.name = x\n".to_owned(),
        ),
        ("- list: a b\n  items: [x]\n".to_owned(), "R324", "- list: a-b\n  items: [x]\n".to_owned()),
    ] {
        assert_eq!(codes(&wrong).join(" "), code, "{wrong}");
        assert_eq!(codes(&right), [""; 0], "{right}");
    }
}

#[test]
fn all_errors_of_all_files_are_told_in_one_run() {
    let text = format!("{}{}", rule("a.b = 1 and c.d = 2"), rule("(").replace(": r\n", ": q\n"));
    let source = |name: &str| Arc::new(Source { name: name.to_owned(), text: text.clone() });
    let diagnostics = RuleSet::load(&[source("a.yaml"), source("b.yaml")]).unwrap_err();
    let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
    // The second file's rules replace the first's, but both files' syntax errors are told.
    assert!(errors >= 4, "{diagnostics:#?}");
}

#[test]
fn macros_that_grow_without_end_are_refused_in_no_time() {
    let chain: String = (1..3_000).map(|n| format!("- macro: m{n}\n  condition: m{}\n", n - 1)).collect();
    let doubling: String =
        (1..40).map(|n| format!("- macro: m{n}\n  condition: m{0} and m{0}\n", n - 1)).collect();
    for (macros, last) in [(chain, 2_999), (doubling, 39)] {
        let text = format!("- macro: m0\n  condition: proc.name = x\n{macros}{}", rule(&format!("m{last}")));
        assert!(codes(&text).contains(&"R205"));
    }
}

#[test]
fn rule_that_is_about_all_events_is_told() {
    for (condition, told) in [
        ("proc.name = x", true),
        ("proc.name = x or evt.kind = exec", true),
        ("proc.name = x and evt.kind = exec", false),
        ("fd.links > 1", false),
    ] {
        let source = Arc::new(Source { name: "t.yaml".to_owned(), text: rule(condition) });
        let (_, warnings) = RuleSet::load(&[source]).unwrap();
        assert_eq!(warnings.iter().any(|found| found.code == "R218"), told, "{condition}");
    }
    let text = format!("{}  warn_evttypes: false\n", rule("proc.name = x"));
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text });
    assert_eq!(RuleSet::load(&[source]).unwrap().1, []);
}

#[test]
fn values_of_a_list_are_told_with_the_list_and_its_use() {
    let text = format!("- list: xs\n  items: [a, abcdefghijklmnop]\n{}", rule("proc.name in (b, xs)"));
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text: text.clone() });
    let (_, warnings) = RuleSet::load(&[source]).unwrap();
    let labels = |code| {
        let found = warnings.iter().find(|found| found.code == code).unwrap();
        found.labels.iter().map(|label| &text[label.span.range.clone()]).collect::<Vec<_>>()
    };
    assert_eq!(labels("R214"), ["abcdefghijklmnop", "xs", "proc.name"]);
}

#[test]
fn deepest_condition_that_is_allowed_is_compiled_and_matched() {
    let deep = |inner: &str| (0..30).fold(inner.to_owned(), |inner, _| format!("not ({inner})"));
    let nested = |macros: usize| {
        let each =
            (1..=macros).map(|n| format!("- macro: m{n}\n  condition: {}\n", deep(&format!("m{}", n - 1))));
        let each: String = each.collect();
        format!("- macro: m0\n  condition: proc.name = x\n{each}{}", rule(&deep(&format!("m{macros}"))))
    };
    let mut beyond = codes(&nested(30));
    beyond.dedup();
    assert_eq!(beyond, ["R205"]);
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text: nested(7) });
    let (set, _) = RuleSet::load(&[source]).unwrap();
    let records = [crate::testing::exec(7, 1_000, (6, 500), "/bin/sh", &["sh"])];
    assert!(!crate::testing::with_subject(&records, |subject| set.rules[0].matches(subject)));
    assert!(!set.expanded(&set.rules[0]).to_string().is_empty());
}

#[test]
fn what_is_beyond_a_limit_is_told() {
    let regexes = |n: usize| ["proc.name regex a+"].repeat(n).join(" or ");
    let nested = |n: usize| format!("{}proc.name{} = x", "tolower(".repeat(n), ")".repeat(n));
    let text = |n: usize| format!("proc.name = \"{}\"", "x".repeat(n));
    let path = |n: usize| format!("fd.name pmatch ({})", "/a".repeat(n));
    for (beyond, within) in [
        (regexes(501), regexes(500)),
        (nested(9), nested(8)),
        (text((16 << 10) + 1), text(15)),
        (path(257), path(256)),
    ] {
        assert_eq!(codes(&rule(&beyond)), ["R205"], "{beyond:.40}");
        assert_eq!(codes(&rule(&within)), [""; 0], "{within:.40}");
    }
    let items = |n: usize| format!("- list: xs\n  items: [{}]\n", vec!["x"; n].join(", "));
    let condition = rule("proc.name in (xs)");
    assert_eq!(codes(&format!("{}{condition}", items(100_001))), ["R205"]);
    assert_eq!(codes(&format!("{}{condition}", items(99_000))), [""; 0]);
}

#[test]
fn macro_that_no_rule_uses_is_checked() {
    assert_eq!(codes("- macro: m\n  condition: proc.nmae = x\n"), ["R201"]);
}

#[test]
fn place_of_an_error_is_exact_in_a_folded_condition() {
    let text = "- rule: r\n  desc: d\n  condition: >\n    proc.name = x and\n    proc.nmae = y\n  output: o\n  priority: INFO\n";
    let source = Arc::new(Source { name: "t.yaml".to_owned(), text: text.to_owned() });
    let diagnostics = RuleSet::load(&[source]).unwrap_err();
    let [found] = diagnostics.as_slice() else { panic!("{diagnostics:#?}") };
    assert_eq!(&text[found.labels[0].span.range.clone()], "proc.nmae");
    assert_eq!(found.hint.as_deref(), Some("did you mean `proc.name`?"));
}

#[test]
fn kinds_of_a_rule_follow_from_its_fields_and_the_event_names() {
    use crate::probe::hook::{ALL_KINDS, bit};
    use taffrail_common::kind::{EXEC, MOUNT, OPEN, SYSCALL};
    for (condition, kinds) in [
        ("evt.type in (execve, execveat) and proc.name = x", bit(EXEC)),
        ("fd.links = 1", bit(OPEN)),
        ("evt.type in (mount, umount2)", bit(MOUNT) | bit(SYSCALL)),
        ("evt.type in (mount, getppid)", bit(MOUNT) | bit(SYSCALL)),
        ("evt.kind = mount", bit(MOUNT)),
        ("evt.kind = exec or fd.links = 1", bit(EXEC) | bit(OPEN)),
        ("not evt.kind = exec", ALL_KINDS & !bit(EXEC)),
        ("not evt.type = openat", ALL_KINDS),
        ("proc.name = x", ALL_KINDS),
    ] {
        assert_eq!(Filter::from_text(condition, "t").unwrap().kinds, kinds, "{condition}");
    }
}

#[test]
fn calls_of_a_rule_are_those_that_it_names_and_that_are_no_event_by_themselves() {
    for (condition, calls) in [
        ("evt.type = getpid", &["getpid"][..]),
        ("evt.type in (getpid, ptrace, execve) or evt.type = dup2", &["dup2", "getpid"]),
        ("not (not evt.type = getpid)", &["getpid"]),
        ("not evt.type = getpid", &[]),
        ("evt.type != getpid", &[]),
        ("evt.kind = exec and evt.type = getpid", &[]),
        ("evt.type = exit_group or proc.name = x", &[]),
        // What such a field has a value of is an event anyway.
        ("evt.type = dup2 and fd.type = ipv4", &[]),
    ] {
        let found = Filter::from_text(condition, "t").unwrap().calls;
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), calls, "{condition}");
    }
}

#[test]
fn fields_that_are_kept_for_nobody_are_asked_for_wherever_a_rule_names_them() {
    use crate::probe::hook::bit;
    use taffrail_common::kind;

    let needs = |rule: &str| {
        let text = format!("- rule: r\n  desc: d\n  priority: ERROR\n{rule}");
        let (set, _) = RuleSet::load(&[Arc::new(Source { name: "t".to_owned(), text })]).unwrap();
        set.kinds() & (bit(kind::ASKED_NAME) | bit(kind::DNS) | kinds::EXE_HASH)
    };
    let rule = |condition: &str, output: &str| format!("  condition: {condition}\n  output: {output}\n");
    assert_eq!(needs(&rule("evt.type = open", "x")), 0);
    assert_eq!(needs(&rule("evt.type = open and basename(fd.nameraw) = x", "x")), bit(kind::ASKED_NAME));
    assert_eq!(needs(&rule("evt.type = open", "'%fd.nameraw'")), bit(kind::ASKED_NAME));
    assert_eq!(needs(&rule("evt.type = connect and fd.sip.name = a", "x")), bit(kind::DNS));
    for condition in ["proc.exe_sha256 = a", "proc.aexe_sha256[2] in (a, b)", "proc.pexe_sha256 exists"] {
        let condition = format!("evt.type = open and {condition}");
        assert_eq!(needs(&rule(&condition, "x")), kinds::EXE_HASH, "{condition}");
    }
    let new = "  taffrail: {new: [container.id, fd.nameraw]}\n";
    assert_eq!(needs(&(rule("evt.type = open", "x") + new)), bit(kind::ASKED_NAME));
}

#[test]
fn shipped_rules_load_without_a_warning_and_each_passes_examples_of_both_sorts() {
    let (set, warnings) = RuleSet::load(&embedded()).unwrap_or_else(|diagnostics| {
        panic!("{}", crate::diagnostic::render(&diagnostics, false));
    });
    assert_eq!(warnings, []);
    for rule in &set.rules {
        assert!(!rule.response.is_empty(), "{}: no response", rule.name);
        assert!(Maturity::of_tags(&rule.tags) == Some(Maturity::Stable) || !rule.enabled, "{}", rule.name);
        let (matching, other) = rule.example_counts();
        assert!(matching > 0 && other > 0, "{}: {matching} and {other} examples", rule.name);
    }
    let failed: Vec<_> = run_examples(&set).into_iter().filter(|outcome| !outcome.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

const LANGUAGE: &str = include_str!("../../../docs/rule-language.md");

/// What stands in the page's blocks of that language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    LANGUAGE.split("\n```").skip(1).step_by(2).filter_map(move |block| {
        let (first, text) = block.split_once('\n')?;
        (first == language).then_some(text)
    })
}

#[test]
fn rules_and_conditions_of_the_language_page_do_what_it_says() {
    let (mut rules, mut conditions) = (0, 0);
    for text in blocks("yaml") {
        let source = Arc::new(Source { name: "rule-language.md".to_owned(), text: text.to_owned() });
        let (set, warnings) = RuleSet::load(&[source])
            .unwrap_or_else(|found| panic!("{}", crate::diagnostic::render(&found, false)));
        assert_eq!(warnings, [], "{text}");
        let outcomes = run_examples(&set);
        assert!(outcomes.iter().all(|outcome| outcome.passed()), "{outcomes:#?}");
        rules += set.rules.len();
    }
    for condition in blocks("condition").flat_map(str::lines) {
        let filter = Filter::from_text(condition, "rule-language.md")
            .unwrap_or_else(|found| panic!("{}", crate::diagnostic::render(&found, false)));
        assert_eq!(filter.warnings, [], "{condition}");
        conditions += 1;
    }
    assert!(rules > 0 && conditions > 5);
}

#[test]
fn foreign_rule_file_loads_whole() {
    let folder = std::env::var_os("TAFFRAIL_SHARED_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        Into::into,
    );
    let path = folder.join("falco/falco_rules.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else {
        crate::testing::skipped("foreign_rule_file_loads_whole", format_args!("no {}", path.display()));
        return;
    };
    let source = Arc::new(Source { name: "falco_rules.yaml".to_owned(), text });
    let (set, warnings) = RuleSet::load(&[source])
        .unwrap_or_else(|found| panic!("{}", crate::diagnostic::render(&found, false)));
    assert!(set.rules.len() >= 25, "{} rules", set.rules.len());
    for found in warnings {
        assert!(!found.labels.is_empty(), "{found:?}");
    }
}

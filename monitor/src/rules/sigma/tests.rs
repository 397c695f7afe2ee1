//! Whole documents: what trees they become, and what is told of those that become none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{self, Document};
use super::*;
use crate::diagnostic::Source;
use crate::rules::RuleSet;
use crate::rules::ast::Place;
use crate::yaml;

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source { name: "t.yml".to_owned(), text: text.to_owned() })
}

/// A rule of a category with these lines of `detection`.
fn rule_of(category: &str, detection: &str) -> String {
    let detection: String = detection.lines().map(|line| format!("  {line}\n")).collect();
    format!("title: T\nlogsource:\n  product: linux\n  category: {category}\ndetection:\n{detection}")
}

fn codes(text: &str) -> Vec<&'static str> {
    match RuleSet::load(&[source(text)]) {
        Ok((_, diagnostics)) | Err(diagnostics) => diagnostics.iter().map(|found| found.code).collect(),
    }
}

/// The tree of a rule, without the condition of its class if it has only one.
fn tree_of(category: &str, detection: &str) -> String {
    let source = source(&rule_of(category, detection));
    let nodes = yaml::parse(&source).unwrap();
    let (document, diagnostics) = document::parse(&nodes[0], &source);
    let Some(Document::Rule(_, log_source, detection)) = document else { panic!("{diagnostics:#?}") };
    let category = log_source.category().unwrap();
    let mut names = Names::default();
    let place = Place::whole(&Arc::new(nodes[0].clone()));
    let item = |text: &str| Word { text: text.to_owned(), quoted: true, place: place.clone() };
    names.lists.insert("Tools".to_owned(), vec![item("nc"), item("socat*")]);
    match super::tree(category, &detection, &[], (&names, &mut 0)) {
        Ok((Expr::And(parts), _)) if category.category == "process_creation" => {
            let rest = parts[1..].to_vec();
            if let [one] = rest.as_slice() { one.to_string() } else { Expr::And(rest).to_string() }
        }
        Ok((tree, _)) => tree.to_string(),
        Err(reasons) => reasons.iter().map(|reason| format!("{} {}", reason.code, reason.message)).collect(),
    }
}

fn exec(selection: &str) -> String {
    tree_of("process_creation", &format!("s:\n  {selection}\ncondition: s"))
}

#[test]
fn each_modifier_becomes_the_test_that_it_means() {
    for (selection, tree) in [
        ("CommandLine: a", r#"proc.exeline iequals "a""#),
        ("CommandLine: [a, b]", r#"proc.exeline iequals anyof ("a", "b")"#),
        ("CommandLine|contains: a", r#"proc.exeline icontains "a""#),
        ("CommandLine|contains|all: [a, b]", r#"proc.exeline icontains allof ("a", "b")"#),
        ("CommandLine|startswith: a", r#"proc.exeline istartswith "a""#),
        ("CommandLine|endswith: [a, b]", r#"proc.exeline iendswith anyof ("a", "b")"#),
        ("CommandLine|cased: a", r#"proc.exeline = "a""#),
        ("CommandLine|contains|cased: a", r#"proc.exeline contains "a""#),
        ("CommandLine: a*b", r#"proc.exeline iglob "a*b""#),
        ("CommandLine: '*a*'", r#"proc.exeline icontains "a""#),
        ("CommandLine: a?", r#"proc.exeline regex "(?i)(?s)a.""#),
        ("CommandLine|cased: a?", r#"proc.exeline regex "(?s)a.""#),
        ("CommandLine: '*'", "proc.exeline exists"),
        ("CommandLine: null", "not proc.exeline exists"),
        ("CommandLine: ''", r#"not proc.exeline exists or proc.exeline = """#),
        (
            "CommandLine: [a, 'b*', null]",
            r#"not proc.exeline exists or proc.exeline iequals "a" or proc.exeline istartswith "b""#,
        ),
        ("CommandLine|re: a.*b", r#"proc.exeline search "a.*b""#),
        ("CommandLine|re|i|s: a.*b", r#"proc.exeline search "(?is)a.*b""#),
        ("CommandLine|exists: true", "proc.exeline exists"),
        ("CommandLine|exists: false", "not proc.exeline exists"),
        ("CommandLine|neq: a", r#"not proc.exeline iequals "a""#),
        ("CommandLine|contains|neq: [a, b]", r#"not proc.exeline icontains anyof ("a", "b")"#),
        ("CommandLine|base64|contains: foobar", r#"proc.exeline icontains "Zm9vYmFy""#),
        (
            "CommandLine|base64offset|contains: foobar",
            r#"proc.exeline icontains anyof ("Zm9vYmFy", "Zvb2Jhc", "mb29iYX")"#,
        ),
        (
            "CommandLine|base64offset|contains|all: [foobar, ab]",
            r#"proc.exeline icontains anyof ("Zm9vYmFy", "Zvb2Jhc", "mb29iYX") and proc.exeline icontains anyof ("YW", "Fi", "hY")"#,
        ),
        ("CommandLine|wide|base64|contains: ab", r#"proc.exeline icontains "YQBiAA==""#),
        (
            "CommandLine|windash|contains: ' -s'",
            r#"proc.exeline icontains anyof (" -s", " /s", " –s", " —s", " ―s")"#,
        ),
        ("CommandLine|fieldref: CurrentDirectory", "proc.exeline iequals val(proc.cwd)"),
        ("CommandLine|fieldref|endswith|cased: CurrentDirectory", "proc.exeline endswith val(proc.cwd)"),
        (
            "CommandLine|expand|contains: ' %Tools% '",
            r#"proc.exeline icontains " nc " or proc.exeline iglob "* socat* *""#,
        ),
        (r"CommandLine|expand|contains: '\%Tools%'", r#"proc.exeline icontains "%Tools%""#),
        ("ProcessId: 7", r#"proc.pid in ("7")"#),
        ("ProcessId: ['7', 0x10]", r#"proc.pid in ("7", "16")"#),
        ("ProcessId|gte: 7", r#"proc.pid >= "7""#),
        ("ProcessId|lt: 7", r#"proc.pid < "7""#),
        ("ProcessId|neq: 7", r#"not proc.pid in ("7")"#),
        ("ProcessId|startswith: 7", r#"text(proc.pid) istartswith "7""#),
        ("ProcessId|fieldref: ParentProcessId", "proc.pid = val(proc.ppid)"),
        ("ProcessId|fieldref|gt: ParentProcessId", "proc.pid > val(proc.ppid)"),
        ("UtcTime|hour|gte: 22", r#"evt.time.hour >= "22""#),
        ("UtcTime|week: 1", r#"evt.time.week in ("1")"#),
        ("User: root", r#"user.name iequals "root""#),
        ("LogonId: 0", r#"user.uid in ("0")"#),
        ("Image|endswith: /sh", r#"proc.exepath iendswith "/sh" or proc.filename iendswith "/sh""#),
        (
            "Image|contains|all: [a, b]",
            r#"proc.exepath icontains allof ("a", "b") or proc.filename icontains allof ("a", "b")"#,
        ),
        ("Image|neq: /bin/sh", r#"not proc.exepath iequals "/bin/sh""#),
        ("ParentImage: /a", r#"proc.pexepath iequals "/a" or proc.pfilename iequals "/a""#),
        ("Image: null", "not proc.exepath exists"),
        ("Image|exists: false", "not proc.exepath exists"),
        (
            "Image: [null, /a]",
            r#"not proc.exepath exists or proc.exepath iequals "/a" or proc.filename iequals "/a""#,
        ),
        (
            "Image|fieldref: ParentImage",
            "proc.exepath iequals val(proc.pexepath) or proc.exepath iequals val(proc.pfilename) or \
             proc.filename iequals val(proc.pexepath) or proc.filename iequals val(proc.pfilename)",
        ),
    ] {
        assert_eq!(exec(selection), tree, "{selection}");
    }
}

#[test]
fn searches_are_tied_as_the_condition_says() {
    for (detection, tree) in [
        (
            "a:\n  CommandLine: x\n  CurrentDirectory: y\ncondition: a",
            r#"proc.exeline iequals "x" and proc.cwd iequals "y""#,
        ),
        (
            "a:\n  - CommandLine: x\n  - CurrentDirectory: y\ncondition: a",
            r#"proc.exeline iequals "x" or proc.cwd iequals "y""#,
        ),
        (
            "s_1:\n  CommandLine: x\ns_2:\n  CommandLine: y\nf:\n  CurrentDirectory: z\ncondition: 1 of s_* and not f",
            r#"(proc.exeline iequals "x" or proc.exeline iequals "y") and not proc.cwd iequals "z""#,
        ),
        (
            "a:\n  CommandLine: x\nb:\n  CommandLine: y\ncondition:\n  - a\n  - b",
            r#"proc.exeline iequals "x" or proc.exeline iequals "y""#,
        ),
        // An exclusion looks at what runs, not at the name that was asked for.
        (
            "a:\n  CommandLine: x\nb:\n  Image: y\ncondition: a and not b",
            r#"proc.exeline iequals "x" and not proc.exepath iequals "y""#,
        ),
        (
            "a:\n  CommandLine: x\nb:\n  Image|neq: y\ncondition: a and not b",
            r#"proc.exeline iequals "x" and (proc.exepath iequals "y" or proc.filename iequals "y")"#,
        ),
        // Nothing is asked that is known.
        ("a:\n  EventID: 1\n  CommandLine: x\ncondition: a", r#"proc.exeline iequals "x""#),
    ] {
        assert_eq!(tree_of("process_creation", detection), tree, "{detection}");
    }
}

#[test]
fn words_without_a_field_are_looked_for_in_all_texts() {
    let all = [
        "evt.time",
        "proc.key",
        "proc.exepath",
        "proc.filename",
        "proc.exeline",
        "proc.cwd",
        "user.name",
        "proc.pkey",
        "proc.pexepath",
        "proc.pfilename",
        "proc.pexeline",
    ];
    let any_of = |test: &str| all.map(|field| format!("{field} {test}")).join(" or ");
    let found = tree_of("process_creation", "k: [x, y]\ncondition: k");
    assert_eq!(found, any_of(r#"icontains anyof ("x", "y")"#));
    let found = tree_of("process_creation", "k:\n  '|all': [x, y]\ncondition: k");
    assert_eq!(found, format!("({}) and ({})", any_of(r#"icontains "x""#), any_of(r#"icontains "y""#)));
}

#[test]
fn classes_of_a_category_have_their_own_fields() {
    assert_eq!(
        tree_of("network_connection", "a:\n  Initiated: 'false'\n  DestinationPort: 22\ncondition: a"),
        r#"(evt.kind = accept and evt.failed = false and fd.rip exists and fd.lport in ("22")) or (evt.kind = udp and udp.direction = in and fd.lport in ("22"))"#,
    );
    let found = tree_of("network_connection", "a:\n  DestinationHostname|endswith: .x.io\ncondition: a");
    assert_eq!(
        found,
        r#"evt.kind = dns and dns.type = query and dns.direction = out and dns.question.name iendswith ".x.io""#
    );
    let found = tree_of("network_connection", "a:\n  Image|endswith: /sh\ncondition: a");
    assert!(!found.contains("dns"), "{found}");
    let found = tree_of("file_event", "a:\n  TargetFilename|startswith: /etc/\ncondition: a");
    for part in [r#"fd.name istartswith "/etc/""#, r#"fs.path.target istartswith "/etc/""#] {
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn each_reason_to_leave_a_rule_out_has_its_code_and_the_right_form_has_none() {
    let exec = |selection: &str| rule_of("process_creation", &format!("s:\n  {selection}\ncondition: s"));
    let right = exec("CommandLine: x");
    for (wrong, code) in [
        (right.replace("title: T\n", ""), "S101"),
        (right.replace("  condition: s", ""), "S101"),
        (right.replace("logsource", "logsauce"), "S101"),
        (exec("CommandLine: {a: b}"), "S102"),
        (exec("CommandLine: []"), "S102"),
        (right.replace("condition: s", "condition: s s"), "S103"),
        (right.replace("condition: s", "condition: t"), "S104"),
        (exec("CommandLine|contians: x"), "S105"),
        (exec("CommandLine|contains|startswith: x"), "S106"),
        (right.replace("title: T", &format!("title: {}", "T".repeat(300))), "S107"),
        (format!("level: awful\n{right}"), "S108"),
        (right.replace("condition: s", "condition: s | count() > 3"), "S110"),
        (format!("action: global\n{right}"), "S110"),
        (right.replace("linux", "windows"), "S201"),
        (right.replace("category: process_creation", "service: auditd"), "S201"),
        (right.replace("process_creation", "registry_set"), "S201"),
        (exec("Hashes|contains: x"), "S202"),
        (exec("CommandLine|fieldref: Hashes"), "S202"),
        (exec("CommandLine|cidr: 10.0.0.0/8"), "S203"),
        (exec("CommandLine|gt: 5"), "S203"),
        (exec("CommandLine|hour: 5"), "S203"),
        (exec("CommandLine|wide|contains: x"), "S203"),
        (exec("EventID|contains: 1"), "S203"),
        (exec("CommandLine|exists: perhaps"), "S203"),
        (exec("CommandLine|expand: '%Nothing%'"), "S204"),
        (
            rule_of("network_connection", "s:\n  DestinationHostname: a\n  DestinationPort: 1\ncondition: s"),
            "S206",
        ),
        (exec("EventID: 3"), "S206"),
        (format!("status: deprecated\n{right}"), "S207"),
    ] {
        assert_eq!(codes(&wrong), [code], "{wrong}");
    }
    assert_eq!(codes(&right), [""; 0]);
}

#[test]
fn rule_that_is_left_out_is_counted_and_the_others_load() {
    let right = rule_of("process_creation", "s:\n  CommandLine: x\ncondition: s");
    let text = format!("{right}---\n{}---\n{}", right.replace("linux", "windows"), right.replace("T", "U"));
    let (set, warnings) = RuleSet::load(&[source(&text)]).unwrap();
    let names: Vec<_> = set.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!((names, set.left_out, warnings.len()), (vec!["T", "U"], 1, 1));
    assert_eq!(
        warnings[0].message,
        "rule `T` is left out: this source of logs is nothing that the kernel sees"
    );
}

#[test]
fn what_is_said_about_a_rule_is_kept() {
    let text = "title: T\nid: 1-2\nauthor: A. Author\nstatus: test\nlevel: high\ntags: [attack.t1059, attack.execution]\n\
        description: why\nreferences: [https://x.example]\nfalsepositives: [Unknown]\n\
        logsource: {category: process_creation}\ndetection:\n  s: {CommandLine: x}\n  condition: s\n";
    let (set, warnings) = RuleSet::load(&[source(text)]).unwrap();
    assert_eq!(warnings, []);
    let rule = &set.rules[0];
    assert_eq!((rule.priority.name(), rule.desc.as_str()), ("Error", "why"));
    assert_eq!(rule.tags, ["T1059", "mitre_execution"]);
    let expected = Origin {
        id: Some("1-2".to_owned()),
        author: Some("A. Author".to_owned()),
        license: "DRL-1.1".to_owned(),
        status: Some("test".to_owned()),
        references: vec!["https://x.example".to_owned()],
        falsepositives: vec!["Unknown".to_owned()],
    };
    assert_eq!(rule.origin.as_deref(), Some(&expected));
}

#[test]
fn names_are_unique_and_an_id_that_comes_again_replaces_its_rule() {
    let rule = |id: &str| {
        format!("id: {id}\n{}---\n", rule_of("process_creation", "s:\n  CommandLine: x\ncondition: s"))
    };
    let text = [rule("a"), rule("b"), rule("a")].concat();
    let (set, warnings) = RuleSet::load(&[source(&text)]).unwrap();
    let names: Vec<_> = set.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["T", "T (b)"]);
    assert_eq!(warnings.iter().map(|warning| warning.code).collect::<Vec<_>>(), ["R307"]);
}

#[test]
fn filter_is_added_to_the_rules_that_it_names() {
    let rule = rule_of("process_creation", "s:\n  CommandLine: x\ncondition: s");
    let filter = |rules: &str| {
        format!(
            "title: F\nlogsource: {{category: process_creation}}\nfilter:\n  rules: {rules}\n  root: {{User: root}}\n  condition: not root\n"
        )
    };
    for (rules, codes_expected) in
        [("[mine]", vec![]), ("any", vec![]), ("[other]", vec!["S109"]), ("{a: b}", vec!["S102"])]
    {
        let text = format!("name: mine\n{rule}---\n{}", filter(rules));
        assert_eq!(codes(&text), codes_expected, "{rules}");
    }
}

#[test]
fn place_of_a_reason_is_in_the_sigma_file() {
    let text = rule_of("process_creation", "s:\n  Imgae|endswith: /sh\ncondition: s");
    let (_, warnings) = RuleSet::load(&[source(&text)]).unwrap();
    let [found] = warnings.as_slice() else { panic!("{warnings:#?}") };
    assert_eq!(&text[found.labels[0].span.range.clone()], "Imgae");
    assert_eq!(found.hint.as_deref(), Some("did you mean `Image`?"));
}

#[test]
fn large_rules_are_refused_in_no_time() {
    let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(", "));
    let many = format!("s:\n  CommandLine|contains: {}\n", list("x", 19_000));
    for (detection, code) in [
        (format!("s:\n  CommandLine|contains: {}\ncondition: s", list("x", 20_001)), "S107"),
        (format!("s:\n  CommandLine|windash|contains: {}\ncondition: s", list("-a -b -c", 1_000)), "S107"),
        (format!("{many}condition: {}s", "s and ".repeat(5_000)), "S107"),
        (format!("s:\n  CommandLine: x\ncondition: {}s", "not ".repeat(1_000)), "S103"),
        (format!("s: {}a{}\ncondition: s", "[[".repeat(10), "]]".repeat(10)), "S107"),
    ] {
        let found = codes(&rule_of("process_creation", &detection));
        assert!(found.contains(&code), "{found:?} {}", &detection[..60]);
    }
}

#[test]
fn many_rules_filters_and_correlations_take_no_time() {
    let rule = |n: usize| {
        format!("name: r{n}\n{}---\n", rule_of("process_creation", "s: {CommandLine: x}\ncondition: s"))
    };
    let filter =
        "title: F\nlogsource: {}\nfilter: {rules: any, f: {Image: [a, b, c]}, condition: not f}\n---\n";
    let chain = |n: usize| {
        format!(
            "title: C\nname: c{n}\ncorrelation: {{type: temporal, rules: [c{}, r1], timespan: 1h}}\n---\n",
            n + 1
        )
    };
    let rules: String = (0..3_000).map(rule).collect();
    let filters = filter.repeat(1_001);
    let chains: String = (0..2_000).map(chain).collect();
    assert_eq!(codes(&rules), [""; 0]);
    assert!(codes(&format!("{rules}{filters}")).contains(&"S107"));
    assert!(codes(&format!("{rules}{chains}")).contains(&"S109"));
}

#[test]
fn any_text_is_rules_or_diagnostics_never_a_panic() {
    let seed = format!(
        "{}---\n{}---\ntitle: C\ncorrelation:\n  type: event_count\n  rules: [x]\n  group-by: [User]\n  timespan: 5m\n  condition:\n    gte: 3\n",
        rule_of(
            "process_creation",
            "s_1:\n  - Image|endswith: ['/a*b', \"c\"]\n  - CommandLine|re|i: '(a|b)+'\ns_2:\n  '|all': [x, y]\ncondition: 1 of s_* and not s_2"
        ),
        "title: F\nlogsource: {category: process_creation}\nfilter:\n  rules: any\n  s:\n    User|neq: root\n  condition: not s\n",
    );
    let mut state = 9u64;
    for _ in 0..1_000 {
        let mut text: Vec<char> = seed.chars().collect();
        for _ in 0..4 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (state >> 33) as usize % text.len();
            text[at] =
                ['|', '\n', '"', '{', '[', '*', '%', 'ü', ':', ' ', '-', '\\'][(state >> 20) as usize % 12];
        }
        let text: String = text.into_iter().collect();
        let (Ok((_, diagnostics)) | Err(diagnostics)) = RuleSet::load(&[source(&text)]);
        crate::diagnostic::render(&diagnostics, false);
    }
}

/// The real rules, if they are here.
pub fn sample(test: &str) -> Option<Vec<(PathBuf, String)>> {
    let folder = std::env::var_os("TAFFRAIL_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), Into::into);
    let Ok(folders) = folder.join("sigma").read_dir() else {
        crate::testing::skipped(test, format_args!("no {}/sigma", folder.display()));
        return None;
    };
    let files = folders.flat_map(|folder| folder.unwrap().path().read_dir().unwrap());
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    Some(paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect())
}

#[test]
fn real_rules_load_or_say_why_not() {
    let Some(files) = sample("real_rules_load_or_say_why_not") else { return };
    let (mut loaded, mut left_out) = (0, Vec::new());
    for (path, text) in files {
        match RuleSet::load(&[source(&text)]) {
            Ok((set, warnings)) if set.left_out == 0 => {
                assert_eq!(warnings, [], "{}", path.display());
                assert_eq!(set.rules.len(), 1);
                let origin = set.rules[0].origin.as_ref().unwrap();
                assert!(origin.id.is_some() && origin.author.is_some(), "{}", path.display());
                loaded += 1;
            }
            Ok((_, found)) | Err(found) => left_out.push(crate::diagnostic::render(&found, false)),
        }
    }
    println!("{loaded} rules load, {} do not:\n{}", left_out.len(), left_out.concat());
    assert!(loaded >= 60 && left_out.is_empty(), "{loaded}: {}", left_out.concat());
}

fn correlation(keys: &str) -> String {
    let rule = |name: &str, value: &str| {
        let rule = rule_of("process_creation", &format!("s:\n  CommandLine: {value}\ncondition: s"));
        format!("name: {name}\n{}---\n", rule.replace("title: T", &format!("title: Rule {name}")))
    };
    let keys: String = keys.lines().map(|line| format!("  {line}\n")).collect();
    format!("{}{}title: C\nlevel: high\ncorrelation:\n{keys}", rule("a", "x"), rule("b", "y"))
}

#[test]
fn correlation_becomes_a_rule_that_remembers() {
    for (keys, key) in [
        (
            "type: event_count\nrules: [a]\ngroup-by: [User, ComputerName]\ntimespan: 5m\ncondition: {gte: 3}",
            r#"{"threshold":{"by":["user.name","container.id"],"count":3,"rules":["Rule a"],"within":"300s"}}"#,
        ),
        (
            "type: event_count\nrules: [a, b]\ntimespan: 1h\ncondition: {gt: 3}",
            r#"{"threshold":{"by":[],"count":4,"rules":["Rule a","Rule b"],"within":"3600s"}}"#,
        ),
        (
            "type: value_count\nrules: [a]\ngroup-by: [User]\ntimespan: 10s\ncondition: {field: Image, eq: 2}",
            r#"{"threshold":{"by":["user.name"],"count":2,"distinct":"proc.exepath","rules":["Rule a"],"within":"10s"}}"#,
        ),
        (
            "type: temporal\nrules: [a, b]\ngroup-by: [who]\ntimespan: 2d\naliases: {who: {a: ProcessId, b: ParentProcessId}}",
            r#"{"sequence":{"by":["proc.pid"],"ordered":false,"steps":[{"by":["proc.pid"],"rule":"Rule a"},{"by":["proc.ppid"],"rule":"Rule b"}],"within":"172800s"}}"#,
        ),
        (
            "type: temporal_ordered\nrules: [b, a]\ngroup-by: [User]\ntimespan: 1s",
            r#"{"sequence":{"by":["user.name"],"ordered":true,"steps":[{"by":["user.name"],"rule":"Rule b"},{"by":["user.name"],"rule":"Rule a"}],"within":"1s"}}"#,
        ),
    ] {
        let (set, warnings) = RuleSet::load(&[source(&correlation(keys))]).unwrap();
        assert_eq!(warnings, [], "{keys}");
        let rule = set.find("C").unwrap();
        assert_eq!(rule.stateful.text, format!("\n{key}"), "{keys}");
        assert_eq!(rule.priority.name(), "Error");
        let used = keys
            .split_once("rules: [")
            .map_or(0, |(_, rest)| rest.split(']').next().unwrap().split(',').count());
        assert_eq!(set.rules.iter().filter(|rule| rule.stateful.silent).count(), used, "{keys}");
        let imported = export::rules(&set);
        let (again, warnings) = RuleSet::load(&[source(&imported)]).unwrap();
        assert_eq!(warnings, [], "{imported}");
        assert_eq!(export::rules(&again).lines().count(), imported.lines().count());
    }
}

#[test]
fn correlations_build_on_one_another_and_their_rules_alert_only_if_asked_to() {
    let inner = "type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 3}\ngenerate: true";
    let outer = "---\ntitle: Outer\ncorrelation: {type: temporal_ordered, rules: [inner, b], group-by: [User], timespan: 1h}\n";
    let text = correlation(inner).replace("title: C\n", "title: C\nname: inner\n") + outer;
    let (set, warnings) = RuleSet::load(&[source(&text)]).unwrap();
    assert_eq!(warnings, []);
    let silent = set.rules.iter().map(|rule| (rule.name.as_str(), rule.stateful.silent));
    assert_eq!(
        silent.collect::<Vec<_>>(),
        [("Rule a", false), ("Rule b", true), ("C", true), ("Outer", false)]
    );
}

#[test]
fn each_reason_to_leave_a_correlation_out_has_its_code() {
    let right = "type: event_count\nrules: [a]\ngroup-by: [User]\ntimespan: 5m\ncondition: {gte: 3}";
    for (keys, code) in [
        (right.replace("timespan: 5m\n", ""), "S101"),
        (right.replace("condition: {gte: 3}", ""), "S101"),
        (right.replace("5m", "5 minutes"), "S102"),
        (right.replace("gte: 3", "gte: many"), "S102"),
        (right.replace("event_count", "event_cuont"), "S105"),
        (right.replace("gte", "ge"), "S105"),
        (right.replace("rules: [a]", "rules: [nowhere]"), "S109"),
        (right.replace("User", "Nothing"), "S202"),
        (right.replace("event_count", "value_sum"), "S205"),
        (right.replace("gte", "lt"), "S205"),
        (right.replace("gte: 3", "gte: 1"), "S205"),
        (right.replace("event_count", "temporal").replace("{gte: 3}", "a and b"), "S205"),
        (right.replace("5m", "30d"), "R404"),
    ] {
        let found = codes(&correlation(&keys));
        assert!(found.contains(&code), "{found:?} {keys}");
    }
    assert_eq!(codes(&correlation(right)), [""; 0]);
}

#[test]
fn imported_correlations_fire_as_they_should() {
    let event = |command: &str, uid: u32| {
        format!("        - {{after: 1s, evt.kind: exec, proc.exeline: {command}, user.name: u{uid}}}\n")
    };
    let (x, y, other) = (event("x", 1), event("y", 1), event("x", 2));
    let late = x.replace("after: 1s", "after: 10m");
    for (keys, events, fires) in [
        ("type: event_count\ncondition: {gte: 3}", [&x, &x, &x], true),
        ("type: event_count\ncondition: {gte: 3}", [&x, &x, &other], false),
        ("type: event_count\ncondition: {gte: 3}", [&x, &x, &late], false),
        ("type: temporal", [&y, &other, &x], true),
        ("type: temporal", [&y, &y, &other], false),
        ("type: temporal_ordered", [&other, &x, &y], true),
        ("type: temporal_ordered", [&y, &x, &x], false),
    ] {
        let text = correlation(&format!("{keys}\nrules: [a, b]\ngroup-by: [User]\ntimespan: 5m"));
        let (set, _) = RuleSet::load(&[source(&text)]).unwrap();
        let events: String = events.into_iter().map(String::as_str).collect();
        let tested =
            format!("{}  tests:\n    - match: {fires}\n      events:\n{events}", export::rules(&set));
        let (set, warnings) = RuleSet::load(&[source(&tested)]).unwrap();
        assert_eq!(warnings, []);
        let outcomes = crate::rules::run_examples(&set);
        assert!(matches!(outcomes.as_slice(), [outcome] if outcome.passed()), "{outcomes:#?} {tested}");
    }
}

#[test]
fn examples_of_the_documentation_load() {
    let page = include_str!("../../../../docs/sigma.md");
    let blocks: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    let (set, warnings) =
        RuleSet::load(&blocks.iter().map(|block| source(block)).collect::<Vec<_>>()).unwrap();
    assert_eq!(warnings, []);
    assert!(set.rules.len() >= 2);
}

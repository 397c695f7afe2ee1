//! What the engine says is what each rule says by itself: for random rules and events, and for a recorded session.

use std::fmt::Write as _;
use std::net::IpAddr;

use taffrail_common::kind::KINDS;

use super::*;
use std::sync::Arc;

use crate::audit::RecordKind;
use crate::capture::Reader;
use crate::clock::Clock;
use crate::detect::Detector;
use crate::detect::alert::Verdict;
use crate::detect::memory::Limits;
use crate::diagnostic::{Source, render};
use crate::enrich::{self, Enricher, Subject};
use crate::event::field::{FIELDS, Field, Get, Type, Value};
use crate::event::kind_name;
use crate::pipeline::{Gap, Sink, Worker};
use crate::probe::hook::bit;
use crate::rules::RuleSet;

/// Numbers that are the same in each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// A text of few pieces, so that texts often begin, end or lie within each other.
    fn text(&mut self) -> String {
        (0..self.below(4))
            .map(|_| self.one(&["/", "etc", "sh", "a", "SH", "/etc/", "shadow", "\u{e9}"]))
            .collect()
    }

    fn glob(&mut self) -> String {
        (0..1 + self.below(4))
            .map(|_| self.one(&["*", "?", "/etc/", "sh", "a", "[a-s]", "[", "\\\\a", "/"]))
            .collect()
    }

    fn number(&mut self) -> i64 {
        [0, 1, 2, 3, 22, -1, i64::MAX, 443][self.below(8)]
    }

    fn address(&mut self) -> IpAddr {
        self.one(&["10.0.0.1", "10.0.0.2", "127.0.0.1", "::1", "fd00::1"]).parse().unwrap()
    }
}

/// Fields of all types and all ways to get them, few enough that rules have tests in common.
const NAMES: [&str; 16] = [
    "evt.kind",
    "evt.type",
    "evt.is_open_write",
    "evt.failed",
    "evt.rawarg",
    "proc.name",
    "proc.exepath",
    "proc.aname",
    "proc.cmdline",
    "proc.pid",
    "thread.cap_effective",
    "fd.name",
    "fd.sip",
    "fd.sport",
    "container.id",
    "fs.path.target",
];

fn test(random: &mut Random) -> String {
    let field = crate::event::field::find(random.one(&NAMES)).unwrap();
    let index = match field.get {
        Get::Ancestors(_) | Get::Indexed(_) if random.below(2) == 0 => format!("[{}]", random.below(3)),
        _ => String::new(),
    };
    let mut test = format!("{}{index} ", field.name);
    if field.ty == Type::Text && random.below(8) == 0 {
        test = format!("tolower({}) ", field.name);
    }
    if random.below(12) == 0 {
        return test + "exists";
    }
    let list = |random: &mut Random, one: &mut dyn FnMut(&mut Random) -> String| {
        let items: Vec<_> = (0..1 + random.below(4)).map(|_| one(random)).collect();
        format!("in ({})", items.join(", "))
    };
    let mut text = |random: &mut Random| match field.name {
        "evt.kind" => random.one(&["exec", "open", "connect", "fork", "change"]).to_owned(),
        "evt.type" => random.one(&["execve", "openat", "clone", "rename", "connect", "execveat"]).to_owned(),
        _ => format!("\"{}\"", random.text()),
    };
    test += &match field.ty {
        Type::Text | Type::Path | Type::TextList => match random.below(16) {
            0..3 => list(random, &mut text),
            3 => format!("{} \"{}\"", random.one(&["glob", "iglob"]), random.glob()),
            4 => format!("regex \"{}\"", random.one(&["/etc/.*", "s+h", "(?i)SH", ".*a"])),
            5 => list(random, &mut text).replacen("in", random.one(&["pmatch", "intersects"]), 1),
            6 => {
                let op =
                    random.one(&["=", "!=", "startswith", "icontains", "contains", "iendswith", "iequals"]);
                let quantifier = random.one(&["oneof", "anyof", "allof"]);
                list(random, &mut text).replacen("in", &format!("{op} {quantifier}"), 1)
            }
            7 => "= val(proc.name)".to_owned(),
            _ => {
                let ops = [
                    "=",
                    "!=",
                    "contains",
                    "icontains",
                    "startswith",
                    "endswith",
                    "istartswith",
                    "iendswith",
                    "iequals",
                    "<",
                ];
                format!("{} {}", random.one(&ops), text(random))
            }
        },
        Type::Number if random.below(3) == 0 => list(random, &mut |random| random.number().to_string()),
        Type::Number => format!("{} {}", random.one(&["=", "!=", "<", "<=", ">", ">="]), random.number()),
        Type::Bool => format!("{} {}", random.one(&["=", "!="]), random.one(&["true", "false"])),
        Type::Address => match random.below(3) {
            0 => list(random, &mut |random| random.address().to_string()),
            1 => random.one(&["= 10.0.0.0/8", "!= 10.0.0.0/31", "in (fd00::/8, 127.0.0.1)"]).to_owned(),
            _ => format!("{} {}", random.one(&["=", "!="]), random.address()),
        },
    };
    test
}

fn condition(random: &mut Random, depth: usize) -> String {
    match random.below(if depth == 0 { 4 } else { 10 }) {
        0..3 => test(random),
        3 => format!("m{}", random.below(4)),
        4 => format!("not ({})", condition(random, depth - 1)),
        shape => {
            let parts: Vec<_> =
                (0..2 + random.below(3)).map(|_| format!("({})", condition(random, depth - 1))).collect();
            parts.join(if shape < 8 { " and " } else { " or " })
        }
    }
}

fn rules(random: &mut Random, count: usize) -> RuleSet {
    let mut text = String::new();
    for number in 0..4 {
        let condition = (0..2).map(|_| test(random)).collect::<Vec<_>>().join(random.one(&[" and ", " or "]));
        writeln!(text, "- macro: m{number}\n  condition: >\n    {condition}").unwrap();
    }
    for number in 0..count {
        let condition = condition(random, 3);
        writeln!(
            text,
            "- rule: r{number}\n  desc: d\n  output: o\n  priority: INFO\n  enabled: {}\n  condition: >\n    {condition}",
            random.below(10) > 0
        )
        .unwrap();
    }
    let source = Arc::new(Source { name: "random".to_owned(), text });
    match RuleSet::load(&[source]) {
        Ok((set, _)) => set,
        // One of them can match no event.
        Err(diagnostics) if diagnostics.iter().all(|found| found.code == "R308") => rules(random, count),
        Err(diagnostics) => panic!("{}", render(&diagnostics, false)),
    }
}

/// An event by its values.
struct Map(Vec<(&'static Field, Vec<Owned>)>);

enum Owned {
    Text(String),
    Number(i64),
    Bool(bool),
    Address(IpAddr),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Owned::Text(text) => Value::Text(text.as_bytes()),
            Owned::Number(number) => Value::Number(*number),
            Owned::Bool(bool) => Value::Bool(*bool),
            Owned::Address(address) => Value::Address(*address),
        }
    }
}

impl Map {
    fn new(random: &mut Random, kind: u16) -> Self {
        let mut values = Vec::new();
        for field in FIELDS.iter().filter(|field| NAMES.contains(&field.name) && field.kinds & bit(kind) != 0)
        {
            let count = match field.get {
                Get::One(_) => usize::from(random.below(5) > 0),
                _ => random.below(4),
            };
            let mut value = || match (field.name, field.ty) {
                ("evt.kind", _) => Owned::Text(kind_name(kind).to_owned()),
                ("evt.type", _) => {
                    let names = leaf::type_names(kind).unwrap_or_else(|| vec!["getpid", "clone", "openat"]);
                    Owned::Text(random.one(&names).to_owned())
                }
                (_, Type::Text | Type::Path | Type::TextList) => Owned::Text(random.text()),
                (_, Type::Number) => Owned::Number(random.number()),
                (_, Type::Bool) => Owned::Bool(random.below(2) == 0),
                (_, Type::Address) => Owned::Address(random.address()),
            };
            let count =
                if field.name.starts_with("evt.kind") || field.name == "evt.type" { 1 } else { count };
            values.push((field, (0..count).map(|_| value()).collect()));
        }
        Self(values)
    }

    fn of(&self, field: &Field) -> &[Owned] {
        self.0.iter().find(|(own, _)| *own == field).map_or(&[], |(_, values)| values)
    }
}

impl Values for Map {
    fn one(&self, field: &'static Field, index: Option<u32>) -> Option<Value<'_>> {
        self.of(field).get(index.unwrap_or(0) as usize).map(Owned::value)
    }

    fn keyed(&self, _field: &'static Field, _key: &[u8]) -> Option<Value<'_>> {
        None
    }

    fn any(
        &self,
        field: &'static Field,
        index: Option<u32>,
        test: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> bool {
        match (field.get, index) {
            (Get::One(_), _) | (_, Some(_)) => self.one(field, index).is_some_and(test),
            _ => self.of(field).iter().any(|value| test(value.value())),
        }
    }
}

/// The names of the rules that match, each evaluated by itself.
fn by_themselves<'a>(set: &'a RuleSet, kind: u16, values: &impl Values) -> Vec<&'a str> {
    let matching = |rule: &&Rule| rule.kinds & bit(kind) != 0 && rule.matches(values);
    set.enabled().filter(matching).map(|rule| rule.name.as_str()).collect()
}

#[test]
fn engine_finds_what_each_rule_finds_by_itself_in_random_events() {
    let mut random = Random(0x5eed);
    let (mut matches, mut evaluated) = (0, 0);
    // Reading rules takes longest: each set has some of those that were read.
    let pool: Vec<Rule> = (0..150).flat_map(|_| rules(&mut random, 6).rules).collect();
    for _ in 0..2_000 {
        let mut set = RuleSet::default();
        set.rules = (0..6).map(|_| pool[random.below(pool.len())].clone()).collect();
        let set = Arc::new(set);
        let mut detector = Detector::new(Arc::clone(&set));
        for _ in 0..20 {
            let kind = 1 + random.below(KINDS - 1) as u16;
            let event = Map::new(&mut random, kind);
            let expected = by_themselves(&set, kind, &event);
            let found: Vec<_> = detector.matches(kind, &event).map(|rule| rule.name.as_str()).collect();
            assert_eq!(found, expected, "{:#?}", set.rules.iter().map(Rule::condition).collect::<Vec<_>>());
            matches += found.len();
            evaluated += set.rules.len();
        }
    }
    // Neither always nor never.
    assert!(matches > evaluated / 20 && matches < evaluated / 2, "{matches} of {evaluated}");
}

/// Compares at each event.
struct Compare {
    set: Arc<RuleSet>,
    detector: Detector,
    events: usize,
    matches: usize,
}

impl Sink for Compare {
    fn event(&mut self, subject: &Subject<'_>, _verdict: Verdict<'_>) {
        let kind = subject.event.header().kind;
        let found: Vec<_> = self.detector.matches(kind, subject).map(|rule| rule.name.as_str()).collect();
        assert_eq!(found, by_themselves(&self.set, kind, subject));
        self.events += 1;
        self.matches += found.len();
    }

    fn gap(&mut self, _gap: &Gap<'_>) {}

    fn note(&mut self, _kind: RecordKind, _boot_ns: u64, _time_ns: u64, _body: &[u8]) {}
}

#[test]
fn engine_finds_what_each_rule_finds_by_itself_in_a_recorded_session() {
    let mut random = Random(0x5e55);
    let shipped = RuleSet::load(&crate::rules::embedded()).unwrap().0;
    for set in std::iter::once(shipped).chain((0..10).map(|_| rules(&mut random, 20))) {
        let set = Arc::new(set);
        let sink = Compare { detector: Detector::new(Arc::clone(&set)), set, events: 0, matches: 0 };
        let enricher = Enricher::new(enrich::Source::Recorded, 1024);
        let nothing = (Arc::default(), Limits::default());
        let mut worker = Worker::new(enricher, nothing, Clock { offset_ns: 0 }, sink);
        let recording = include_bytes!("../../../../tests/data/session.recording");
        worker.replay(&mut Reader::new(recording.as_slice()).unwrap()).unwrap();
        assert!(worker.sink.events > 400, "{}", worker.sink.events);
        assert!(worker.sink.matches > 0);
    }
}

#[test]
fn names_of_events_are_those_that_their_kind_can_have() {
    use crate::testing;
    let records = [
        testing::exec(7, 1_000, (1, 10), "/bin/sh", &["sh"]),
        testing::fork(7, 1_000, (8, 2_000)),
        testing::exit(7, 1_000, 0),
        testing::open(7, 1_000, "/etc/passwd", 0, 3),
        testing::connect(7, 1_000, ([10, 0, 0, 1], 443), 0),
        testing::cred(7, 1_000, (1000, 1 << 21), 0),
        testing::signal(7, 1_000, (6, 500), 9),
        testing::cgroup(7, 1_000, (9, "/docker/x"), false),
        testing::cgroup_move(7, 1_000, (6, 500), "/elsewhere"),
        testing::flow(7, 1_000, ([10, 0, 0, 1], 443), 104),
        testing::udp(7, 1_000, ([10, 0, 0, 1], 123)),
        testing::dns(7, 1_000, testing::DNS_ANSWER),
    ];
    for record in records.into_iter().chain(testing::calls(7, 1_000)) {
        testing::with_subject(&[record], |subject| {
            let name = subject.event.model().type_name();
            let names = leaf::type_names(subject.event.header().kind);
            assert!(names.is_none_or(|names| names.contains(&name)), "{name} of {}", subject.event.kind());
        });
    }
}

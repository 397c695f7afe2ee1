//! Compares what rules match with an independent evaluator of Sigma: real rules and made-up ones, with events that
//! are made from the rules' own values and then spoilt. Both see the same values: a program has one name
//! here.
//!
//! Left to other tests, since the evaluator is of another mind: `''` matches a field that is not there, too;
//! placeholders are lists of values and not fields; parts of a number are looked for in its digits.

use std::collections::BTreeMap;
use std::sync::Arc;

use rsigma_eval::Engine;
use rsigma_eval::event::JsonEvent;
use serde_json::{Value as Json, json};

use super::build::{Builder, Truth};
use super::detection::{Detection, Item, Search};
use super::document::{self, Document, LogSource};
use super::mapping::{Class, To};
use super::modifier::Compare;
use super::pattern::Pattern;
use super::*;
use crate::clock::Calendar;
use crate::diagnostic::Source;
use crate::event::field::{self, Field, Type, Value, Values};
use crate::rules::compile;
use crate::yaml;

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % end
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// An event: Sigma's fields and their values. Numbers are digits.
type Event = BTreeMap<&'static str, String>;

/// The event as our conditions see it.
struct Ours<'a> {
    class: &'static Class,
    event: &'a Event,
    /// Whether the name that a program was asked for by is known too.
    asked: bool,
    realtime_ns: u64,
}

impl Ours<'_> {
    fn text(&self, field: &Field) -> Option<&str> {
        let names = self.class.all().filter(|(_, to)| match to {
            To::Field(name) => *name == field.name,
            To::Program { runs, asked } => *runs == field.name || (self.asked && *asked == field.name),
            To::Always(_) => false,
        });
        names.filter_map(|(name, _)| self.event.get(name)).map(String::as_str).next()
    }
}

impl Values for Ours<'_> {
    fn one(&self, field: &'static Field, _index: Option<u32>) -> Option<Value<'_>> {
        let calendar = Calendar::of(self.realtime_ns);
        let part = match field.name {
            "evt.time.minute" => Some(calendar.minute),
            "evt.time.hour" => Some(calendar.hour),
            "evt.time.day" => Some(calendar.day),
            "evt.time.week" => Some(calendar.week),
            "evt.time.month" => Some(calendar.month),
            "evt.time.year" => Some(calendar.year),
            _ => None,
        };
        if let Some(part) = part {
            return Some(Value::Number(part as i64));
        }
        let text = self.text(field)?;
        match field.ty {
            Type::Number => text.parse().ok().map(Value::Number),
            Type::Address => text.parse().ok().map(Value::Address),
            _ => Some(Value::Text(text.as_bytes())),
        }
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
        self.one(field, index).is_some_and(test)
    }
}

fn is_number(class: &Class, name: &str) -> bool {
    match class.get(name) {
        Some(To::Field(ours)) => field::find(ours).is_some_and(|field| field.ty == Type::Number),
        _ => false,
    }
}

/// The event as the evaluator sees it.
fn theirs(class: &Class, event: &Event) -> Json {
    let value = |name: &str, text: &String| match text.parse::<i64>() {
        Ok(number) if is_number(class, name) => json!(number),
        _ => json!(text),
    };
    let mut all: serde_json::Map<String, Json> =
        event.iter().map(|(name, text)| ((*name).to_owned(), value(name, text))).collect();
    for (name, to) in class.all() {
        if let To::Always(text) = to {
            all.insert(name.to_owned(), json!(text));
        }
    }
    Json::Object(all)
}

/// Makes events of which many match.
struct Maker<'a> {
    random: &'a mut Random,
    class: &'static Class,
}

impl Maker<'_> {
    fn event(&mut self, detection: &Detection) -> Event {
        let mut event = Event::new();
        let fields: Vec<&'static str> =
            self.class.all().filter(|(_, to)| !matches!(to, To::Always(_))).map(|(name, _)| name).collect();
        for name in fields {
            if !self.random.one_in(3) {
                let text = self.noise(name);
                event.insert(name, text);
            }
        }
        for search in &detection.searches {
            if !self.random.one_in(4) {
                self.satisfy(search, &mut event);
            }
        }
        event.insert("UtcTime", "2026-11-24T12:34:56Z".to_owned());
        if self.random.one_in(2) {
            self.spoil(&mut event);
        }
        // No event has an empty value: it is not there then.
        event.retain(|_, text| !text.is_empty());
        event
    }

    fn noise(&mut self, name: &str) -> String {
        if is_number(self.class, name) {
            return self.random.pick(&["0", "1", "7", "22", "443", "1000"]).to_string();
        }
        match name {
            "SourceIp" | "DestinationIp" | "source.ip" | "destination.ip" => self
                .random
                .pick(&["10.1.2.3", "127.0.0.1", "8.8.8.8", "::1", "fe80::1", "2001:db8::7"])
                .to_string(),
            _ => self.random.pick(&["/bin/sh", "/usr/bin/x", "a b c", "-c", "aab", "/tmp/"]).to_string(),
        }
    }

    fn satisfy(&mut self, search: &Search, event: &mut Event) {
        match search {
            Search::All(parts) => parts.iter().for_each(|part| self.satisfy(part, event)),
            Search::Any(parts) => {
                let part = &parts[self.random.below(parts.len())];
                self.satisfy(part, event);
            }
            Search::Item(item) => self.satisfy_item(item, event),
        }
    }

    fn satisfy_item(&mut self, item: &Item, event: &mut Event) {
        let field = if item.field.is_empty() { "CommandLine" } else { item.field.as_str() };
        let Some((name, _)) = self.class.all().find(|(name, _)| *name == field) else { return };
        let chosen: Vec<usize> = match item.modifiers.all {
            true => (0..item.values.len()).collect(),
            false => vec![self.random.below(item.values.len())],
        };
        for at in chosen {
            let Some(value) = item.values[at].text.as_deref() else {
                event.remove(name);
                continue;
            };
            let text = self.instance(item, value);
            if is_number(self.class, name) {
                event.insert(name, text);
                continue;
            }
            // What is there already is kept on the side that does not matter.
            let before = event.get(name).cloned().unwrap_or_default();
            let whole = match item.modifiers.compare {
                Compare::Contains if self.random.one_in(2) => format!("{before} {text} x"),
                Compare::Contains => format!("{before}{text}"),
                Compare::StartsWith => format!("{text}{before}"),
                Compare::EndsWith => format!("{before}{text}"),
                Compare::Cidr => value.split('/').next().unwrap_or_default().to_owned(),
                _ => text,
            };
            event.insert(name, whole);
        }
    }

    /// A text that a value asks for.
    fn instance(&mut self, item: &Item, value: &str) -> String {
        match item.modifiers.compare {
            Compare::Regex => {
                return self.random.pick(&["aab", "x1", "a\nb", &"f ".repeat(150), value]).to_string();
            }
            Compare::Exists | Compare::Cidr => return value.to_owned(),
            _ => {}
        }
        let around = super::modifier::Modifiers { compare: Compare::Equals, ..item.modifiers.clone() };
        let patterns = around.patterns(Pattern::parse(value)).unwrap_or_default();
        if patterns.is_empty() {
            return value.to_owned();
        }
        let pattern = patterns[self.random.below(patterns.len())].clone();
        let text = match pattern.as_plain() {
            Some(text) => text.to_owned(),
            // Wildcards stand for something else than themselves.
            None => value.replace(['*', '?'], self.random.pick(&["x", "é", "ab"])),
        };
        if self.random.one_in(3) { text.to_ascii_uppercase() } else { text }
    }

    fn spoil(&mut self, event: &mut Event) {
        let names: Vec<&'static str> = event.keys().copied().filter(|name| *name != "UtcTime").collect();
        if names.is_empty() {
            return;
        }
        let name = *self.random.pick(&names);
        let is_text = !is_number(self.class, name) && !name.to_ascii_lowercase().ends_with("ip");
        let text = event.get(name).cloned().unwrap_or_default();
        let mut chars: Vec<char> = text.chars().collect();
        match self.random.below(4) {
            0 => {
                event.remove(name);
                return;
            }
            1 if is_text && !chars.is_empty() => {
                chars.remove(self.random.below(chars.len()));
            }
            2 if is_text => {
                chars.insert(self.random.below(chars.len() + 1), *self.random.pick(&['x', ' ', 'é']))
            }
            3 if is_text => chars = text.to_ascii_lowercase().chars().collect(),
            _ => return,
        }
        event.insert(name, chars.into_iter().collect());
    }
}

#[derive(Debug, Default)]
struct Count {
    rules: usize,
    events: usize,
    matches: usize,
}

/// Compares one rule, over all classes of its category.
fn compare(text: &str, random: &mut Random, events: usize, count: &mut Count) -> Result<(), String> {
    let source = Arc::new(Source { name: "t.yml".to_owned(), text: text.to_owned() });
    let nodes = yaml::parse(&source).map_err(|found| found.message)?;
    let (document, found) = document::parse(&nodes[0], &source);
    let Some(Document::Rule(_, log_source, detection)) = document else { return Err(format!("{found:?}")) };
    let category = LogSource::category(&log_source).map_err(|found| found.message)?;
    let collection = rsigma_parser::parse_sigma_yaml(text).map_err(|error| error.to_string())?;
    let mut engine = Engine::new();
    engine.add_collection(&collection).map_err(|error| error.to_string())?;
    if engine.rule_count() != 1 {
        return Err(format!(
            "the evaluator does not know this: {:?}",
            collection.errors().map(ToString::to_string).collect::<Vec<_>>()
        ));
    }
    let (names, mut spent) = (Names::default(), 0);
    for class in category.classes.iter().filter(|class| class.is_meant_by(&detection)) {
        let mut builder = Builder::new(category, class, &names.lists, &mut spent);
        let truth = builder.detection(&detection);
        if let Some(reason) = builder.reasons.first() {
            return Err(reason.message.clone());
        }
        let node = match &truth {
            Truth::When(expr) => Some(
                compile::compile(expr, &names)
                    .map_err(|found| format!("{expr}: {:?}", found[0].message))?
                    .node,
            ),
            Truth::Always | Truth::Never => None,
        };
        for _ in 0..events {
            let event = Maker { random, class }.event(&detection);
            let asked = random.one_in(2);
            let ours = Ours { class, event: &event, asked, realtime_ns: 1_795_523_696_000_000_000 };
            let own = node.as_ref().map_or(truth == Truth::Always, |node| node.holds(&ours));
            let json = theirs(class, &event);
            let other = !engine.evaluate(&JsonEvent::borrow(&json)).is_empty();
            let tree = match &truth {
                Truth::When(expr) => expr.to_string(),
                other => format!("{other:?}"),
            };
            assert_eq!(own, other, "ours and theirs differ\n{json:#}\n{tree}\n{text}");
            count.events += 1;
            count.matches += usize::from(own);
        }
    }
    count.rules += 1;
    Ok(())
}

#[test]
fn real_rules_match_as_in_another_evaluator() {
    let Some(files) = super::tests::sample("real_rules_match_as_in_another_evaluator") else { return };
    let (mut random, mut count) = (Random(7), Count::default());
    for (path, text) in files {
        if let Err(reason) = compare(&text, &mut random, 200, &mut count) {
            panic!("{}: {reason}", path.display());
        }
    }
    println!("{count:?}");
    assert!(count.matches * 10 > count.events && count.matches * 10 < count.events * 9, "{count:?}");
}

/// A detection of made-up searches.
fn made_up(random: &mut Random) -> String {
    const FIELDS: &[&str] = &["Image", "CommandLine", "CurrentDirectory", "ParentImage", "ParentCommandLine"];
    const NUMBERS: &[&str] = &["ProcessId", "ParentProcessId", "LogonId"];
    const MODIFIERS: &[&str] = &[
        "",
        "",
        "|contains",
        "|startswith",
        "|endswith",
        "|contains|all",
        "|cased",
        "|contains|cased",
        "|neq",
        "|contains|neq",
        "|re",
        "|re|i",
        "|windash|contains",
        "|base64|contains",
        "|base64offset|contains",
        "|wide|base64offset|contains",
    ];
    const VALUES: &[&str] = &[
        "a",
        "ab",
        "/bin/sh",
        "*a*",
        "a*b",
        "/usr/?in/x",
        "a*b*c",
        r"a\*b",
        r"\\x",
        "-c",
        "/tmp/",
        "SH",
        "a b c",
        "x?",
        "*",
        "é",
    ];
    const PATTERNS: &[&str] = &["a+b", "^/bin/(sh|bash)$", "[a-c]{2,3}", "x.*y", "^$|c$", ".b"];
    let mut text = String::from("title: T\nlogsource:\n  category: process_creation\ndetection:\n");
    let searches = 1 + random.below(4);
    for search in 0..searches {
        if random.one_in(8) {
            text.push_str(&format!("  s{search}: ['{}', '{}']\n", random.pick(VALUES), random.pick(VALUES)));
            continue;
        }
        text.push_str(&format!("  s{search}:\n"));
        let mut used: Vec<String> = Vec::new();
        for _ in 0..1 + random.below(3) {
            let (key, values): (String, Vec<String>) = match random.below(8) {
                0 => {
                    let modifier = random.pick(&["", "|gte", "|lt", "|neq"]);
                    (format!("{}{modifier}", random.pick(NUMBERS)), vec!["7".to_owned()])
                }
                1 => {
                    let modifier = random.pick(&["|exists", "|exists", ""]);
                    let value = if modifier.is_empty() { "null" } else { random.pick(&["true", "false"]) };
                    (format!("{}{modifier}", random.pick(FIELDS)), vec![value.to_owned()])
                }
                2 => {
                    let modifier = random.pick(&["", "|endswith", "|contains", "|neq"]);
                    (
                        format!("{}|fieldref{modifier}", random.pick(FIELDS)),
                        vec![random.pick(FIELDS).to_string()],
                    )
                }
                3 => {
                    let part = random.pick(&["hour", "minute", "week", "day", "month", "year"]);
                    (
                        format!("UtcTime|{part}"),
                        vec![random.pick(&["11", "12", "24", "34", "48", "2026"]).to_string()],
                    )
                }
                _ => {
                    let modifier = *random.pick(MODIFIERS);
                    let from = match modifier {
                        _ if modifier.starts_with("|re") => PATTERNS,
                        _ if modifier.contains("base64") => &["ab", "abc", "/bin/sh"],
                        _ => VALUES,
                    };
                    let count = 1 + random.below(3);
                    let values = (0..count).map(|_| format!("'{}'", random.pick(from))).collect();
                    (format!("{}{modifier}", random.pick(FIELDS)), values)
                }
            };
            if !used.contains(&key) {
                let values =
                    if values.len() == 1 { values[0].clone() } else { format!("[{}]", values.join(", ")) };
                text.push_str(&format!("    {key}: {values}\n"));
                used.push(key);
            }
        }
    }
    let mut condition = String::from("s0");
    for search in 1..searches {
        let (op, not) = (random.pick(&["and", "or"]), random.pick(&["", "", "not "]));
        condition = match random.below(3) {
            0 => format!("({condition}) {op} {not}s{search}"),
            1 => format!("{not}s{search} {op} {condition}"),
            _ => format!("{not}({condition} {op} s{search})"),
        };
    }
    let condition = match random.below(6) {
        0 => "1 of s*".to_owned(),
        1 => "all of them".to_owned(),
        2 => "s0 and not 1 of s*".to_owned(),
        _ => condition,
    };
    text + &format!("  condition: {condition}\n")
}

#[test]
fn made_up_rules_match_as_in_another_evaluator() {
    let (mut random, mut count) = (Random(11), Count::default());
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..400 {
        let text = made_up(&mut random);
        if let Err(reason) = compare(&text, &mut random, 20, &mut count) {
            *refused.entry(reason).or_default() += 1;
        }
    }
    println!("{count:?}, refused: {refused:#?}");
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(count.matches * 20 > count.events, "{count:?}");
}

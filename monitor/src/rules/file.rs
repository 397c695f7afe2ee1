//! Rule files: YAML lists of `rule`, `macro` and `list`, as Falco has them, our `correlation`, which Falco passes over,
//! and our `tests` and `taffrail` beside a rule.

use std::sync::Arc;

use hashbrown::HashMap;

use super::ast::{Expr, Place, Word};
use super::compile::{self, Names};
use super::doubt;
use super::parser;
use super::state::Stateful;
use super::template::Template;
use super::{Priority, Rule, example, state};
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::probe::hook::ALL_KINDS;
use crate::yaml::{self, Kind, Node};

const RULE_KEYS: &[&str] = &[
    "rule",
    "desc",
    "condition",
    "output",
    "priority",
    "response",
    "tags",
    "enabled",
    "source",
    "tests",
    "taffrail",
];

const CORRELATION_KEYS: &[&str] =
    &["correlation", "desc", "output", "priority", "response", "tags", "enabled", "tests", "taffrail"];

/// A rule as it is written, its condition parsed.
struct Draft {
    name: String,
    at: Span,
    keys: Keys,
    /// As it is written, and parsed; a correlation has none.
    condition: Option<(Arc<Node>, Expr)>,
    source: Arc<Source>,
}

/// Loads files in order. With an error among the diagnostics, the rules are not whole.
pub fn load(sources: &[Arc<Source>]) -> (Vec<Rule>, Names, Vec<Diagnostic>) {
    let mut loader = Loader::default();
    for source in sources {
        match yaml::parse(source) {
            Ok(documents) => documents.iter().for_each(|document| loader.document(document, source)),
            Err(diagnostic) => loader.diagnostics.push(diagnostic),
        }
    }
    loader.finish()
}

#[derive(Default)]
struct Loader {
    names: Names,
    /// Where each macro and list was defined.
    defined: HashMap<String, Span>,
    drafts: Vec<Draft>,
    diagnostics: Vec<Diagnostic>,
}

impl Loader {
    fn document(&mut self, document: &Node, source: &Arc<Source>) {
        match &document.kind {
            Kind::Sequence(items) => items.iter().for_each(|item| self.item(item, source)),
            _ if document.is_null() => {}
            _ => self.diagnostics.push(
                Diagnostic::error("R301", "a rule file is a list of rules, macros and lists")
                    .label(document.span.clone(), format!("this is {}", document.noun()))
                    .hint("begin each entry with `- rule:`, `- macro:` or `- list:`"),
            ),
        }
    }

    fn item(&mut self, item: &Node, source: &Arc<Source>) {
        let keys = Keys::of(item);
        if keys.has("rule") {
            self.rule(item, keys, source);
        } else if keys.has("correlation") {
            self.correlation(item, keys, source);
        } else if keys.has("macro") {
            self.macro_item(item, keys);
        } else if keys.has("list") {
            self.list_item(item, keys);
        } else if keys.has("required_engine_version") || keys.has("required_plugin_versions") {
            // They say what the file needs of Falco; what it needs of us shows when it is compiled.
        } else {
            self.diagnostics.push(
                Diagnostic::error("R302", "neither a rule, a macro nor a list")
                    .label(first_line(&item.span), "this entry")
                    .hint("an entry has one of the keys `rule`, `macro`, `list`"),
            );
        }
    }

    fn rule(&mut self, item: &Node, keys: Keys, source: &Arc<Source>) {
        self.unknown_keys(&keys, RULE_KEYS);
        let name = self.text(item, &keys, "rule");
        let condition = self.require(item, &keys, "condition");
        for key in ["desc", "output", "priority"] {
            self.require(item, &keys, key);
        }
        if let Some(node) = keys.get("response").filter(|node| node.as_text().is_none()) {
            self.wrong_type("response", node, "text");
        }
        let (Some(name), Some(condition)) = (name, condition) else { return };
        let at = keys.get("rule").map_or_else(|| item.span.clone(), |node| node.span.clone());
        let condition = Arc::new(condition);
        match parser::parse(&condition) {
            Ok(expr) => {
                let condition = Some((condition, expr));
                self.draft(Draft { name, at, keys, condition, source: Arc::clone(source) });
            }
            Err(diagnostic) => self.diagnostics.push(diagnostic),
        }
    }

    /// A rule without a condition: it only takes the matches of others.
    fn correlation(&mut self, item: &Node, keys: Keys, source: &Arc<Source>) {
        self.unknown_keys(&keys, CORRELATION_KEYS);
        let name = self.text(item, &keys, "correlation");
        for key in ["desc", "output", "priority"] {
            self.require(item, &keys, key);
        }
        if !keys.has("taffrail") {
            self.missing(item, "taffrail");
            return;
        }
        let Some(name) = name else { return };
        let at = keys.get("correlation").map_or_else(|| item.span.clone(), |node| node.span.clone());
        self.draft(Draft { name, at, keys, condition: None, source: Arc::clone(source) });
    }

    fn draft(&mut self, draft: Draft) {
        if let Some(place) = self.drafts.iter().position(|earlier| earlier.name == draft.name) {
            let earlier = self.drafts.remove(place);
            self.replaced("rule", &draft.name, &draft.at, &earlier.at);
        }
        self.drafts.push(draft);
    }

    fn macro_item(&mut self, item: &Node, keys: Keys) {
        self.unknown_keys(&keys, &["macro", "condition"]);
        let (name, condition) = (self.text(item, &keys, "macro"), self.require(item, &keys, "condition"));
        let (Some(name), Some(condition)) = (name, condition) else { return };
        match parser::parse(&Arc::new(condition)) {
            Ok(expr) => {
                self.define("macro", &name, &keys);
                self.names.macros.insert(name, expr);
            }
            Err(diagnostic) => self.diagnostics.push(diagnostic),
        }
    }

    fn list_item(&mut self, item: &Node, keys: Keys) {
        self.unknown_keys(&keys, &["list", "items"]);
        let (name, items) = (self.text(item, &keys, "list"), self.require(item, &keys, "items"));
        let (Some(name), Some(items)) = (name, items) else { return };
        let Kind::Sequence(nodes) = &items.kind else {
            self.wrong_type("items", &items, "a list");
            return;
        };
        let mut words = Vec::new();
        for node in nodes {
            match &node.kind {
                Kind::Scalar { text, plain } => {
                    let place = Place::whole(&Arc::new(node.clone()));
                    words.push(Word { text: text.clone(), quoted: !plain, place });
                }
                _ => self.wrong_type("items", node, "text"),
            }
        }
        self.define("list", &name, &keys);
        self.names.lists.insert(name, words);
    }

    fn define(&mut self, what: &'static str, name: &str, keys: &Keys) {
        let Some(at) = keys.get(what).map(|node| node.span.clone()) else { return };
        if let Some(earlier) = self.defined.insert(format!("{what} {name}"), at.clone()) {
            self.replaced(what, name, &at, &earlier);
        }
    }

    fn replaced(&mut self, what: &str, name: &str, at: &Span, earlier: &Span) {
        self.diagnostics.push(
            Diagnostic::warning("R307", format!("{what} `{name}` replaces an earlier one of that name"))
                .label(at.clone(), "this one is used")
                .label(earlier.clone(), "this one is not"),
        );
    }

    /// Compiles what was read.
    fn finish(mut self) -> (Vec<Rule>, Names, Vec<Diagnostic>) {
        // Macros that no rule uses are checked too.
        let mut names: Vec<String> = self.names.macros.keys().cloned().collect();
        names.sort();
        for name in names {
            let compiled = self.names.macros.get(&name).map(|expr| compile::compile(expr, &self.names));
            if let Some(condition) = compiled.and_then(|compiled| self.take(compiled)) {
                self.tell(condition.warnings);
            }
        }
        let mut rules = Vec::new();
        for draft in std::mem::take(&mut self.drafts) {
            rules.extend(self.compile(draft));
        }
        self.diagnostics.extend(state::link(&rules));
        (rules, self.names, self.diagnostics)
    }

    fn compile(&mut self, draft: Draft) -> Option<Rule> {
        let Draft { name, at, keys, condition: written, source } = draft;
        let compiled = match &written {
            Some((_, expr)) => self.take(compile::compile(expr, &self.names)),
            None => Some(compile::Condition::never()),
        };
        let output = keys.get("output").map(Template::parse).and_then(|parsed| self.take(parsed));
        let priority = self.priority(&keys);
        let tags = self.texts(&keys, "tags");
        let enabled = self.bool(&keys, "enabled").unwrap_or(true);
        let examples = match keys.get("tests") {
            Some(tests) => self.take(example::parse(tests)),
            None => Some(Vec::new()),
        };
        if let Some(source) = keys.get("source")
            && source.as_text() != Some("syscall")
        {
            self.diagnostics.push(
                Diagnostic::warning("R309", format!("rule `{name}` is for another source of events"))
                    .label(source.span.clone(), "only `syscall` is known here"),
            );
            return None;
        }
        let kinds = compiled.as_ref().map_or(ALL_KINDS, |compiled| compiled.kinds);
        let own = written.as_ref().map(|(node, _)| (&**node, kinds));
        let stateful = self.take(state::read::parse(keys.get("taffrail"), &self.names, own));
        let compile::Condition { node: condition, kinds, calls, warnings } = compiled?;
        let expr = written.as_ref().map_or_else(|| Expr::Or(Vec::new()), |(_, expr)| expr.clone());
        self.tell(warnings);
        let steps = || stateful.iter().flat_map(Stateful::conditions);
        self.tell(steps().flat_map(|filter| filter.warnings.iter().cloned()).collect());
        let all_kinds = steps().fold(kinds, |kinds, filter| kinds | filter.kinds);
        self.tell(doubt::unlimited(all_kinds, &name, at.clone()).into_iter().collect());
        if kinds == 0
            && let Some((written, _)) = &written
        {
            self.diagnostics.push(
                Diagnostic::warning("R308", format!("rule `{name}` can match no event"))
                    .label(written.span.clone(), "no kind of event passes this")
                    .label(at, "this rule"),
            );
        }
        let desc = keys.get("desc").and_then(Node::as_text).unwrap_or_default().trim().to_owned();
        let response = keys.get("response").and_then(Node::as_text).unwrap_or_default().trim().to_owned();
        let (output, priority, examples, stateful) = (output?, priority?, examples?, stateful?);
        Some(Rule {
            name,
            desc,
            response,
            priority,
            tags,
            output,
            enabled,
            source,
            kinds,
            stateful,
            at: 0,
            calls,
            expr,
            condition,
            examples,
        })
    }

    fn priority(&mut self, keys: &Keys) -> Option<Priority> {
        let node = keys.get("priority")?;
        let text = node.as_text().unwrap_or_default();
        let priority = Priority::of(text);
        if priority.is_none() {
            let names: Vec<_> = Priority::ALL.iter().map(|priority| priority.name().to_uppercase()).collect();
            self.diagnostics.push(
                Diagnostic::error("R306", format!("`{text}` is no priority"))
                    .label(node.span.clone(), "not a priority")
                    .hint(format!("use one of {}", names.join(", "))),
            );
        }
        priority
    }

    fn texts(&mut self, keys: &Keys, key: &str) -> Vec<String> {
        let Some(node) = keys.get(key) else { return Vec::new() };
        let Kind::Sequence(nodes) = &node.kind else {
            self.wrong_type(key, node, "a list");
            return Vec::new();
        };
        nodes.iter().filter_map(|node| node.as_text().map(str::to_owned)).collect()
    }

    fn bool(&mut self, keys: &Keys, key: &str) -> Option<bool> {
        let node = keys.get(key)?;
        let value = node.as_bool();
        if value.is_none() {
            self.wrong_type(key, node, "true or false");
        }
        value
    }

    fn text(&mut self, item: &Node, keys: &Keys, key: &'static str) -> Option<String> {
        Some(self.require(item, keys, key)?.as_text()?.to_owned())
    }

    /// The value of a key that must be there. All but the items of a list are texts.
    fn require(&mut self, item: &Node, keys: &Keys, key: &'static str) -> Option<Node> {
        match keys.get(key) {
            Some(node) if key != "items" && node.as_text().is_none() => {
                self.wrong_type(key, node, "text");
                None
            }
            Some(node) => Some(node.clone()),
            None => {
                self.missing(item, key);
                None
            }
        }
    }

    fn missing(&mut self, item: &Node, key: &str) {
        self.diagnostics.push(
            Diagnostic::error("R304", format!("`{key}` is missing"))
                .label(first_line(&item.span), format!("this entry has no `{key}`")),
        );
    }

    fn unknown_keys(&mut self, keys: &Keys, known: &[&'static str]) {
        for (key, node) in &keys.0 {
            if !known.contains(&key.as_str()) {
                self.diagnostics.push(
                    Diagnostic::error("R303", format!("unknown key `{key}`"))
                        .label(node.0.clone(), "not a key here")
                        .did_you_mean(key, known.iter().copied()),
                );
            }
        }
    }

    fn wrong_type(&mut self, key: &str, node: &Node, wanted: &str) {
        self.diagnostics.push(
            Diagnostic::error("R305", format!("`{key}` is {}, not {wanted}", node.noun()))
                .label(first_line(&node.span), format!("needs {wanted}")),
        );
    }

    fn take<T>(&mut self, result: Result<T, Vec<Diagnostic>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(diagnostics) => {
                self.tell(diagnostics);
                None
            }
        }
    }

    /// Tells what was not told before: of a macro that several rules use.
    fn tell(&mut self, diagnostics: Vec<Diagnostic>) {
        for diagnostic in diagnostics {
            if !self.diagnostics.contains(&diagnostic) {
                self.diagnostics.push(diagnostic);
            }
        }
    }
}

/// The keys of an entry, with where the key stands and its value.
pub struct Keys(Vec<(String, (Span, Node))>);

impl Keys {
    /// Of a mapping; none of anything else.
    pub fn of(node: &Node) -> Self {
        let Kind::Mapping(pairs) = &node.kind else { return Self(Vec::new()) };
        let pairs = pairs
            .iter()
            .filter_map(|(key, value)| Some((key.as_text()?.to_owned(), (key.span.clone(), value.clone()))));
        Self(pairs.collect())
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Where a key stands that is none of these.
    pub fn other_than(&self, known: &[&str]) -> Option<Span> {
        self.0.iter().find(|(name, _)| !known.contains(&name.as_str())).map(|(_, (span, _))| span.clone())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, (_, node))| node)
    }
}

/// The first line of a place: whole entries would fill the screen.
pub fn first_line(span: &Span) -> Span {
    let text = &span.source.text[span.range.clone()];
    let len = text.find('\n').unwrap_or(text.len());
    Span { range: span.range.start..span.range.start + len, ..span.clone() }
}

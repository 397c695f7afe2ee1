//! Rule files: YAML lists of rules, macros and lists, as Falco has them, our correlations, which Falco passes over, and
//! our `tests` and `taffrail` beside a rule. Entries are taken in order: a later one replaces an earlier one of its name, or changes it ([`overriding`]). Only
//! what is left at the end is compiled, so a rule can use what stands behind it.

mod exception;
pub mod keys;
mod overriding;
#[cfg(test)]
mod tests;
mod version;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use self::keys::{Keys, Shape, first_line, items, missing};
use self::overriding::{Action, Entry};
use super::ast::{Expr, Place, Word};
use super::compile::{self, Names};
use super::doubt;
use super::lexer::{self, TokenKind};
use super::state::{self, Stateful};
use super::template::Template;
use super::{Priority, Rule, example, parser, sigma};
use crate::diagnostic::{Diagnostic, Severity, Source, Span};
use crate::event::field::KindSet;
use crate::probe::hook::ALL_KINDS;
use crate::yaml::{self, Node};

/// A sort of entry: the key that names it and those that go with it.
struct Kind {
    name: &'static str,
    keys: &'static [Key],
    /// What `append: true` appends to.
    appended: &'static [&'static str],
}

/// A key of an entry.
struct Key {
    name: &'static str,
    shape: Shape,
    required: bool,
    /// What `override` can do to it.
    actions: &'static [Action],
}

const fn key(name: &'static str, shape: Shape, required: bool, actions: &'static [Action]) -> Key {
    Key { name, shape, required, actions }
}

const BOTH: &[Action] = &[Action::Append, Action::Replace];
const REPLACE: &[Action] = &[Action::Replace];

/// `capture` and the like are Falco's recordings of what surrounds an alert: accepted, and without effect.
static RULE: Kind = Kind {
    name: "rule",
    keys: &[
        key("desc", Shape::Text, true, BOTH),
        key("condition", Shape::Text, true, BOTH),
        key("output", Shape::Text, true, BOTH),
        key("priority", Shape::Text, true, REPLACE),
        key("response", Shape::Text, false, BOTH),
        key("tags", Shape::Texts, false, BOTH),
        key("enabled", Shape::Bool, false, REPLACE),
        key("source", Shape::Text, false, &[]),
        key("exceptions", Shape::List, false, BOTH),
        key("warn_evttypes", Shape::Bool, false, REPLACE),
        key("skip-if-unknown-filter", Shape::Bool, false, REPLACE),
        key("capture", Shape::Bool, false, REPLACE),
        key("capture_duration", Shape::Number, false, REPLACE),
        key("capture_events", Shape::Number, false, REPLACE),
        key("capture_filesize", Shape::Number, false, REPLACE),
        key("tests", Shape::List, false, BOTH),
        key("taffrail", Shape::Any, false, REPLACE),
        key("sigma", Shape::Mapping, false, REPLACE),
    ],
    appended: &["condition", "exceptions"],
};

/// A rule without a condition: it only takes the matches of others.
static CORRELATION: Kind = Kind {
    name: "correlation",
    keys: &[
        key("desc", Shape::Text, true, BOTH),
        key("output", Shape::Text, true, BOTH),
        key("priority", Shape::Text, true, REPLACE),
        key("response", Shape::Text, false, BOTH),
        key("taffrail", Shape::Any, true, REPLACE),
        key("tags", Shape::Texts, false, BOTH),
        key("enabled", Shape::Bool, false, REPLACE),
        key("tests", Shape::List, false, BOTH),
        key("sigma", Shape::Mapping, false, REPLACE),
    ],
    appended: &[],
};

static MACRO: Kind =
    Kind { name: "macro", keys: &[key("condition", Shape::Text, true, BOTH)], appended: &["condition"] };

static LIST: Kind =
    Kind { name: "list", keys: &[key("items", Shape::Texts, true, BOTH)], appended: &["items"] };

impl Kind {
    fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// A rule, macro or list as its entries left it.
struct Draft {
    name: String,
    /// Where its name stands.
    at: Span,
    source: Arc<Source>,
    /// What was written for each key: more than one value where later entries appended.
    values: HashMap<&'static str, Vec<Arc<Node>>>,
    /// Number of the entry that defined it first, and of the last one that said something of it.
    first: usize,
    last: usize,
}

impl Draft {
    /// All that was written for a key.
    fn all(&self, key: &str) -> &[Arc<Node>] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// What was written for a key that nothing can be appended to.
    fn one(&self, key: &str) -> Option<&Node> {
        self.all(key).first().map(|node| &**node)
    }

    fn is(&self, key: &str, default: bool) -> bool {
        self.one(key).and_then(Node::as_bool).unwrap_or(default)
    }

    /// The texts of a key, joined by spaces.
    fn text(&self, key: &str) -> String {
        let texts = self.all(key).iter().filter_map(|node| node.as_text()).map(str::trim);
        texts.collect::<Vec<_>>().join(" ")
    }

    fn condition(&self) -> Option<Result<Expr, Vec<Diagnostic>>> {
        let (first, more) = self.all("condition").split_first()?;
        Some(parser::parse_joined(first, more).map_err(|diagnostic| vec![diagnostic]))
    }
}

/// All of one kind, in the order in which they were first defined.
#[derive(Default)]
struct Drafts {
    drafts: Vec<Draft>,
    by_name: HashMap<String, usize>,
    /// Names whose definition has errors: nothing more is said of them.
    broken: HashSet<String>,
}

impl Drafts {
    fn get(&self, name: &str) -> Option<&Draft> {
        self.by_name.get(name).and_then(|&place| self.drafts.get(place))
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Draft> {
        self.by_name.get(name).and_then(|&place| self.drafts.get_mut(place))
    }

    fn insert(&mut self, draft: Draft) {
        match self.by_name.get(&draft.name).copied() {
            Some(place) => self.drafts[place] = draft,
            None => {
                self.by_name.insert(draft.name.clone(), self.drafts.len());
                self.drafts.push(draft);
            }
        }
    }
}

/// What came of the files.
pub struct Loaded {
    /// The rules; not whole if there is an error among the diagnostics.
    pub rules: Vec<Rule>,
    /// Macros and lists.
    pub names: Names,
    /// How many Sigma rules were left out.
    pub left_out: usize,
    /// Errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Loads files in order.
pub fn load(sources: &[Arc<Source>]) -> Loaded {
    let mut loader = Loader::default();
    for source in sources {
        match yaml::parse(source) {
            Ok(documents) => documents.iter().for_each(|document| loader.document(document, source)),
            Err(diagnostic) => loader.told.push(diagnostic),
        }
    }
    loader.finish()
}

#[derive(Default)]
struct Loader {
    rules: Drafts,
    macros: Drafts,
    lists: Drafts,
    /// Conditions of entries that something else is wrong with: theirs is told too.
    unfit: Vec<Expr>,
    sigma: sigma::Loader,
    /// Entries so far.
    entries: usize,
    told: Vec<Diagnostic>,
}

impl Loader {
    fn document(&mut self, document: &Node, source: &Arc<Source>) {
        match &document.kind {
            yaml::Kind::Sequence(items) => items.iter().for_each(|item| self.item(item, source)),
            _ if document.is_null() => {}
            _ if sigma::is_sigma(document) => self.sigma.take(document, source, &mut self.told),
            _ => self.told.push(
                Diagnostic::error("R301", "a rule file is a list of rules, macros and lists")
                    .label(document.span.clone(), format!("this is {}", document.noun()))
                    .hint("begin each entry with `- rule:`, `- macro:` or `- list:`"),
            ),
        }
    }

    fn item(&mut self, item: &Node, source: &Arc<Source>) {
        self.entries += 1;
        let keys = Keys::of(item);
        if let Some(version) = keys.get("required_engine_version") {
            self.told.extend(keys.unknown(&["required_engine_version"]));
            self.told.extend(version::check_engine(version).err());
        } else if let Some(plugins) = keys.get("required_plugin_versions") {
            self.told.extend(keys.unknown(&["required_plugin_versions"]));
            self.told.extend(version::check_plugins(plugins));
        } else if let Some(kind) =
            [&LIST, &MACRO, &RULE, &CORRELATION].into_iter().find(|kind| keys.has(kind.name))
        {
            self.entry(kind, item, &keys, source);
        } else if !item.is_null() {
            self.told.push(
                Diagnostic::error("R302", "neither a rule, a macro nor a list")
                    .label(first_line(&item.span), "this entry")
                    .hint("an entry has one of the keys `rule`, `macro`, `list`"),
            );
        }
    }

    fn entry(&mut self, kind: &'static Kind, item: &Node, keys: &Keys, source: &Arc<Source>) {
        let known: Vec<&str> =
            kind.keys.iter().map(|key| key.name).chain([kind.name, "append", "override"]).collect();
        self.told.extend(keys.unknown(&known));
        let Some(name) = keys.get(kind.name) else { return };
        if let Err(diagnostic) = Shape::Text.check(kind.name, name).and_then(|()| check_name(kind, name)) {
            self.told.push(diagnostic);
            return;
        }
        let draft = Draft {
            name: name.as_text().unwrap_or_default().to_owned(),
            at: name.span.clone(),
            source: Arc::clone(source),
            values: HashMap::new(),
            first: self.entries,
            last: self.entries,
        };
        // Nothing but `enabled` switches an earlier rule on or off.
        let is_switch = kind.key("enabled").is_some_and(|key| keys.has(key.name))
            && !kind.keys.iter().any(|key| key.required && keys.has(key.name));
        match Entry::of(keys, kind, &mut self.told) {
            Some(Entry::Definition) if is_switch => {
                let enabled = kind.key("enabled").map(|key| (key, Action::Replace));
                self.change(kind, &draft, keys, &enabled.into_iter().collect::<Vec<_>>());
            }
            Some(Entry::Definition) => self.define(kind, item, keys, draft),
            Some(Entry::Changes(changes)) => self.change(kind, &draft, keys, &changes),
            None => {}
        }
    }

    fn of(&mut self, kind: &Kind) -> &mut Drafts {
        match kind.name {
            "macro" => &mut self.macros,
            "list" => &mut self.lists,
            _ => &mut self.rules,
        }
    }

    fn define(&mut self, kind: &'static Kind, item: &Node, keys: &Keys, mut draft: Draft) {
        let mut wrong = Vec::new();
        for key in kind.keys {
            match keys.shared(key.name) {
                Some(node) => match key.shape.check(key.name, node) {
                    Ok(()) => {
                        draft.values.insert(key.name, vec![Arc::clone(node)]);
                    }
                    Err(diagnostic) => wrong.push(diagnostic),
                },
                None if key.required => wrong.push(missing(key.name, item)),
                None => {}
            }
        }
        // Told also of a definition that is replaced later.
        let mut condition = None;
        match draft.condition() {
            Some(Ok(expr)) => condition = Some(expr),
            Some(Err(found)) => wrong.extend(found),
            None => {}
        }
        let is_broken = !wrong.is_empty();
        self.told.extend(wrong);
        if is_broken {
            self.of(kind).broken.insert(draft.name);
            self.unfit.extend(condition);
            return;
        }
        if let Some(earlier) = self.of(kind).get(&draft.name) {
            draft.first = earlier.first;
            let noun = if kind.name == "correlation" { "rule" } else { kind.name };
            let diagnostic = Diagnostic::warning(
                "R307",
                format!("{noun} `{}` replaces an earlier one of that name", draft.name),
            )
            .label(draft.at.clone(), "this one is used")
            .label(earlier.at.clone(), "this one is not");
            self.told.push(diagnostic);
        }
        self.of(kind).insert(draft);
    }

    /// Changes an earlier entry.
    fn change(
        &mut self,
        kind: &'static Kind,
        draft: &Draft,
        keys: &Keys,
        changes: &[(&'static Key, Action)],
    ) {
        let Draft { name, at, source, last, .. } = draft;
        let drafts = self.of(kind);
        if drafts.get(name).is_none() {
            if !drafts.broken.contains(name) {
                let known = drafts.drafts.iter().map(|draft| draft.name.as_str());
                let diagnostic =
                    Diagnostic::error("R318", format!("there is no {} `{name}` to change", kind.name))
                        .label(at.clone(), "not defined before this entry")
                        .did_you_mean(name, known);
                self.told.push(diagnostic);
            }
            return;
        }
        let mut wrong = Vec::new();
        let mut values = Vec::new();
        for (key, action) in changes {
            let Some(node) = keys.shared(key.name) else { continue };
            match key.shape.check(key.name, node) {
                Ok(()) => values.push((key.name, *action, Arc::clone(node))),
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
        if let Some(draft) = self.of(kind).get_mut(name) {
            for (key, action, node) in values {
                let written = draft.values.entry(key).or_default();
                if action == Action::Replace {
                    written.clear();
                }
                written.push(node);
            }
            draft.last = *last;
            draft.source = Arc::clone(source);
        }
        self.told.extend(wrong);
    }

    /// Compiles what is left.
    fn finish(mut self) -> Loaded {
        let names = self.names();
        // Macros that no rule uses are checked too.
        for draft in &self.macros.drafts {
            if let Some(expr) = names.macros.get(&draft.name) {
                let compiled = take(&mut self.told, compile::compile(expr, &names));
                tell(&mut self.told, compiled.map(|compiled| compiled.warnings).unwrap_or_default());
            }
        }
        for expr in std::mem::take(&mut self.unfit) {
            take(&mut self.told, compile::compile(&expr, &names));
        }
        let drafts = std::mem::take(&mut self.rules.drafts);
        let mut rules: Vec<Rule> = drafts.iter().filter_map(|draft| self.rule(draft, &names)).collect();
        let taken = rules.iter().map(|rule| rule.name.clone()).collect();
        let of_sigma = std::mem::take(&mut self.sigma).finish(&names, taken, &mut self.told);
        rules.extend(of_sigma.rules);
        self.told.extend(state::link(&rules));
        Loaded { rules, names, left_out: of_sigma.left_out, diagnostics: self.told }
    }

    /// The macros and lists, with a warning where Falco would not find one.
    fn names(&mut self) -> Names {
        let mut names = Names::default();
        for draft in &self.lists.drafts {
            let words: Vec<Word> =
                draft.all("items").iter().flat_map(|node| items(node)).flat_map(value_words).collect();
            for word in words.iter().filter(|word| !word.quoted) {
                self.told.extend(used_before(draft, &word.text, &word.place, &LIST, &self.lists));
            }
            names.lists.insert(draft.name.clone(), words);
        }
        for draft in &self.macros.drafts {
            // What is wrong with it is told, and nothing but that.
            let expr = draft.condition().and_then(|parsed| take(&mut self.told, parsed));
            let expr = expr.unwrap_or(Expr::And(Vec::new()));
            expr.each_macro(&mut |word| {
                self.told.extend(used_before(draft, &word.text, &word.place, &MACRO, &self.macros));
            });
            names.macros.insert(draft.name.clone(), expr);
        }
        for name in &self.macros.broken {
            names.macros.entry(name.clone()).or_insert_with(|| Expr::And(Vec::new()));
        }
        for name in &self.lists.broken {
            names.lists.entry(name.clone()).or_default();
        }
        names
    }

    fn rule(&mut self, draft: &Draft, names: &Names) -> Option<Rule> {
        let name = &draft.name;
        if let Some(source) = draft.one("source").filter(|source| source.as_text() != Some("syscall")) {
            self.told.push(
                Diagnostic::warning("R309", format!("rule `{name}` is for another source of events"))
                    .label(source.span.clone(), "only `syscall` is known here"),
            );
            return None;
        }
        let expr = match draft.condition() {
            Some(parsed) => take(&mut self.told, parsed)
                .map(|expr| exception::except(expr, draft.all("exceptions"), &mut self.told)),
            None => Some(Expr::Or(Vec::new())),
        };
        let compiled = expr.as_ref().map(|expr| compile::compile(expr, names));
        let output = Template::parse(draft.all("output"));
        if draft.is("skip-if-unknown-filter", false) {
            let wrong =
                compiled.iter().filter_map(|compiled| compiled.as_ref().err()).chain(output.as_ref().err());
            let wrong: Vec<Diagnostic> = wrong.flatten().cloned().collect();
            if !wrong.is_empty() && wrong.iter().all(|found| found.code == "R201") {
                self.told.extend(wrong.into_iter().map(|found| left_out(found, name)));
                return None;
            }
        }
        let compiled = compiled.and_then(|compiled| take(&mut self.told, compiled));
        let output = take(&mut self.told, output);
        let priority = self.priority(draft);
        let examples: Vec<_> = draft.all("tests").iter().map(|tests| example::parse(tests)).collect();
        let examples: Option<Vec<_>> =
            examples.into_iter().map(|parsed| take(&mut self.told, parsed)).collect();
        let kinds = compiled.as_ref().map_or(ALL_KINDS, |compiled| compiled.kinds);
        let text = draft.text("condition");
        let own = (!text.is_empty()).then_some((text.as_str(), kinds));
        let stateful = take(&mut self.told, state::read::parse(draft.one("taffrail"), names, own));
        let origin = draft.one("sigma").map(sigma::Origin::parse);
        let origin = match origin.map(|parsed| take(&mut self.told, parsed)) {
            Some(origin) => Some(origin?),
            None => None,
        };
        let output = match &origin {
            Some(origin) => output.map(|output| output.credited(&origin.credit())),
            None => output,
        };
        let compile::Condition { node: condition, kinds, needs, calls, warnings, blind } = compiled?;
        tell(&mut self.told, warnings);
        let steps = || stateful.iter().flat_map(Stateful::conditions);
        tell(&mut self.told, steps().flat_map(|filter| filter.warnings.iter().cloned()).collect());
        self.warn_of_kinds(draft, kinds, &blind);
        if draft.is("warn_evttypes", true) {
            let all_kinds = steps().fold(kinds, |kinds, filter| kinds | filter.kinds);
            self.told.extend(doubt::unlimited(all_kinds, name, draft.at.clone()));
        }
        let mut tags: Vec<String> = Vec::new();
        for tag in draft.all("tags").iter().flat_map(|node| items(node)).filter_map(Node::as_text) {
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        Some(Rule {
            name: name.clone(),
            desc: draft.text("desc"),
            response: draft.text("response"),
            priority: priority?,
            tags,
            output: output?,
            enabled: draft.is("enabled", true),
            source: Arc::clone(&draft.source),
            kinds,
            needs,
            stateful: stateful?,
            at: 0,
            calls,
            expr: expr?,
            condition,
            examples: examples?.concat(),
            origin,
        })
    }

    /// Warns of a condition that nothing passes.
    fn warn_of_kinds(&mut self, draft: &Draft, kinds: KindSet, blind: &[&'static str]) {
        let Draft { name, at, .. } = draft;
        let Some(place) = draft.one("condition").filter(|_| kinds == 0).map(|node| node.span.clone()) else {
            return;
        };
        let diagnostic = if blind.is_empty() {
            Diagnostic::warning("R308", format!("rule `{name}` can match no event"))
                .label(place, "no kind of event passes this")
        } else {
            let names: Vec<_> = blind.iter().map(|name| format!("`{name}`")).collect();
            Diagnostic::warning("R320", format!("rule `{name}` can never match"))
                .label(place, format!("there are no values of {} yet", names.join(", ")))
        };
        self.told.push(diagnostic.label(at.clone(), "this rule"));
    }

    fn priority(&mut self, draft: &Draft) -> Option<Priority> {
        let node = draft.one("priority")?;
        let text = node.as_text().unwrap_or_default();
        let priority = Priority::of(text);
        if priority.is_none() {
            let names: Vec<_> = Priority::ALL.iter().map(|priority| priority.name().to_uppercase()).collect();
            self.told.push(
                Diagnostic::error("R306", format!("`{text}` is no priority"))
                    .label(node.span.clone(), "not a priority")
                    .hint(format!("use one of {}", names.join(", "))),
            );
        }
        priority
    }
}

/// The value, or nothing, and what is wrong is told.
fn take<T>(told: &mut Vec<Diagnostic>, result: Result<T, Vec<Diagnostic>>) -> Option<T> {
    result.map_err(|wrong| tell(told, wrong)).ok()
}

/// Tells what was not told before: of a macro that several rules use.
fn tell(told: &mut Vec<Diagnostic>, found: Vec<Diagnostic>) {
    for diagnostic in found {
        if !told.contains(&diagnostic) {
            told.push(diagnostic);
        }
    }
}

/// Macros are words of a condition; lists are, or could not be told from their neighbours.
fn check_name(kind: &Kind, node: &Node) -> Result<(), Diagnostic> {
    let name = node.as_text().unwrap_or_default();
    let is_right = match kind.name {
        "macro" => {
            name.starts_with(|first: char| first.is_ascii_alphabetic())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        }
        "list" => !name.contains(|char: char| char.is_whitespace() || "()\"'=,".contains(char)),
        _ => true,
    };
    if is_right {
        return Ok(());
    }
    let wanted = match kind.name {
        "macro" => "a letter, then letters, digits and `_`",
        _ => "no space, bracket, quote, comma or `=`",
    };
    Err(Diagnostic::error("R324", format!("`{name}` is no name of a {}", kind.name))
        .label(node.span.clone(), format!("needs {wanted}")))
}

/// A macro or list that uses one of its kind which is defined only behind it: Falco does not find that.
fn used_before(draft: &Draft, used: &str, place: &Place, kind: &Kind, drafts: &Drafts) -> Option<Diagnostic> {
    let later = drafts.get(used).filter(|other| other.first > draft.last)?;
    let Kind { name: noun, .. } = kind;
    let diagnostic = Diagnostic::warning(
        "R319",
        format!("{noun} `{}` uses {noun} `{used}`, which is defined behind it", draft.name),
    );
    Some(
        diagnostic.label(place.span(), "Falco does not find it here").label(later.at.clone(), "defined here"),
    )
}

/// What made a rule with `skip-if-unknown-filter` be skipped.
fn left_out(found: Diagnostic, name: &str) -> Diagnostic {
    let message = format!("rule `{name}` is left out: {}", found.message);
    Diagnostic { code: "R323", severity: Severity::Warning, message, ..found }
}

/// The values in a scalar of a list or an exception, read as in a condition: quotes within it are no part of the
/// value, and `(a, b)` are two. What is quoted for YAML only can be the name of a list.
fn value_words(node: &Node) -> Vec<Word> {
    let text = node.as_text().unwrap_or_default();
    let node = Arc::new(node.clone());
    let word = |text: &str, quoted, range| Word {
        text: text.to_owned(),
        quoted,
        place: Place { node: Arc::clone(&node), range },
    };
    let tokens =
        if text.starts_with(['"', '\'', '(']) { lexer::tokens(text).unwrap_or_default() } else { Vec::new() };
    let inner = match tokens.as_slice() {
        [open, inner @ .., close] if open.kind == TokenKind::Open && close.kind == TokenKind::Close => inner,
        one @ [_] => one,
        _ => &[],
    };
    let words: Option<Vec<Word>> = inner
        .iter()
        .filter(|token| token.kind != TokenKind::Comma)
        .map(|token| match &token.kind {
            TokenKind::Word(text) => Some(word(text, false, token.range.clone())),
            TokenKind::Quoted(text) => Some(word(text, true, token.range.clone())),
            _ => None,
        })
        .collect();
    words.filter(|words| !words.is_empty()).unwrap_or_else(|| vec![word(text, false, 0..text.len())])
}

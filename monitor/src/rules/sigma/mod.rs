//! Sigma: rules, correlations and filters of version 2 of its specification become rules as any other. Documents
//! are read ([`document`], [`detection`], [`condition`], [`modifier`], [`pattern`], [`correlation`]), what they mean
//! here is in one table ([`mapping`]), and [`build`] and [`choice`] make trees of the rule language of them. A rule that has
//! no meaning here is left out, with the reason and its place; it never loads as something else than it says.

mod build;
mod choice;
mod condition;
mod correlation;
mod detection;
mod document;
pub mod export;
pub mod mapping;
mod modifier;
#[cfg(test)]
mod oracle;
mod pattern;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::ast::{Expr, Word};
use super::compile::{self, Names};
use super::state::{self, Stateful};
use super::template::Template;
use super::{Rule, parser};
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::yaml::{self, Node};
use build::{Builder, Truth};
use correlation::{Correlation, Source};
use detection::Detection;
pub use document::is_sigma;
use document::{Document, Header, LogSource};
use mapping::Category;

/// The licence of rules that name none: that of the Sigma project's own.
pub const DEFAULT_LICENSE: &str = "DRL-1.1";

/// Most correlations that build on one another.
const CHAIN_MAX: usize = 16;

/// Most filters.
const FILTERS_MAX: usize = 1_000;

/// Whom a rule comes from, and what its author says of it. The licence of most Sigma rules asks that the author is
/// named wherever a rule matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The rule's id.
    pub id: Option<String>,
    /// Its authors.
    pub author: Option<String>,
    /// Its licence, by its SPDX name.
    pub license: String,
    /// How mature it is.
    pub status: Option<String>,
    /// Where to read more.
    pub references: Vec<String>,
    /// What may match it besides what is meant.
    pub falsepositives: Vec<String>,
}

/// What came of the documents.
#[derive(Default)]
pub struct Loaded {
    /// The rules.
    pub rules: Vec<Rule>,
    /// How many rules were left out.
    pub left_out: usize,
}

/// Reads documents, and makes rules of them once all are there.
#[derive(Default)]
pub struct Loader {
    documents: Vec<Document>,
    left_out: usize,
}

impl Loader {
    /// Takes a document.
    pub fn take(&mut self, node: &Node, source: &Arc<diagnostic::Source>, diagnostics: &mut Vec<Diagnostic>) {
        let (document, found) = document::parse(node, source);
        // Warnings alone are about what this program cannot do.
        self.left_out += usize::from(document.is_none());
        self.documents.extend(document);
        diagnostics.extend(found);
    }

    /// Makes rules of all documents. `taken` is the names of the rules that there are already.
    pub fn finish(self, names: &Names, taken: HashSet<String>, diagnostics: &mut Vec<Diagnostic>) -> Loaded {
        let mut taken = Taken { names: taken, next: HashMap::new() };
        let mut loaded = Loaded { left_out: self.left_out, ..Loaded::default() };
        let mut rules: Vec<(Header, LogSource, Detection)> = Vec::new();
        let mut by_id: HashMap<String, usize> = HashMap::new();
        let (mut filters, mut correlations) = (Vec::new(), Vec::new());
        for document in self.documents {
            match document {
                Document::Rule(header, log_source, detection) => {
                    let at = header.origin.id.as_ref().and_then(|id| by_id.get(id)).copied();
                    match at.and_then(|at| rules.get_mut(at)) {
                        Some(earlier) => {
                            diagnostics.push(replaced(&header, &earlier.0));
                            *earlier = (header, log_source, detection);
                        }
                        None => {
                            by_id.extend(header.origin.id.clone().map(|id| (id, rules.len())));
                            rules.push((header, log_source, detection));
                        }
                    }
                }
                Document::Filter(log_source, detection, for_rules) => {
                    let for_rules = for_rules.into_iter().map(|rule| (rule.text.clone(), rule)).collect();
                    filters.push((log_source, detection, for_rules));
                }
                Document::Correlation(header, correlation) => correlations.push((header, correlation)),
            }
        }
        check_filters(&mut filters, rules.iter().map(|(header, ..)| header), diagnostics);
        let mut spent = 0;
        let mut built: Vec<Built> = Vec::new();
        for (header, log_source, detection) in rules {
            let tied = filters.iter().filter(|(about, _, for_rules)| {
                about.covers(&log_source)
                    && (for_rules.is_empty()
                        || header.called().iter().any(|name| for_rules.contains_key(*name)))
            });
            let tied: Vec<&Detection> = tied.map(|(_, detection, _)| detection).collect();
            match rule(&header, &log_source, &detection, &tied, (names, &mut spent)) {
                Ok((rule, category, warnings)) => {
                    let name = header.unique_name(&mut taken);
                    built.push(Built { rule: Rule { name, ..rule }, categories: vec![category], header });
                    diagnostics.extend(warnings);
                }
                Err(reasons) => {
                    loaded.left_out += 1;
                    diagnostics.extend(header.left_out(reasons));
                }
            }
        }
        loaded.left_out += correlate(correlations, &mut built, names, &mut taken, diagnostics);
        loaded.rules.extend(built.into_iter().map(|built| built.rule));
        loaded
    }
}

/// Events and searches of a filter, and the rules that it is for.
type Filter = (LogSource, Detection, HashMap<String, Word>);

/// Tells of filters for rules that there are not, and of too many filters.
fn check_filters<'a>(
    filters: &mut Vec<Filter>,
    headers: impl Iterator<Item = &'a Header>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if let Some((log_source, ..)) = filters.get(FILTERS_MAX) {
        let message = format!("there are more than {FILTERS_MAX} filters");
        diagnostics.push(Diagnostic::error("S107", message).label(log_source.at.clone(), "one too many"));
        filters.truncate(FILTERS_MAX);
    }
    let called: HashSet<&str> = headers.flat_map(Header::called).collect();
    for rule in filters.iter().flat_map(|(_, _, for_rules)| for_rules.values()) {
        if !called.contains(rule.text.as_str()) {
            diagnostics.push(no_such_rule(rule, called.iter().copied()));
        }
    }
}

/// The names of rules that there are, and which number makes a title a new name.
struct Taken {
    names: HashSet<String>,
    next: HashMap<String, usize>,
}

/// A rule that was made, and what correlations need to know of it.
struct Built {
    rule: Rule,
    header: Header,
    /// What its events are.
    categories: Vec<&'static Category>,
}

/// Makes rules of correlations, which may build on one another; returns how many were left out.
fn correlate(
    mut waiting: Vec<(Header, Correlation)>,
    built: &mut Vec<Built>,
    names: &Names,
    taken: &mut Taken,
    diagnostics: &mut Vec<Diagnostic>,
) -> usize {
    let mut left_out = 0;
    let mut alerting = HashSet::new();
    let mut feeding = HashSet::new();
    let mut called: HashMap<String, usize> = HashMap::new();
    for (at, built) in built.iter().enumerate() {
        called.extend(built.header.called().into_iter().map(|name| (name.to_owned(), at)));
    }
    for _ in 0..CHAIN_MAX {
        let is_there = |rule: &Word| called.contains_key(&rule.text);
        let (ready, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, correlation)| correlation.rules.iter().all(is_there));
        waiting = rest;
        for (header, correlation) in ready {
            let parts = correlation.rules.iter().filter_map(|rule| built.get(*called.get(&rule.text)?));
            match correlated(&header, &correlation, &parts.collect::<Vec<_>>(), names) {
                Ok((rule, categories)) => {
                    let used = rule.stateful.rules().map(|other| other.name.clone());
                    if correlation.generate { &mut alerting } else { &mut feeding }.extend(used);
                    let name = header.unique_name(taken);
                    called.extend(header.called().into_iter().map(|name| (name.to_owned(), built.len())));
                    built.push(Built { rule: Rule { name, ..rule }, header, categories });
                }
                Err(reasons) => {
                    left_out += 1;
                    diagnostics.extend(header.left_out(reasons));
                }
            }
        }
    }
    for (header, correlation) in &waiting {
        left_out += 1;
        let missing = correlation.rules.iter().filter(|rule| !called.contains_key(&rule.text));
        let reasons = missing.map(|rule| no_such_rule(rule, called.keys().map(String::as_str)));
        diagnostics.extend(header.left_out(reasons.collect()));
    }
    for Built { rule, .. } in built {
        if feeding.contains(&rule.name) && !alerting.contains(&rule.name) {
            rule.stateful.silent = true;
        }
    }
    left_out
}

/// The rule of a correlation, without its name, and what the events are that end it.
fn correlated(
    header: &Header,
    correlation: &Correlation,
    parts: &[&Built],
    names: &Names,
) -> Result<(Rule, Vec<&'static Category>), Vec<Diagnostic>> {
    let sources: Vec<Source<'_>> = parts
        .iter()
        .map(|Built { rule, header, categories }| Source {
            name: &rule.name,
            called: header.called(),
            categories,
        })
        .collect();
    let key = correlation.key(&sources).map_err(|reason| vec![reason])?;
    let text = Arc::new(diagnostic::Source { name: "correlation".to_owned(), text: key.to_string() });
    let nodes = yaml::parse(&text).map_err(|reason| vec![reason])?;
    // What is wrong is told of the correlation: the key that was made of it nobody wrote.
    let stateful = state::read::parse(nodes.first(), names, None).map_err(|reasons| {
        let told = |reason: Diagnostic| Diagnostic { labels: Vec::new(), hint: None, ..reason };
        reasons
            .into_iter()
            .map(|reason| told(reason).label(header.at.clone(), "this correlation"))
            .collect::<Vec<_>>()
    })?;
    let mut categories: Vec<&'static Category> = Vec::new();
    for category in parts.iter().flat_map(|part| &part.categories) {
        if !categories.iter().any(|known| std::ptr::eq(*known, *category)) {
            categories.push(category);
        }
    }
    let nothing = Expr::Or(Vec::new());
    let compiled = compile::compile(&nothing, names)?;
    let rule = header.rule(nothing, compiled, correlation::OUTPUT)?;
    let stateful = Stateful { text: format!("\n{key}"), place: Some(header.at.clone()), ..stateful };
    Ok((Rule { stateful, ..rule }, categories))
}

impl Header {
    /// What Sigma calls it.
    fn called(&self) -> Vec<&str> {
        self.origin.id.as_deref().into_iter().chain(self.name.as_deref()).collect()
    }

    /// The reasons why it is left out, as warnings.
    fn left_out(&self, reasons: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let told = |reason: Diagnostic| {
            let message = format!("rule `{}` is left out: {}", self.title, reason.message);
            Diagnostic { severity: Severity::Warning, message, ..reason }
        };
        reasons.into_iter().map(told).collect()
    }

    /// Its rule; the name is not unique yet.
    fn rule(&self, expr: Expr, compiled: compile::Condition, output: &str) -> Result<Rule, Vec<Diagnostic>> {
        let text = Arc::new(diagnostic::Source { name: "output".to_owned(), text: output.to_owned() });
        let compile::Condition { node: condition, kinds, needs, calls, warnings: _, blind: _ } = compiled;
        Ok(Rule {
            name: self.title.clone(),
            desc: self.desc.clone(),
            response: String::new(),
            priority: self.priority,
            tags: self.tags.clone(),
            output: Template::parse(&[Arc::new(Node::whole(&text))])?.credited(&self.origin.credit()),
            enabled: self.enabled,
            source: Arc::clone(&self.source),
            kinds,
            needs,
            stateful: Stateful { text: expr.to_string(), ..Stateful::default() },
            at: 0,
            calls,
            expr,
            condition,
            examples: Vec::new(),
            origin: Some(Arc::new(self.origin.clone())),
        })
    }

    /// A name that no other rule has.
    fn unique_name(&self, taken: &mut Taken) -> String {
        let with_id = self.origin.id.as_ref().map(|id| format!("{} ({id})", self.title));
        for name in [Some(self.title.clone()), with_id].into_iter().flatten() {
            if taken.names.insert(name.clone()) {
                return name;
            }
        }
        let next = taken.next.entry(self.title.clone()).or_insert(2);
        loop {
            let name = format!("{} ({next})", self.title);
            *next += 1;
            if taken.names.insert(name.clone()) {
                return name;
            }
        }
    }
}

impl LogSource {
    /// Whether another is the same, or part of it.
    fn covers(&self, other: &LogSource) -> bool {
        let within = |own: &Option<Word>, other: &Option<Word>| {
            own.as_ref().is_none_or(|own| other.as_ref().is_some_and(|other| other.text == own.text))
        };
        within(&self.category, &other.category)
            && within(&self.product, &other.product)
            && within(&self.service, &other.service)
    }

    fn category(&self) -> Result<&'static Category, Diagnostic> {
        let cannot = |word: Option<&Word>, label: String| {
            let at = word.map_or_else(|| self.at.clone(), |word| word.place.span());
            Diagnostic::warning("S201", "this source of logs is nothing that the kernel sees")
                .label(at, label)
        };
        if let Some(product) = self.product.as_ref().filter(|product| product.text != "linux") {
            return Err(cannot(Some(product), "only `linux` is seen".to_owned()));
        }
        let Some(category) = &self.category else {
            let label = "a service's own log: only what has a `category` can be seen".to_owned();
            return Err(cannot(self.service.as_ref(), label));
        };
        let service = self.service.as_ref().map(|service| service.text.as_str());
        Category::find(&category.text, service).ok_or_else(|| match &self.service {
            Some(service) if Category::find(&category.text, None).is_some() => {
                cannot(Some(service), format!("`{}` is seen, but not as a service writes it", category.text))
            }
            _ => cannot(Some(category), "not a category that is seen".to_owned())
                .did_you_mean(&category.text, mapping::CATEGORIES.iter().map(|known| known.category)),
        })
    }
}

fn no_such_rule<'a>(rule: &Word, known: impl Iterator<Item = &'a str>) -> Diagnostic {
    Diagnostic::warning("S109", format!("there is no rule of the id or name `{}`", rule.text))
        .label(rule.place.span(), "used here")
        // To compare with all of many would take long.
        .did_you_mean(&rule.text, known.take(200))
}

fn replaced(header: &Header, earlier: &Header) -> Diagnostic {
    Diagnostic::warning("R307", format!("rule `{}` replaces an earlier one of its id", header.title))
        .label(header.at.clone(), "this one is used")
        .label(earlier.at.clone(), "this one is not")
}

/// A rule without its name, the category of its events, and warnings; or why it is left out.
fn rule(
    header: &Header,
    log_source: &LogSource,
    detection: &Detection,
    filters: &[&Detection],
    (names, spent): (&Names, &mut usize),
) -> Result<(Rule, &'static Category, Vec<Diagnostic>), Vec<Diagnostic>> {
    let category = log_source.category().map_err(|reason| vec![reason])?;
    let (tree, mut warnings) = tree(category, detection, filters, (names, spent))?;
    let mut compiled = compile::compile(&tree, names)?;
    warnings.append(&mut compiled.warnings);
    Ok((header.rule(tree, compiled, category.output)?, category, warnings))
}

/// The tree of a rule over all classes of its category, and warnings; or why there is none.
fn tree(
    category: &'static Category,
    detection: &Detection,
    filters: &[&Detection],
    (names, spent): (&Names, &mut usize),
) -> Result<(Expr, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut alive = vec![false; detection.searches.len()];
    let mut reasons: Vec<Diagnostic> = Vec::new();
    let mut parts = Vec::new();
    for class in category.classes.iter().filter(|class| class.is_meant_by(detection)) {
        let mut builder = Builder::new(category, class, &names.lists, spent);
        let found = builder.detection(detection);
        alive.iter_mut().zip(&builder.alive).for_each(|(alive, more)| *alive |= more);
        let mut filtered = Vec::new();
        for filter in filters {
            // One filter that cannot be used is enough, of what may be many.
            if builder.reasons.is_empty() {
                filtered.push(builder.detection(filter));
            }
        }
        for reason in builder.reasons {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        let source = Arc::new(diagnostic::Source {
            name: category.category.to_owned(),
            text: class.condition.to_owned(),
        });
        let of_class = parser::parse(&Arc::new(Node::whole(&source))).map_err(|reason| vec![reason])?;
        let of_class = [Truth::When(of_class), found].into_iter().chain(filtered);
        if let Truth::When(expr) = Truth::all(of_class) {
            parts.push(expr);
        }
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let dead = detection.names.iter().zip(&alive).filter(|(_, alive)| !**alive).map(|((name, place), _)| {
        Diagnostic::warning("S206", format!("search `{name}` finds nothing"))
            .label(place.span(), "no one event has all of these fields")
    });
    let dead: Vec<Diagnostic> = dead.collect();
    match parts.len() {
        0 if dead.is_empty() => {
            let place = detection.place.span();
            Err(vec![Diagnostic::warning("S206", "it can match no event").label(place, "holds for no event")])
        }
        0 => Err(dead),
        1 => Ok((parts.swap_remove(0), dead)),
        _ => Ok((Expr::Or(parts), dead)),
    }
}

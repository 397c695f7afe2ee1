//! Rules: Falco's language ([`lexer`], [`parser`], [`ast`]), looked up and checked ([`compile`]), ready to
//! match ([`matcher`]) and to print ([`template`]); what they remember is in [`state`]. [`file`] reads the YAML. A set of rules is checked whole
//! before it can be used.

pub mod ast;
pub mod attack;
mod compile;
mod doubt;
pub mod example;
pub mod explain;
mod file;
pub mod kinds;
mod lexer;
pub mod matcher;
mod maturity;
pub mod network;
pub mod operand;
pub mod parser;
pub mod path;
pub mod pattern;
pub mod sigma;
pub mod state;
mod template;
mod transform;
mod typed;

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::diagnostic::{Diagnostic, Severity, Source, Span};
use crate::event::field::{self, Field, KindSet, Values};
use crate::yaml;
use ast::Expr;
use compile::Names;
pub use example::{Expected, Outcome, run_examples};
use matcher::Node;
pub use maturity::Maturity;
pub use template::{Template, write_value};

/// How bad a match is, worst first, as in syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The system is unusable.
    Emergency,
    /// Act at once.
    Alert,
    /// Critical.
    Critical,
    /// An error.
    Error,
    /// A warning.
    Warning,
    /// Normal, but to be noted.
    Notice,
    /// For information.
    Informational,
    /// For debugging.
    Debug,
}

impl Priority {
    const ALL: &'static [Priority] = &[
        Priority::Emergency,
        Priority::Alert,
        Priority::Critical,
        Priority::Error,
        Priority::Warning,
        Priority::Notice,
        Priority::Informational,
        Priority::Debug,
    ];

    /// Falco's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Priority::Emergency => "Emergency",
            Priority::Alert => "Alert",
            Priority::Critical => "Critical",
            Priority::Error => "Error",
            Priority::Warning => "Warning",
            Priority::Notice => "Notice",
            Priority::Informational => "Informational",
            Priority::Debug => "Debug",
        }
    }

    /// By name, in upper or lower case; `INFO` is `INFORMATIONAL`.
    fn of(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("info") { "informational" } else { name };
        Self::ALL.iter().copied().find(|priority| priority.name().eq_ignore_ascii_case(name))
    }
}

/// One rule, ready to match.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, unique in the set.
    pub name: String,
    /// Why it is there.
    pub desc: String,
    /// What to do first when it matches; may be empty.
    pub response: String,
    /// How bad a match is.
    pub priority: Priority,
    /// Tags, such as ATT&CK ids.
    pub tags: Vec<String>,
    /// What a match prints.
    pub output: Template,
    /// Whether it takes part.
    pub enabled: bool,
    /// The file that it is in.
    pub source: Arc<Source>,
    /// The kinds of event that it can match.
    pub kinds: KindSet,
    /// What has to be watched for its fields, beside these.
    needs: KindSet,
    /// What it does beyond matching.
    pub stateful: state::Stateful,
    /// Its place in the set.
    pub at: usize,
    calls: BTreeSet<String>,
    expr: Expr,
    condition: Node,
    examples: Vec<example::Example>,
    /// Whom it comes from, if it was written for Sigma.
    pub origin: Option<Arc<sigma::Origin>>,
}

impl Rule {
    /// Whether it matches.
    pub fn matches(&self, values: &impl Values) -> bool {
        self.condition.holds(values)
    }

    /// The system calls that it asks for by name, also for its steps, and that are no event unless they are chosen.
    pub fn all_calls(&self) -> BTreeSet<String> {
        let steps = self.stateful.conditions().flat_map(|filter| &filter.calls);
        self.calls.iter().chain(steps).cloned().collect()
    }

    /// The ATT&CK techniques among its tags: `T1611`, `T1552.007`.
    pub fn techniques(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(String::as_str).filter(|tag| {
            tag.strip_prefix('T')
                .is_some_and(|number| number.starts_with(|first: char| first.is_ascii_digit()))
        })
    }

    /// The kinds of event that it looks at, also for its steps.
    pub fn all_kinds(&self) -> KindSet {
        self.stateful.conditions().fold(self.kinds, |kinds, filter| kinds | filter.kinds)
    }

    /// What has to be watched for its fields, also for its steps and its output, beside the kinds of event.
    fn all_needs(&self) -> KindSet {
        let steps = self.stateful.conditions().map(|filter| filter.needs);
        let keys = self.stateful.operands().map(|operand| kinds::needs(operand.field));
        steps.chain(keys).fold(self.needs | self.output.needs(), |all, needs| all | needs)
    }

    /// What has to hold.
    pub fn condition(&self) -> &Node {
        &self.condition
    }

    /// The number of its examples that should match, and of those that should not.
    pub fn example_counts(&self) -> (usize, usize) {
        let matching = self.examples.iter().filter(|example| example.expected != Expected::None).count();
        (matching, self.examples.len() - matching)
    }
}

/// A whole, checked set of rules.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// In the order of the files.
    pub rules: Vec<Rule>,
    names: Names,
    /// How many Sigma rules have no meaning here and were left out.
    pub left_out: usize,
    hash: String,
}

impl RuleSet {
    /// Loads a set from its files, in order: a later definition of the same name replaces an earlier one.
    /// Returns the warnings too; or all diagnostics, if there is an error.
    pub fn load(sources: &[Arc<Source>]) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let file::Loaded { mut rules, names, left_out, diagnostics } = file::load(sources);
        rules.iter_mut().enumerate().for_each(|(at, rule)| rule.at = at);
        if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            return Err(diagnostics);
        }
        let mut hash = Sha256::new();
        for source in sources {
            hash.update((source.text.len() as u64).to_le_bytes());
            hash.update(source.text.as_bytes());
        }
        Ok((Self { rules, names, left_out, hash: hex(&hash.finalize()) }, diagnostics))
    }

    /// The kinds of event that any enabled rule can match, and what else their fields need.
    pub fn kinds(&self) -> KindSet {
        self.enabled().fold(0, |kinds, rule| kinds | rule.all_kinds() | rule.all_needs())
    }

    /// The system calls that any enabled rule asks for by name and that are no event unless they are chosen.
    pub fn calls(&self) -> BTreeSet<String> {
        self.enabled().flat_map(Rule::all_calls).collect()
    }

    /// The rules that take part.
    pub fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled)
    }

    /// The rule of that name.
    pub fn find(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// A rule's condition with macros and lists put in place.
    pub fn expanded(&self, rule: &Rule) -> Expr {
        explain::expand(&rule.expr, &self.names)
    }

    /// Switches rules off by name.
    pub fn disable(&mut self, names: &[String]) {
        self.rules.iter_mut().filter(|rule| names.contains(&rule.name)).for_each(|rule| rule.enabled = false);
    }

    /// SHA-256 over the files, as hex digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// The names that rules have in files, whatever else is wrong with these; `None` if not all can be told.
pub fn names(sources: &[Arc<Source>]) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for source in sources {
        for document in yaml::parse(source).ok()? {
            let yaml::Kind::Sequence(items) = &document.kind else {
                // A rule of Sigma has its name only once it is translated.
                if document.is_null() { continue } else { return None }
            };
            let mappings = items.iter().filter_map(|item| match &item.kind {
                yaml::Kind::Mapping(pairs) => Some(pairs),
                _ => None,
            });
            for (key, value) in mappings.flatten() {
                if matches!(key.as_text(), Some("rule" | "correlation")) {
                    names.insert(value.as_text()?.to_owned());
                }
            }
        }
    }
    Some(names)
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A condition that stands alone: a filter.
#[derive(Clone, Debug)]
pub struct Filter {
    condition: Node,
    /// The kinds of event that it can match.
    pub kinds: KindSet,
    /// What has to be watched for its fields, beside these.
    pub needs: KindSet,
    /// The system calls that it asks for by name and that are no event unless they are chosen.
    pub calls: BTreeSet<String>,
    /// What is legal, but hardly meant.
    pub warnings: Vec<Diagnostic>,
    /// The fields in it, and where they stand.
    pub fields: Vec<(&'static Field, Span)>,
}

impl Filter {
    /// Compiles the condition in a scalar. It can use no macros or lists.
    pub fn compile(node: &yaml::Node) -> Result<Self, Vec<Diagnostic>> {
        Self::compile_with(node, &Names::default())
    }

    /// Compiles the condition in a scalar, with these macros and lists.
    fn compile_with(node: &yaml::Node, names: &Names) -> Result<Self, Vec<Diagnostic>> {
        let expr = parser::parse(&Arc::new(node.clone())).map_err(|diagnostic| vec![diagnostic])?;
        let compile::Condition { node, kinds, needs, calls, warnings, blind: _ } =
            compile::compile(&expr, names)?;
        let mut fields = Vec::new();
        expr.each_field(&mut |word| {
            fields.extend(field::find(&word.text).map(|field| (field, word.place.span())))
        });
        Ok(Self { condition: node, kinds, needs, calls, warnings, fields })
    }

    /// Compiles a condition from somewhere else than a file, such as `--filter`.
    pub fn from_text(text: &str, name: &str) -> Result<Self, Vec<Diagnostic>> {
        let source = Arc::new(Source { name: name.to_owned(), text: text.to_owned() });
        Self::compile(&yaml::Node::whole(&source))
    }

    /// The condition as a tree.
    pub fn node(&self) -> &Node {
        &self.condition
    }

    /// Whether an event passes.
    pub fn matches(&self, values: &impl Values) -> bool {
        self.condition.holds(values)
    }
}

macro_rules! embedded {
    ($( $file:literal ),* $(,)?) => {
        /// The rules that come with the program.
        pub fn embedded() -> Vec<Arc<Source>> {
            vec![ $( Arc::new(Source {
                name: concat!("rules/", $file).to_owned(),
                text: include_str!(concat!("../../../rules/", $file)).to_owned(),
            }) ),* ]
        }
    };
}
embedded!(
    "macros.yaml",
    "execution.yaml",
    "persistence.yaml",
    "privilege_escalation.yaml",
    "escape.yaml",
    "credential_access.yaml",
    "discovery.yaml",
    "defense_evasion.yaml",
    "network.yaml",
    "kernel.yaml",
    "runtime.yaml",
    "cluster.yaml",
    "impact.yaml",
);

#[cfg(test)]
mod tests;

//! Sigma's correlations: so many events, so many values, or several events near each other, within a time. They
//! become the key `taffrail` of a rule without a condition ([`super::super::state`]), which does the rest.

use serde_json::{Value as Json, json};

use super::detection::{first_line, missing, wrong_type};
use super::document::{get, word, words};
use super::mapping::{Category, Class, To};
use crate::diagnostic::Diagnostic;
use crate::rules::ast::Word;
use crate::yaml::{Kind, Node};

/// What an alert of a correlation prints, about the event that was the last.
pub const OUTPUT: &str = "count=%alert.count event=%evt.type image=%proc.exepath command=%proc.exeline user=%user.name container=%container.id";

/// Names of fields for the machine that something happens on: a container is one.
const MACHINES: &[&str] = &["Computer", "ComputerName", "Hostname", "host", "host.name", "hostname"];

/// A rule whose events count.
pub struct Source<'a> {
    /// Its name here.
    pub name: &'a str,
    /// What Sigma calls it: its id and its name.
    pub called: Vec<&'a str>,
    /// What its events are.
    pub categories: &'a [&'static Category],
}

/// Most fields of one group.
const FIELDS_MAX: usize = 8;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `event_count`: so many events.
    Events(u32),
    /// `value_count`: so many distinct values of a field.
    Values(u32, Word),
    /// `temporal`: an event of each rule, in any order; `temporal_ordered`: in the order of the rules.
    Each {
        /// Whether their order matters.
        ordered: bool,
    },
}

/// A correlation.
#[derive(Clone, Debug)]
pub struct Correlation {
    /// What is looked for.
    pub wanted: Wanted,
    /// The rules whose events count, by id or name.
    pub rules: Vec<Word>,
    /// The fields whose values tell what belongs together.
    pub group_by: Vec<Word>,
    /// Other names of fields.
    aliases: Vec<Alias>,
    /// How long it takes at most, in ns.
    pub within_ns: u64,
    /// Whether its rules raise alerts too.
    pub generate: bool,
}

/// Another name of fields.
#[derive(Clone, Debug)]
struct Alias {
    name: Word,
    /// Which field it is in the events of which rule.
    fields: Vec<(Word, Word)>,
}

impl Correlation {
    /// Reads it from its mapping.
    pub fn parse(node: &Node) -> Result<Self, Vec<Diagnostic>> {
        if !matches!(node.kind, Kind::Mapping(_)) {
            return Err(vec![wrong_type(node, "a mapping")]);
        }
        let mut diagnostics = Vec::new();
        let wanted = wanted(node).map_err(|found| diagnostics.push(found)).ok();
        let rules = match get(node, "rules") {
            // One rule may stand without a list.
            Some(rules) if rules.as_text().is_some() => word(rules).map(|rule| vec![rule]),
            Some(rules) => words(rules),
            None => Err(missing(node, "rules")),
        };
        let rules = rules.map_err(|found| diagnostics.push(found)).ok();
        let group_by = get(node, "group-by").map_or(Ok(Vec::new()), words);
        let group_by = group_by.map_err(|found| diagnostics.push(found)).ok();
        if group_by.as_ref().is_some_and(|fields| fields.len() > FIELDS_MAX) {
            let message = format!("more than {FIELDS_MAX} fields of one group");
            diagnostics.push(Diagnostic::error("S107", message).label(first_line(node), "here"));
        }
        let aliases = get(node, "aliases").map_or(Ok(Vec::new()), aliases);
        let aliases = aliases.map_err(|found| diagnostics.push(found)).ok();
        let within_ns = match get(node, "timespan") {
            Some(timespan) => nanoseconds(timespan),
            None => Err(missing(node, "timespan")),
        };
        let within_ns = within_ns.map_err(|found| diagnostics.push(found)).ok();
        let generate = match get(node, "generate") {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| wrong_type(value, "true or false")),
        };
        let generate = generate.map_err(|found| diagnostics.push(found)).ok();
        match (wanted, rules, group_by, aliases, within_ns, generate) {
            (Some(wanted), Some(rules), Some(group_by), Some(aliases), Some(within_ns), Some(generate))
                if diagnostics.is_empty() =>
            {
                Ok(Self { wanted, rules, group_by, aliases, within_ns, generate })
            }
            _ => Err(diagnostics),
        }
    }

    /// The key `taffrail`, as JSON, which is YAML too.
    pub fn key(&self, sources: &[Source<'_>]) -> Result<Json, Diagnostic> {
        let within = format!("{}s", self.within_ns / 1_000_000_000);
        let mut keys: Vec<Vec<&str>> = Vec::new();
        for source in sources {
            let fields = self.group_by.iter().map(|field| self.field_of(field, source));
            keys.push(fields.collect::<Result<_, _>>()?);
        }
        let names: Vec<&str> = sources.iter().map(|source| source.name).collect();
        let (count, distinct) = match &self.wanted {
            Wanted::Each { ordered } => {
                let steps: Vec<Json> =
                    names.iter().zip(&keys).map(|(name, by)| json!({ "rule": name, "by": by })).collect();
                let by = keys.first().cloned().unwrap_or_default();
                return Ok(
                    json!({ "sequence": { "ordered": ordered, "within": within, "by": by, "steps": steps } }),
                );
            }
            Wanted::Events(count) => (count, None),
            Wanted::Values(count, field) => (count, Some(field)),
        };
        let same = |found: Vec<&'static str>, written: &Word| match found.first() {
            Some(first) if found.iter().all(|other| other == first) => Ok(*first),
            _ => Err(differs(written)),
        };
        let of_all = |field: &Word| {
            let found = sources.iter().map(|source| self.field_of(field, source));
            same(found.collect::<Result<_, _>>()?, field)
        };
        let by = self.group_by.iter().map(of_all).collect::<Result<Vec<_>, _>>()?;
        let mut threshold = json!({ "count": count, "within": within, "by": by, "rules": names });
        if let Some(field) = distinct {
            threshold["distinct"] = json!(of_all(field)?);
        }
        Ok(json!({ "threshold": threshold }))
    }

    /// Our field for one of Sigma's, or an alias of it, in the events of a rule.
    fn field_of(&self, field: &Word, source: &Source<'_>) -> Result<&'static str, Diagnostic> {
        let alias = self.aliases.iter().find(|alias| alias.name.text == field.text);
        let is_meant = |rule: &Word| source.called.contains(&rule.text.as_str());
        let of_rule = alias.and_then(|alias| alias.fields.iter().find(|(rule, _)| is_meant(rule)));
        let field = of_rule.map_or(field, |(_, name)| name);
        if MACHINES.contains(&field.text.as_str()) {
            return Ok("container.id");
        }
        let classes = || source.categories.iter().flat_map(|category| category.classes);
        let ours = |class: &Class| match class.get(&field.text)? {
            To::Field(name) | To::Program { runs: name, asked: _ } => Some(name),
            To::Always(_) => None,
        };
        let mut found = classes().filter_map(ours);
        let Some(name) = found.next() else {
            let known = classes().flat_map(Class::all).map(|(name, _)| name);
            let message = format!("there is no field `{}` in the events of `{}`", field.text, source.name);
            return Err(Diagnostic::warning("S202", message)
                .label(field.place.span(), "not a field here")
                .did_you_mean(&field.text, known));
        };
        if found.any(|other| other != name) { Err(differs(field)) } else { Ok(name) }
    }
}

fn differs(field: &Word) -> Diagnostic {
    let message = format!("`{}` is not the same field in all of the events", field.text);
    Diagnostic::warning("S205", message).label(field.place.span(), "here")
}

fn wanted(node: &Node) -> Result<Wanted, Diagnostic> {
    const TYPES: [&str; 4] = ["event_count", "value_count", "temporal", "temporal_ordered"];
    const OTHERS: [&str; 4] = ["value_sum", "value_avg", "value_percentile", "value_median"];
    let kind = word(get(node, "type").ok_or_else(|| missing(node, "type"))?)?;
    let condition = get(node, "condition");
    match kind.text.as_str() {
        "event_count" => Ok(Wanted::Events(count(condition.ok_or_else(|| missing(node, "condition"))?)?)),
        "value_count" => {
            let condition = condition.ok_or_else(|| missing(node, "condition"))?;
            let field = get(condition, "field").ok_or_else(|| missing(condition, "field"))?;
            let field = match &field.kind {
                Kind::Sequence(fields) if fields.len() == 1 => word(&fields[0])?,
                Kind::Sequence(_) => {
                    return Err(unsupported("values of several fields together cannot be counted", field));
                }
                _ => word(field)?,
            };
            Ok(Wanted::Values(count(condition)?, field))
        }
        "temporal" | "temporal_ordered" => match condition {
            None => Ok(Wanted::Each { ordered: kind.text == "temporal_ordered" }),
            Some(condition) => {
                let rules = get(node, "rules").map_or(0, |rules| match &rules.kind {
                    Kind::Sequence(rules) => rules.len(),
                    _ => 1,
                });
                let all = matches!(condition.kind, Kind::Mapping(_))
                    && usize::try_from(count(condition)?) == Ok(rules);
                match all {
                    true => Ok(Wanted::Each { ordered: kind.text == "temporal_ordered" }),
                    false => Err(unsupported("only all rules together can be waited for", condition)),
                }
            }
        },
        other if OTHERS.contains(&other) => {
            let message = format!("correlations of the type `{other}` are not supported");
            Err(Diagnostic::warning("S205", message).label(kind.place.span(), "here"))
        }
        other => Err(Diagnostic::error("S105", format!("there is no correlation type `{other}`"))
            .label(kind.place.span(), "here")
            .did_you_mean(other, TYPES.into_iter())),
    }
}

fn unsupported(message: &str, node: &Node) -> Diagnostic {
    Diagnostic::warning("S205", message).label(first_line(node), "here")
}

/// How many it takes. What is told as it happens cannot wait for the end of the time to see that there were few.
fn count(node: &Node) -> Result<u32, Diagnostic> {
    let Kind::Mapping(pairs) = &node.kind else { return Err(wrong_type(node, "a mapping")) };
    let mut found = None;
    for (key, value) in pairs {
        let more = match key.as_text().unwrap_or_default() {
            "field" => continue,
            "gte" | "eq" => 0,
            "gt" => 1,
            "lt" | "lte" => {
                return Err(unsupported(
                    "that there are few of something cannot be told before the time is over",
                    key,
                ));
            }
            other => {
                return Err(Diagnostic::error("S105", format!("`{other}` is no comparison"))
                    .label(key.span.clone(), "here")
                    .hint("use one of `gte`, `gt`, `eq`"));
            }
        };
        let number =
            value.as_number().and_then(|number| u32::try_from(number).ok()).map(|n| n.saturating_add(more));
        let number = number.ok_or_else(|| wrong_type(value, "a count"))?;
        if found.replace(number).is_some() {
            return Err(unsupported("only one comparison is possible", key));
        }
    }
    match found {
        Some(0 | 1) => Err(unsupported("one event is enough for this, which needs no correlation", node)),
        Some(count) => Ok(count),
        None => Err(missing(node, "gte")),
    }
}

fn aliases(node: &Node) -> Result<Vec<Alias>, Diagnostic> {
    let Kind::Mapping(pairs) = &node.kind else { return Err(wrong_type(node, "a mapping")) };
    let alias = |(name, rules): &(Node, Node)| {
        let Kind::Mapping(pairs) = &rules.kind else { return Err(wrong_type(rules, "a mapping")) };
        let fields = pairs.iter().map(|(rule, field)| Ok((word(rule)?, word(field)?)));
        Ok(Alias { name: word(name)?, fields: fields.collect::<Result<_, _>>()? })
    };
    pairs.iter().map(alias).collect()
}

/// `10s`, `5m`, `1h`, `2d`, in ns.
fn nanoseconds(node: &Node) -> Result<u64, Diagnostic> {
    let text = node.as_text().unwrap_or_default();
    let seconds = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => 0,
    };
    let number: Option<u64> = text.get(..text.len().saturating_sub(1)).and_then(|digits| digits.parse().ok());
    number.and_then(|number| number.checked_mul(seconds * 1_000_000_000)).filter(|ns| *ns > 0).ok_or_else(
        || {
            Diagnostic::error("S102", format!("`{text}` is no time span"))
                .label(first_line(node), "here")
                .hint("write a number and a unit, such as `30s`, `5m`, `1h`, `2d`")
        },
    )
}

//! Sigma's `detection`: named searches of fields and values, and the condition that ties them. What the fields
//! are here is not looked at yet ([`super::build`]).

use std::sync::Arc;

use super::condition::{self, Condition};
use super::modifier::Modifiers;
use crate::diagnostic::Diagnostic;
use crate::rules::ast::Place;
use crate::yaml::{Kind, Node};

/// Most searches of one detection.
const SEARCHES_MAX: usize = 1_000;

/// Deepest nesting of lists and maps within a search.
const DEPTH_MAX: usize = 8;

/// What a rule looks for.
#[derive(Clone, Debug)]
pub struct Detection {
    /// Names of the searches and where they stand.
    pub names: Vec<(String, Place)>,
    /// The searches, in the same order.
    pub searches: Vec<Search>,
    /// How they are tied.
    pub condition: Condition,
    /// Where the condition stands.
    pub place: Place,
}

/// One search, or a part of it.
#[derive(Clone, Debug)]
pub enum Search {
    /// All parts find the event.
    All(Vec<Search>),
    /// One part finds it.
    Any(Vec<Search>),
    /// A field and its values.
    Item(Item),
}

/// A field and its values.
#[derive(Clone, Debug)]
pub struct Item {
    /// The field's name; empty for words that may stand in any field.
    pub field: String,
    /// Where its name stands; of words without a field the first of them.
    pub place: Place,
    /// What stands behind the name.
    pub modifiers: Modifiers,
    /// The values.
    pub values: Vec<Value>,
}

/// A value as it is written.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its text; none if it is `null`.
    pub text: Option<String>,
    /// Where it stands.
    pub place: Place,
}

impl Detection {
    /// Reads it from its mapping. In a filter, `rules` beside the searches names what it applies to.
    pub fn parse(node: &Node, is_filter: bool) -> Result<Self, Vec<Diagnostic>> {
        let Kind::Mapping(pairs) = &node.kind else { return Err(vec![wrong_type(node, "a mapping")]) };
        let mut diagnostics = Vec::new();
        let (mut names, mut searches, mut written) = (Vec::new(), Vec::new(), None);
        for (key, value) in pairs {
            match key.as_text().unwrap_or_default() {
                "condition" => written = Some(value),
                "rules" if is_filter => {}
                "timeframe" => diagnostics.push(
                    Diagnostic::error("S110", "`timeframe` is of Sigma 1")
                        .label(key.span.clone(), "here")
                        .hint("version 2 has correlation rules in its place"),
                ),
                name => match search(value, 0) {
                    Ok(search) => {
                        names.push((name.to_owned(), Place::whole(&Arc::new(key.clone()))));
                        searches.push(search);
                    }
                    Err(diagnostic) => diagnostics.push(diagnostic),
                },
            }
        }
        if searches.len() > SEARCHES_MAX {
            let message = format!("more than {SEARCHES_MAX} searches");
            diagnostics.push(Diagnostic::error("S107", message).label(first_line(node), "in this detection"));
        }
        let known: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        let condition = match written {
            None => Err(missing(node, "condition")),
            // A search that could not be read is not one that is missing.
            Some(_) if !diagnostics.is_empty() => return Err(diagnostics),
            Some(Node { kind: Kind::Sequence(nodes), .. }) if !nodes.is_empty() => nodes
                .iter()
                .map(|node| one_condition(node, &known))
                .collect::<Result<_, _>>()
                .map(Condition::Or),
            Some(node) => one_condition(node, &known),
        };
        match condition {
            Ok(condition) if diagnostics.is_empty() => {
                let place = Place::whole(&Arc::new(written.unwrap_or(node).clone()));
                Ok(Self { names, searches, condition, place })
            }
            Ok(_) => Err(diagnostics),
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                Err(diagnostics)
            }
        }
    }
}

impl Detection {
    /// Whether a field is named in it.
    pub fn names_field(&self, field: &str) -> bool {
        self.searches.iter().any(|search| search.names_field(field))
    }
}

impl Search {
    fn names_field(&self, field: &str) -> bool {
        match self {
            Search::All(parts) | Search::Any(parts) => parts.iter().any(|part| part.names_field(field)),
            Search::Item(item) => item.field == field,
        }
    }
}

fn one_condition(node: &Node, names: &[&str]) -> Result<Condition, Diagnostic> {
    if node.as_text().is_none() {
        return Err(wrong_type(node, "text"));
    }
    condition::parse(&Arc::new(node.clone()), names)
}

fn search(node: &Node, depth: usize) -> Result<Search, Diagnostic> {
    if depth > DEPTH_MAX {
        let message = format!("nested deeper than {DEPTH_MAX} levels");
        return Err(Diagnostic::error("S107", message).label(first_line(node), "here"));
    }
    match &node.kind {
        Kind::Mapping(pairs) if !pairs.is_empty() => {
            pairs.iter().map(|(key, value)| item(key, value)).collect::<Result<_, _>>().map(Search::All)
        }
        Kind::Sequence(nodes) if !nodes.is_empty() => {
            let (words, others): (Vec<&Node>, Vec<&Node>) =
                nodes.iter().partition(|node| node.as_text().is_some());
            let mut parts: Vec<Search> =
                others.iter().map(|node| search(node, depth + 1)).collect::<Result<_, _>>()?;
            if !words.is_empty() {
                parts.push(keywords(&words));
            }
            Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Search::Any(parts) })
        }
        Kind::Scalar { .. } if !node.is_null() => Ok(keywords(&[node])),
        _ => Err(wrong_type(node, "a list, a mapping or text")),
    }
}

fn keywords(nodes: &[&Node]) -> Search {
    let values: Vec<Value> = nodes.iter().map(|node| value(node)).collect();
    let place = Place::whole(&Arc::new(nodes[0].clone()));
    Search::Item(Item { field: String::new(), place, modifiers: Modifiers::default(), values })
}

fn item(key: &Node, node: &Node) -> Result<Search, Diagnostic> {
    let text = key.as_text().ok_or_else(|| wrong_type(key, "text"))?;
    let mut names = text.split('|');
    let field = names.next().unwrap_or_default().trim().to_owned();
    let modifiers = Modifiers::parse(names, &key.span)?;
    let values = match &node.kind {
        Kind::Scalar { .. } => vec![value(node)],
        Kind::Sequence(nodes) if !nodes.is_empty() => {
            let scalar = |node: &Node| match &node.kind {
                Kind::Scalar { .. } => Ok(value(node)),
                _ => Err(wrong_type(node, "a value")),
            };
            nodes.iter().map(scalar).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong_type(node, "a value or a list of values")),
    };
    let place = Place { node: Arc::new(key.clone()), range: 0..field.len() };
    Ok(Search::Item(Item { field, place, modifiers, values }))
}

fn value(node: &Node) -> Value {
    let text = if node.is_null() { None } else { node.as_text().map(str::to_owned) };
    Value { text, place: Place::whole(&Arc::new(node.clone())) }
}

/// A value is of another type than it must be.
pub fn wrong_type(node: &Node, wanted: &str) -> Diagnostic {
    Diagnostic::error("S102", format!("this is {}, not {wanted}", node.noun()))
        .label(first_line(node), format!("needs {wanted}"))
}

/// A key that must be there is not.
pub fn missing(node: &Node, key: &str) -> Diagnostic {
    Diagnostic::error("S101", format!("`{key}` is missing")).label(first_line(node), "here")
}

/// Where a node begins: whole documents would fill the screen.
pub fn first_line(node: &Node) -> crate::diagnostic::Span {
    crate::rules::file::keys::first_line(&node.span)
}

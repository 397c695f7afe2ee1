//! Sigma's documents: rules, correlations, filters. Their keys become typed values; anything wrong with them is
//! told with its place. What a document is shows by its keys.

use std::sync::Arc;

use super::correlation::Correlation;
use super::detection::{Detection, first_line, missing, wrong_type};
use super::{DEFAULT_LICENSE, Origin};
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::rules::Priority;
use crate::rules::ast::{Place, Word};
use crate::yaml::{Kind, Node};

/// Longest title, in bytes.
const TITLE_MAX: usize = 256;

/// Most items of a list about a rule (tags, references …).
const LIST_MAX: usize = 200;

/// What a document says of itself.
#[derive(Clone, Debug)]
pub struct Header {
    /// `title`
    pub title: String,
    /// Where the title stands.
    pub at: Span,
    /// `name`, by which correlations and filters call it.
    pub name: Option<String>,
    /// `description`
    pub desc: String,
    /// `level`
    pub priority: Priority,
    /// `tags`, in our form.
    pub tags: Vec<String>,
    /// Whether its status lets it take part.
    pub enabled: bool,
    /// Whom it comes from.
    pub origin: Origin,
    /// The file.
    pub source: Arc<Source>,
}

/// The events that a rule or filter is about.
#[derive(Clone, Debug)]
pub struct LogSource {
    /// `category`
    pub category: Option<Word>,
    /// `product`
    pub product: Option<Word>,
    /// `service`
    pub service: Option<Word>,
    /// Where it stands.
    pub at: Span,
}

/// A document.
#[derive(Clone, Debug)]
pub enum Document {
    /// A rule.
    Rule(Header, LogSource, Detection),
    /// A filter, and the rules that it is for: by id or name; none means all.
    Filter(LogSource, Detection, Vec<Word>),
    /// A correlation.
    Correlation(Header, Correlation),
}

/// Whether a document is one of Sigma's.
pub fn is_sigma(node: &Node) -> bool {
    ["detection", "logsource", "correlation"].iter().any(|key| get(node, key).is_some())
}

/// Reads a document. There may be warnings if it is good, and there are errors if it is not.
pub fn parse(node: &Node, source: &Arc<Source>) -> (Option<Document>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let document = read(node, source, &mut diagnostics);
    (document, diagnostics)
}

fn read(node: &Node, source: &Arc<Source>, diagnostics: &mut Vec<Diagnostic>) -> Option<Document> {
    if let Some((key, _)) = pair(node, "action") {
        diagnostics.push(
            Diagnostic::error("S110", "`action` is of Sigma 1")
                .label(key.span.clone(), "here")
                .hint("write each rule out as a whole"),
        );
        return None;
    }
    let header = header(node, source, diagnostics);
    if let Some(correlation) = get(node, "correlation") {
        let correlation = keep(Correlation::parse(correlation), diagnostics)?;
        return Some(Document::Correlation(header?, correlation));
    }
    let log_source = match get(node, "logsource") {
        Some(found) => keep(LogSource::parse(found).map_err(|found| vec![found]), diagnostics),
        None => keep(Err(vec![missing(node, "logsource")]), diagnostics),
    };
    if let Some(filter) = get(node, "filter") {
        let rules = match get(filter, "rules") {
            // The word `any` stands for all rules of the log source.
            Some(rules) if rules.as_text() == Some("any") => Some(Vec::new()),
            Some(rules) => keep(words(rules).map_err(|found| vec![found]), diagnostics),
            None => keep(Err(vec![missing(filter, "rules")]), diagnostics),
        };
        let detection = keep(Detection::parse(filter, true), diagnostics);
        header?;
        return Some(Document::Filter(log_source?, detection?, rules?));
    }
    let detection = match get(node, "detection") {
        Some(found) => keep(Detection::parse(found, false), diagnostics),
        None => keep(Err(vec![missing(node, "detection")]), diagnostics),
    };
    Some(Document::Rule(header?, log_source?, detection?))
}

fn keep<T>(result: Result<T, Vec<Diagnostic>>, diagnostics: &mut Vec<Diagnostic>) -> Option<T> {
    result.map_err(|found| diagnostics.extend(found)).ok()
}

/// A key of a mapping and its value.
fn pair<'a>(node: &'a Node, key: &str) -> Option<&'a (Node, Node)> {
    let Kind::Mapping(pairs) = &node.kind else { return None };
    pairs.iter().find(|(name, _)| name.as_text() == Some(key))
}

/// The value of a key of a mapping.
pub fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    pair(node, key).map(|(_, value)| value)
}

/// A scalar as a word.
pub fn word(node: &Node) -> Result<Word, Diagnostic> {
    let text = node.as_text().filter(|_| !node.is_null()).ok_or_else(|| wrong_type(node, "text"))?;
    Ok(Word { text: text.to_owned(), quoted: true, place: Place::whole(&Arc::new(node.clone())) })
}

/// A list of words.
pub fn words(node: &Node) -> Result<Vec<Word>, Diagnostic> {
    match &node.kind {
        Kind::Sequence(nodes) if nodes.len() > LIST_MAX => {
            let message = format!("the list has more than {LIST_MAX} items");
            Err(Diagnostic::error("S107", message).label(first_line(node), "here"))
        }
        Kind::Sequence(nodes) => nodes.iter().map(word).collect(),
        _ => Err(wrong_type(node, "a list")),
    }
}

impl LogSource {
    fn parse(node: &Node) -> Result<Self, Diagnostic> {
        if !matches!(node.kind, Kind::Mapping(_)) {
            return Err(wrong_type(node, "a mapping"));
        }
        let optional = |key: &str| get(node, key).map(word).transpose();
        Ok(Self {
            category: optional("category")?,
            product: optional("product")?,
            service: optional("service")?,
            at: first_line(node),
        })
    }
}

fn header(node: &Node, source: &Arc<Source>, diagnostics: &mut Vec<Diagnostic>) -> Option<Header> {
    let Some(title_node) = get(node, "title") else {
        diagnostics.push(missing(node, "title"));
        return None;
    };
    let title = keep(word(title_node).map_err(|found| vec![found]), diagnostics)?.text.trim().to_owned();
    if title.is_empty() || title.len() > TITLE_MAX {
        let message = format!("a title has 1 to {TITLE_MAX} bytes");
        diagnostics
            .push(Diagnostic::error("S107", message).label(first_line(title_node), "this one has not"));
        return None;
    }
    // Text about a rule is never a reason not to load it: whatever it is, it is taken as text.
    let text = |key: &str| get(node, key).and_then(Node::as_text).map(|text| text.trim().to_owned());
    let texts = |key: &str| match get(node, key).map(|node| &node.kind) {
        Some(Kind::Sequence(nodes)) => {
            nodes.iter().take(LIST_MAX).filter_map(|node| Some(node.as_text()?.trim().to_owned())).collect()
        }
        Some(Kind::Scalar { text, .. }) if !text.is_empty() => vec![text.trim().to_owned()],
        _ => Vec::new(),
    };
    let priority = match get(node, "level") {
        None => Priority::Notice,
        Some(level) => priority(level).unwrap_or_else(|found| {
            diagnostics.push(found);
            Priority::Notice
        }),
    };
    let status = text("status");
    let enabled = !matches!(status.as_deref(), Some("deprecated" | "unsupported"));
    if let (false, Some(status)) = (enabled, get(node, "status")) {
        diagnostics.push(
            Diagnostic::warning("S207", format!("rule `{title}` is switched off by its status"))
                .label(status.span.clone(), "here"),
        );
    }
    Some(Header {
        at: title_node.span.clone(),
        name: text("name"),
        desc: text("description").filter(|text| !text.is_empty()).unwrap_or_else(|| title.clone()),
        priority,
        tags: texts("tags").iter().map(|text| tag(text)).collect(),
        enabled,
        origin: Origin {
            id: text("id"),
            author: text("author"),
            license: text("license").unwrap_or_else(|| DEFAULT_LICENSE.to_owned()),
            status,
            references: texts("references"),
            falsepositives: texts("falsepositives"),
        },
        source: Arc::clone(source),
        title,
    })
}

fn priority(level: &Node) -> Result<Priority, Diagnostic> {
    const LEVELS: &[(&str, Priority)] = &[
        ("informational", Priority::Informational),
        ("low", Priority::Notice),
        ("medium", Priority::Warning),
        ("high", Priority::Error),
        ("critical", Priority::Critical),
    ];
    let text = level.as_text().unwrap_or_default();
    let found = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, priority)| *priority).ok_or_else(|| {
        let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
        Diagnostic::warning("S108", format!("`{text}` is no level, so `low` is taken"))
            .label(first_line(level), "not a level")
            .hint(format!("use one of `{}`", names.join("`, `")))
    })
}

/// A tag in our form: `attack.t1059.004` is `T1059.004`, `attack.privilege-escalation` is
/// `mitre_privilege_escalation`; all others stay as they are.
fn tag(text: &str) -> String {
    let Some(name) = text.strip_prefix("attack.") else { return text.to_owned() };
    let is_numbered = name.get(1..).is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    });
    match name.bytes().next() {
        Some(b't' | b'T') if is_numbered => name.to_ascii_uppercase(),
        Some(b's' | b'g' | b'm' | b'a') if is_numbered => text.to_owned(),
        _ if name.starts_with("ds") && name[2..].bytes().all(|byte| byte.is_ascii_digit()) => text.to_owned(),
        _ => format!("mitre_{}", name.replace(['-', ' '], "_")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_attack_have_our_form() {
        for (sigma, ours) in [
            ("attack.t1059.004", "T1059.004"),
            ("attack.t1059", "T1059"),
            ("attack.privilege-escalation", "mitre_privilege_escalation"),
            ("attack.privilege_escalation", "mitre_privilege_escalation"),
            ("attack.stealth", "mitre_stealth"),
            ("attack.s0508", "attack.s0508"),
            ("attack.ds0009", "attack.ds0009"),
            ("cve.2021-44228", "cve.2021-44228"),
            ("detection.threat-hunting", "detection.threat-hunting"),
            ("attack.", "mitre_"),
            ("attack.tä1", "mitre_tä1"),
        ] {
            assert_eq!(tag(sigma), ours);
        }
    }
}

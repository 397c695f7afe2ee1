//! Output templates: text with `%field` in it. Values are escaped, since whoever runs in a container chose
//! them; a field that an event does not have is `<NA>`, as in Falco.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::operand::Source;
use super::parser;
use super::transform;
use crate::detect::alert::ALERT_FIELDS;
use crate::diagnostic::Diagnostic;
use crate::event::field::{KindSet, Value, Values};
use crate::event::text::{escape, escaped};
use crate::yaml;

/// Most characters that a field is filled to.
const WIDTH_MAX: usize = 256;

/// A template.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
    written: String,
    /// Whom to name behind it.
    credit: String,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Value {
        source: Source,
        /// Characters that it fills: it is cut, or has spaces behind it.
        width: Option<usize>,
    },
}

impl Template {
    /// Parses the template that is in scalars, which are joined by spaces; all unknown fields are told.
    pub fn parse(nodes: &[Arc<yaml::Node>]) -> Result<Self, Vec<Diagnostic>> {
        let mut parts = Vec::new();
        let mut diagnostics = Vec::new();
        for node in nodes {
            if !parts.is_empty() {
                parts.push(Part::Text(" ".to_owned()));
            }
            read(node, &mut parts, &mut diagnostics);
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let written: Vec<&str> = nodes.iter().filter_map(|node| node.as_text()).map(str::trim).collect();
        Ok(Self { parts, written: written.join(" "), credit: String::new() })
    }

    /// As it is written, without whom it names.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// What has to be watched for its fields, beside the events that have them.
    pub fn needs(&self) -> KindSet {
        self.parts.iter().fold(0, |all, part| match part {
            Part::Text(_) => all,
            Part::Value { source, .. } => all | source.needs(),
        })
    }

    /// Names whom the rule comes from behind the text.
    pub fn credited(self, credit: &str) -> Self {
        Self { credit: format!(" ({})", escaped(credit.as_bytes())), ..self }
    }
    /// Writes the text for an event.
    pub fn render(&self, values: &impl Values, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value { source, width } => {
                    let start = out.len();
                    let mut any = false;
                    source.for_each(values, &mut |value| {
                        if any {
                            out.push(',');
                        }
                        any = true;
                        write_value(&value, out);
                    });
                    if !any {
                        out.push_str("<NA>");
                    }
                    if let Some(width) = width {
                        fill(start, *width, out);
                    }
                }
            }
        }
        out.push_str(&self.credit);
    }
}

/// Reads one scalar. Falco's `*` before the text or a field (keep the output even without the value) needs no mark
/// here, and a width (`%20proc.name`) is Falco's too.
fn read(node: &Arc<yaml::Node>, parts: &mut Vec<Part>, diagnostics: &mut Vec<Diagnostic>) {
    let text = node.as_text().unwrap_or_default().trim_end();
    let mut rest = text.trim_start();
    while let Some((before, after)) = rest.split_once('%') {
        parts.push(Part::Text(before.strip_suffix('*').unwrap_or(before).to_owned()));
        let digits = after.find(|char: char| !char.is_ascii_digit()).unwrap_or(after.len());
        let written = &after[digits..];
        let len = operand_len(written);
        if len == 0 {
            parts.push(Part::Text("%".to_owned()));
            rest = after;
            continue;
        }
        let start = text.len() - written.len();
        rest = &written[len..];
        match source(node, start..start + len) {
            Ok(source) => parts.push(Part::Value { source, width: after[..digits].parse().ok() }),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    parts.push(Part::Text(rest.to_owned()));
}

/// The length of the field or transformer that a text begins with.
fn operand_len(text: &str) -> usize {
    let is_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_');
    let name = text.find(|char| !is_name(char)).unwrap_or(text.len());
    match text[name..].chars().next() {
        Some('(') if name > 0 => {
            let mut depth = 0usize;
            let end = text.char_indices().skip(name).find(|(_, char)| {
                depth += usize::from(*char == '(');
                depth -= usize::from(*char == ')');
                depth == 0
            });
            end.map_or(text.len(), |(end, _)| end + 1)
        }
        Some('[') if name > 0 => text[name..].find(']').map_or(name, |end| name + end + 1),
        // A full stop after a field ends the sentence.
        _ => text[..name].trim_end_matches('.').len(),
    }
}

fn source(node: &Arc<yaml::Node>, range: Range<usize>) -> Result<Source, Diagnostic> {
    let text = node.as_text().and_then(|text| text.get(range.clone())).unwrap_or_default();
    if let Some(field) = ALERT_FIELDS.iter().find(|field| field.name == text) {
        return Ok(Source::Field(field, None));
    }
    Ok(transform::operand(&parser::parse_operand(node, range)?)?.source)
}

/// Cuts or fills what stands behind `start` to that many characters.
fn fill(start: usize, width: usize, out: &mut String) {
    let len = out[start..].chars().count();
    if let Some((end, _)) = out[start..].char_indices().nth(width) {
        out.truncate(start + end);
    }
    out.extend(std::iter::repeat_n(' ', width.min(WIDTH_MAX).saturating_sub(len)));
}

/// Appends a value as text.
pub fn write_value(value: &Value<'_>, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match value {
        Value::Number(number) => write!(out, "{number}"),
        Value::Bool(bool) => write!(out, "{bool}"),
        Value::Address(address) => write!(out, "{address}"),
        Value::Text(_) | Value::Inline(_) => {
            escape(value.text().unwrap_or_default(), out);
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::testing::{self, with_subject};

    fn parsed(text: &str) -> Result<Template, Vec<Diagnostic>> {
        let source = Arc::new(Source { name: "t".to_owned(), text: text.to_owned() });
        Template::parse(&[Arc::new(yaml::Node::whole(&source))])
    }

    #[test]
    fn fields_are_put_in_place_in_all_of_falcos_forms() {
        let records = [
            testing::exec(6, 500, (1, 10), "/usr/sbin/sshd", &["sshd: x"]),
            testing::exec(7, 1_000, (6, 500), "/bin/sh", &["-sh", "-c", "a b"]),
        ];
        for (template, expected) in [
            ("a %proc.name b", "a sh b"),
            ("*%proc.name %fd.name", "sh <NA>"),
            ("%proc.name.", "sh."),
            ("%proc.aname[1]-%proc.name", "sshd-sh"),
            ("%evt.arg.exe %evt.arg[comm]", "-sh sh"),
            ("(%proc.env[HOME])", "(<NA>)"),
            ("[%5proc.name][%1proc.name]", "[sh   ][s]"),
            ("100% % %(x) %proc.name[", "100% % %(x) sh["),
            ("%proc.name]", "sh]"),
            ("%toupper(proc.name), %tolower(fd.name).", "SH, <NA>."),
            ("%concat(proc.name, \"-\", toupper(proc.name)))", "sh-SH)"),
            ("%toupper(proc.name)%len(proc.name)", "SH2"),
        ] {
            with_subject(&records, |subject| {
                let mut out = String::new();
                parsed(template).unwrap().render(subject, &mut out);
                assert_eq!(out, expected, "{template}");
            });
        }
    }

    #[test]
    fn each_unknown_field_of_a_template_is_told() {
        let found = parsed("%proc.nmae %proc.name[2] %proc.name").unwrap_err();
        assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), ["R201", "R206"]);
        for text in ["%toupper(proc.name", "%nothing(proc.name)", "%toupper(proc.pid)"] {
            let found = parsed(text).map(|_| ()).unwrap_err();
            assert!(found.iter().all(|one| !one.labels.is_empty()), "{text}");
        }
    }
}

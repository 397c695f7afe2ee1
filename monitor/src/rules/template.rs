//! Output templates: text with `%field` in it. Values are escaped, since whoever runs in a container chose
//! them; a field that an event does not have is `<NA>`, as in Falco.

use std::fmt::Write as _;

use super::compile::unknown_field;
use crate::detect::alert::ALERT_FIELDS;
use crate::diagnostic::Diagnostic;
use crate::event::field::{self, Field, Get, Value, Values};
use crate::event::text::escape;
use crate::yaml;

/// A template.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Field(&'static Field, Option<u32>),
}

impl Template {
    /// Parses the template in a scalar; all unknown fields are told.
    pub fn parse(node: &yaml::Node) -> Result<Self, Vec<Diagnostic>> {
        let text = node.as_text().unwrap_or_default();
        let mut parts = Vec::new();
        let mut diagnostics = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            // Falco's `*%field` (keep the output even without the value) needs no mark here.
            parts.push(Part::Text(before.strip_suffix('*').unwrap_or(before).to_owned()));
            let at = text.len() - after.len();
            let name_len = after
                .find(|char: char| !(char.is_ascii_alphanumeric() || matches!(char, '.' | '_')))
                .unwrap_or(after.len());
            // A full stop after a field ends the sentence.
            let name = after[..name_len].trim_end_matches('.');
            rest = &after[name.len()..];
            if name.is_empty() {
                parts.push(Part::Text("%".to_owned()));
                continue;
            }
            let index = index(&mut rest);
            match field::find(name).or_else(|| ALERT_FIELDS.iter().find(|field| field.name == name)) {
                Some(field)
                    if index.is_some() && !matches!(field.get, Get::Ancestors(_) | Get::Indexed(_)) =>
                {
                    let message = format!("`{name}` takes no number in brackets");
                    diagnostics
                        .push(Diagnostic::error("R206", message).label(node.part(at..at + name.len()), ""));
                }
                Some(field) => parts.push(Part::Field(field, index)),
                None => diagnostics.push(unknown_field(name, node.part(at..at + name.len()))),
            }
        }
        parts.push(Part::Text(rest.to_owned()));
        if diagnostics.is_empty() { Ok(Self { parts }) } else { Err(diagnostics) }
    }

    /// Writes the text for an event.
    pub fn render(&self, values: &impl Values, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(field, index) => {
                    let mut any = false;
                    values.any(field, *index, &mut |value| {
                        if any {
                            out.push(',');
                        }
                        any = true;
                        write_value(&value, out);
                        false
                    });
                    if !any {
                        out.push_str("<NA>");
                    }
                }
            }
        }
    }

    /// The fields that the text has values of.
    pub fn fields(&self) -> impl Iterator<Item = (&'static Field, Option<u32>)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(field, index) => Some((*field, *index)),
            Part::Text(_) => None,
        })
    }
}

/// Takes `[7]` from the start of a text.
fn index(rest: &mut &str) -> Option<u32> {
    let (number, after) = rest.strip_prefix('[')?.split_once(']')?;
    let number = number.parse().ok()?;
    *rest = after;
    Some(number)
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

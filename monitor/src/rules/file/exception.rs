//! Exceptions: fields, how each is compared, and rows of values for which the rule is silent. They become a part
//! of the rule's tree, in which each value knows where it was written.

use std::sync::Arc;

use super::keys::{Keys, items, missing, wrong_shape};
use super::value_words;
use crate::diagnostic::{Diagnostic, Span};
use crate::rules::ast::{Expr, Op, Operand, Place, Quantifier, Right, Test};
use crate::rules::parser;
use crate::yaml::{Kind, Node};

const KEYS: &[&str] = &["name", "fields", "comps", "values"];

/// An exception, with the values that all entries gave it.
struct Exception {
    name: String,
    at: Span,
    columns: Vec<Column>,
    /// Whether `fields` is one field and no list: then each value is a row.
    is_single: bool,
    rows: Vec<Node>,
}

/// A field and how it is compared.
struct Column {
    field: Operand,
    op: Op,
    op_place: Place,
    quantifier: Option<Quantifier>,
}

/// A condition and the exceptions from it. Each list is what one entry says: the first one that names an
/// exception defines it, later ones add values.
pub fn except(condition: Expr, lists: &[Arc<Node>], told: &mut Vec<Diagnostic>) -> Expr {
    let mut exceptions: Vec<Exception> = Vec::new();
    for list in lists {
        let mut names: Vec<(String, Span)> = Vec::new();
        for node in items(list) {
            let keys = Keys::of(node);
            let Some((name, at)) = name(node, &keys, told) else { continue };
            if let Some((_, first)) = names.iter().find(|(other, _)| *other == name) {
                told.push(
                    Diagnostic::error("R314", format!("exception `{name}` is there twice"))
                        .label(at, "again")
                        .label(first.clone(), "first"),
                );
                continue;
            }
            match exceptions.iter_mut().find(|known| known.name == name) {
                Some(known) => known.add(&keys, told),
                None => exceptions.extend(define(node, &keys, &name, &at, told)),
            }
            names.push((name, at));
        }
    }
    let silent: Vec<Expr> = exceptions
        .iter()
        .filter_map(|exception| exception.expr(told))
        .map(|expr| Expr::Not(Box::new(expr)))
        .collect();
    if silent.is_empty() { condition } else { Expr::And([vec![condition], silent].concat()) }
}

fn name(node: &Node, keys: &Keys, told: &mut Vec<Diagnostic>) -> Option<(String, Span)> {
    if !matches!(node.kind, Kind::Mapping(_)) {
        told.push(wrong_shape("exceptions", node, "a list of mappings"));
        return None;
    }
    told.extend(keys.unknown(KEYS));
    match keys.get("name") {
        Some(name) if name.as_text().is_some() => {
            Some((name.as_text().unwrap_or_default().to_owned(), name.span.clone()))
        }
        Some(other) => {
            told.push(wrong_shape("name", other, "text"));
            None
        }
        None => {
            told.push(missing("name", node));
            None
        }
    }
}

fn define(node: &Node, keys: &Keys, name: &str, at: &Span, told: &mut Vec<Diagnostic>) -> Option<Exception> {
    let Some(fields) = keys.get("fields") else {
        told.push(
            missing("fields", node).hint("only an exception of an earlier entry can be added to without"),
        );
        return None;
    };
    let is_single = fields.as_text().is_some();
    let columns = match columns(fields, keys.get("comps"), is_single) {
        Ok(columns) => columns,
        Err(diagnostic) => {
            told.push(diagnostic);
            return None;
        }
    };
    let rows = rows(keys, told)?;
    Some(Exception { name: name.to_owned(), at: at.clone(), columns, is_single, rows })
}

fn rows(keys: &Keys, told: &mut Vec<Diagnostic>) -> Option<Vec<Node>> {
    match keys.get("values") {
        Some(values) if matches!(values.kind, Kind::Sequence(_)) => Some(items(values).to_vec()),
        Some(values) if !values.is_null() => {
            told.push(wrong_shape("values", values, "a list"));
            None
        }
        _ => Some(Vec::new()),
    }
}

fn columns(fields: &Node, comps: Option<&Node>, is_single: bool) -> Result<Vec<Column>, Diagnostic> {
    let fields: Vec<Arc<Node>> = match &fields.kind {
        Kind::Sequence(fields) => fields.iter().cloned().map(Arc::new).collect(),
        Kind::Scalar { .. } => vec![Arc::new(fields.clone())],
        Kind::Mapping(_) => return Err(wrong_shape("fields", fields, "a field or a list of fields")),
    };
    let Some(comps) = comps else {
        let op = if is_single { Op::In } else { Op::Eq };
        return fields
            .iter()
            .map(|field| {
                Ok(Column { field: operand(field)?, op, op_place: Place::whole(field), quantifier: None })
            })
            .collect();
    };
    if comps.as_text().is_some() != is_single {
        let wanted = if is_single { "one operator, as `fields` is one field" } else { "a list, as `fields`" };
        return Err(wrong_shape("comps", comps, wanted));
    }
    let written = if is_single { std::slice::from_ref(comps) } else { items(comps) };
    if written.len() != fields.len() {
        let message = format!("{} operators for {} fields", written.len(), fields.len());
        return Err(Diagnostic::error("R312", message)
            .label(comps.span.clone(), "needs one for each field")
            .hint("leave `comps` out if all are `=`"));
    }
    fields.iter().zip(written).map(|(field, comp)| column(field, comp, is_single)).collect()
}

fn column(field: &Arc<Node>, comp: &Node, is_single: bool) -> Result<Column, Diagnostic> {
    let text = comp.as_text().unwrap_or_default();
    let mut words = text.split_whitespace();
    let op = words.next().and_then(Op::of);
    let quantifier = words.next();
    let known = quantifier.map(Quantifier::of);
    let (Some(op), None, None | Some(Some(_))) = (op, words.next(), known) else {
        return Err(Diagnostic::error("R311", format!("`{text}` is no operator"))
            .label(comp.span.clone(), "not an operator")
            .did_you_mean(text, Op::ALL.iter().map(|op| op.text())));
    };
    let is_for_lists = op.takes_list() || known.is_some();
    if is_single && !is_for_lists {
        return Err(Diagnostic::error("R311", format!("`{text}` compares with one value"))
            .label(comp.span.clone(), "the values of one field are a list")
            .label(field.span.clone(), "one field")
            .hint(format!(
                "write `fields: [{}]` and `comps: [{text}]`",
                field.as_text().unwrap_or_default()
            )));
    }
    if op == Op::Exists || (op.takes_list() && known.is_some()) {
        return Err(Diagnostic::error("R311", format!("`{text}` is no operator of exceptions"))
            .label(comp.span.clone(), "takes no value of its own"));
    }
    let op_place = Place::whole(&Arc::new(comp.clone()));
    Ok(Column { field: operand(field)?, op, op_place, quantifier: known.flatten() })
}

fn operand(field: &Arc<Node>) -> Result<Operand, Diagnostic> {
    match field.as_text() {
        Some(text) => parser::parse_operand(field, 0..text.len()),
        None => Err(wrong_shape("fields", field, "a field")),
    }
}

impl Exception {
    /// Takes the values that a later entry adds.
    fn add(&mut self, keys: &Keys, told: &mut Vec<Diagnostic>) {
        for key in ["fields", "comps"] {
            if let Some(node) = keys.get(key) {
                told.push(
                    Diagnostic::error("R314", format!("exception `{}` has its `{key}` already", self.name))
                        .label(node.span.clone(), "only values can be added")
                        .label(self.at.clone(), "defined here"),
                );
            }
        }
        self.rows.extend(rows(keys, told).unwrap_or_default());
    }

    /// When the rule is silent; `None` if there are no values.
    fn expr(&self, told: &mut Vec<Diagnostic>) -> Option<Expr> {
        if let (true, [column]) = (self.is_single, self.columns.as_slice()) {
            let words = self.rows.iter().flat_map(|row| match row.as_text() {
                Some(_) => value_words(row),
                None => {
                    told.push(wrong_shape("values", row, "text, as `fields` is one field"));
                    Vec::new()
                }
            });
            let words: Vec<_> = words.collect();
            return (!words.is_empty()).then(|| column.test(Right::Values(words)));
        }
        let rows: Vec<Expr> = self.rows.iter().filter_map(|row| self.row(row, told)).collect();
        (!rows.is_empty()).then_some(Expr::Or(rows))
    }

    fn row(&self, row: &Node, told: &mut Vec<Diagnostic>) -> Option<Expr> {
        let values = items(row);
        if values.len() != self.columns.len() {
            let count = self.columns.len();
            told.push(
                Diagnostic::warning("R313", format!("exception `{}` has {count} fields", self.name))
                    .label(row.span.clone(), format!("this is {} values: left out", values.len()))
                    .label(self.at.clone(), format!("{count} values in each row"))
                    .hint("write each row as a list with one value for each field"),
            );
            return None;
        }
        let tests: Option<Vec<Expr>> =
            self.columns.iter().zip(values).map(|(column, value)| column.cell(value, told)).collect();
        tests.map(Expr::And)
    }
}

impl Column {
    fn cell(&self, value: &Node, told: &mut Vec<Diagnostic>) -> Option<Expr> {
        let words = match &value.kind {
            Kind::Scalar { .. } => value_words(value),
            Kind::Sequence(values) if values.iter().all(|value| value.as_text().is_some()) => {
                values.iter().flat_map(value_words).collect()
            }
            _ => {
                told.push(wrong_shape("values", value, "text or a list of texts"));
                return None;
            }
        };
        let is_for_lists = self.op.takes_list() || self.quantifier.is_some();
        if !is_for_lists && (words.len() != 1 || value.as_text().is_none()) {
            told.push(
                Diagnostic::error("R305", format!("`{}` compares with one value", self.op.text()))
                    .label(value.span.clone(), "a list")
                    .label(self.op_place.span(), "this operator")
                    .hint("compare with `in`, or write one row for each value"),
            );
            return None;
        }
        Some(self.test(Right::Values(words)))
    }

    fn test(&self, right: Right) -> Expr {
        let Self { field, op, op_place, quantifier } = self;
        Expr::Test(Test {
            left: field.clone(),
            op: *op,
            op_place: op_place.clone(),
            quantifier: *quantifier,
            right,
        })
    }
}

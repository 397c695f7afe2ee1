//! What a rule comes to: its condition with macros and lists put in place, laid out to be read, and the fields that
//! it looks at. Only for conditions that were compiled, which bounds what they can grow to.

use std::collections::BTreeSet;

use super::ast::{Argument, Expr, Operand, Right, Test, Word};
use super::compile::Names;

/// The condition without macros and without lists' names.
pub fn expand(expr: &Expr, names: &Names) -> Expr {
    match expr {
        // What a macro adds to a list of its own sort needs no brackets.
        Expr::And(parts) => {
            let parts = parts.iter().map(|part| expand(part, names)).flat_map(|part| match part {
                Expr::And(inner) => inner,
                part => vec![part],
            });
            Expr::And(parts.collect())
        }
        Expr::Or(parts) => {
            let parts = parts.iter().map(|part| expand(part, names)).flat_map(|part| match part {
                Expr::Or(inner) => inner,
                part => vec![part],
            });
            Expr::Or(parts.collect())
        }
        Expr::Not(part) => Expr::Not(Box::new(expand(part, names))),
        Expr::Macro(name) => match names.macros.get(&name.text) {
            Some(body) => expand(body, names),
            None => expr.clone(),
        },
        Expr::Test(test) => {
            let right = match &test.right {
                Right::Values(values) => {
                    Right::Values(values.iter().flat_map(|value| items(value, names)).collect())
                }
                right => right.clone(),
            };
            Expr::Test(Test { right, ..test.clone() })
        }
    }
}

/// A value, or what is in the list of that name.
fn items(word: &Word, names: &Names) -> Vec<Word> {
    let list = if word.quoted { None } else { names.lists.get(&word.text) };
    match list {
        Some(list) => list.iter().flat_map(|item| items(item, names)).collect(),
        None => vec![word.clone()],
    }
}

/// The names of the fields that a condition looks at.
pub fn fields(expr: &Expr) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    collect(expr, &mut found);
    found
}

fn collect<'a>(expr: &'a Expr, found: &mut BTreeSet<&'a str>) {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| collect(part, found)),
        Expr::Not(part) => collect(part, found),
        Expr::Macro(_) => {}
        Expr::Test(test) => {
            of_operand(&test.left, found);
            if let Right::Operand(right) = &test.right {
                of_operand(right, found);
            }
        }
    }
}

fn of_operand<'a>(operand: &'a Operand, found: &mut BTreeSet<&'a str>) {
    match operand {
        Operand::Field { name, .. } => {
            found.insert(name.text.as_str());
        }
        Operand::Call { arguments: list, .. } => of_arguments(list, found),
    }
}

fn of_arguments<'a>(list: &'a [Argument], found: &mut BTreeSet<&'a str>) {
    for argument in list {
        match argument {
            Argument::Operand(inner) => of_operand(inner, found),
            Argument::List(inner) => of_arguments(inner, found),
            Argument::Word(_) => {}
        }
    }
}

/// Widest line of a layout, where it can be helped.
const WIDTH: usize = 100;

/// The condition over several lines: what fits on one line stays on it.
pub fn layout(expr: &Expr, indent: usize) -> String {
    let whole = expr.to_string();
    let (parts, word) = match expr {
        Expr::And(parts) => (parts, " and"),
        Expr::Or(parts) => (parts, " or"),
        Expr::Not(part) if part.needs_brackets() && indent + whole.chars().count() > WIDTH => {
            return format!("not {}", bracketed(part, indent + 4));
        }
        _ => return whole,
    };
    if indent + whole.chars().count() <= WIDTH {
        return whole;
    }
    let lines: Vec<String> = parts
        .iter()
        .map(|part| if part.needs_brackets() { bracketed(part, indent) } else { layout(part, indent) })
        .collect();
    lines.join(&format!("{word}\n{:indent$}", ""))
}

fn bracketed(expr: &Expr, indent: usize) -> String {
    format!("({})", layout(expr, indent + 1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::Source;
    use crate::rules::RuleSet;

    #[test]
    fn macros_and_lists_are_put_in_place_and_brackets_stay_where_they_mean_something() {
        let text = "\
- list: inner
  items: [b, c d]
- list: outer
  items: [a, inner]
- list: single
  items: [e]
- macro: either
  condition: proc.name in (outer) or proc.name = x
- macro: both
  condition: evt.kind = exec and proc.pid > 1
- rule: r
  desc: d
  condition: both and not either and proc.args contains single
  output: o
  priority: INFO
";
        let source = Arc::new(Source { name: "t.yaml".to_owned(), text: text.to_owned() });
        let (set, _) = RuleSet::load(&[source]).unwrap();
        let expanded = set.expanded(set.find("r").unwrap());
        assert_eq!(
            expanded.to_string(),
            "evt.kind = exec and proc.pid > 1 and not (proc.name in (a, b, \"c d\") or proc.name = x) and \
             proc.args contains e"
        );
        assert_eq!(
            fields(&expanded).into_iter().collect::<Vec<_>>(),
            ["evt.kind", "proc.args", "proc.name", "proc.pid"]
        );
        assert_eq!(layout(&expanded, 2).lines().count(), 4);
    }
}

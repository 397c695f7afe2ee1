//! What an entry does to an earlier one of its name: `override` says it for each key, the older `append: true`
//! for the few that it knows.

use super::keys::{Keys, Shape};
use super::{Key, Kind};
use crate::diagnostic::{Diagnostic, Span};
use crate::yaml::{Kind as Yaml, Node};

/// What is done to the value that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// This is put behind it.
    Append,
    /// This stands in its place.
    Replace,
}

impl Action {
    fn of(text: &str) -> Option<Self> {
        match text {
            "append" => Some(Action::Append),
            "replace" => Some(Action::Replace),
            _ => None,
        }
    }
}

/// What an entry is.
pub enum Entry {
    /// All that there is to say of its name.
    Definition,
    /// Changes of an earlier one: keys, and what is done to each.
    Changes(Vec<(&'static Key, Action)>),
}

impl Entry {
    /// Reads it from an entry's keys. `None`: it makes no sense, which is told.
    pub fn of(keys: &Keys, kind: &Kind, told: &mut Vec<Diagnostic>) -> Option<Self> {
        let append = match keys.get("append").map(|node| (node, Shape::Bool.check("append", node))) {
            None => None,
            Some((node, Ok(()))) => node.as_bool().filter(|append| *append).map(|_| node.span.clone()),
            Some((_, Err(diagnostic))) => {
                told.push(diagnostic);
                return None;
            }
        };
        match (keys.get("override"), append) {
            (None, None) => Some(Entry::Definition),
            (None, Some(append)) => Some(Entry::Changes(of_append(&append, keys, kind, told))),
            (Some(node), None) => of_override(node, keys, kind, told).map(Entry::Changes),
            (Some(node), Some(append)) => {
                told.push(
                    Diagnostic::error("R315", "`append` and `override` in one entry")
                        .label(append, "says what becomes of the keys")
                        .label(node.span.clone(), "says it too")
                        .hint("leave `append` out"),
                );
                None
            }
        }
    }
}

fn of_append(
    append: &Span,
    keys: &Keys,
    kind: &Kind,
    told: &mut Vec<Diagnostic>,
) -> Vec<(&'static Key, Action)> {
    let given = kind.keys.iter().filter(|key| keys.has(key.name));
    let (changed, idle): (Vec<_>, Vec<_>) = given.partition(|key| kind.appended.contains(&key.name));
    for key in idle {
        let Some(value) = keys.get(key.name) else { continue };
        told.push(
            Diagnostic::warning("R317", format!("`append: true` does not change `{}`", key.name))
                .label(value.span.clone(), "no effect")
                .label(append.clone(), "because of this")
                .hint(format!("write `override: {{{}: replace}}` in place of `append: true`", key.name)),
        );
    }
    changed.into_iter().map(|key| (key, Action::Append)).collect()
}

fn of_override(
    node: &Node,
    keys: &Keys,
    kind: &Kind,
    told: &mut Vec<Diagnostic>,
) -> Option<Vec<(&'static Key, Action)>> {
    let Yaml::Mapping(pairs) = &node.kind else {
        told.extend(Shape::Mapping.check("override", node).err());
        return None;
    };
    let (mut changes, mut wrong) = (Vec::new(), Vec::new());
    for (key, action) in pairs {
        match change(key, action, keys, kind) {
            Ok(change) => changes.push(change),
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    if !wrong.is_empty() {
        told.extend(wrong);
        return None;
    }
    let mut is_right = true;
    for (name, span, _) in keys.iter() {
        let Some(key) = kind.key(name) else { continue };
        if pairs.iter().any(|(key, _)| key.as_text() == Some(name)) {
            continue;
        }
        let diagnostic = if key.actions.is_empty() {
            Diagnostic::warning("R317", format!("`{name}` of an earlier entry cannot be changed"))
        } else {
            is_right = false;
            Diagnostic::error("R316", format!("`override` does not say what becomes of `{name}`"))
                .hint(format!("add `{name}: replace` to `override`"))
        };
        told.push(diagnostic.label(span.clone(), "no effect").label(node.span.clone(), "not in here"));
    }
    is_right.then_some(changes)
}

/// One line of `override`.
fn change(key: &Node, action: &Node, keys: &Keys, kind: &Kind) -> Result<(&'static Key, Action), Diagnostic> {
    let (name, text) = (key.as_text().unwrap_or_default(), action.as_text().unwrap_or_default());
    let Some(known) = kind.key(name) else {
        return Err(Diagnostic::error("R303", format!("unknown key `{name}`"))
            .label(key.span.clone(), "not a key here")
            .did_you_mean(name, kind.keys.iter().map(|key| key.name)));
    };
    let Some(action_known) = Action::of(text) else {
        return Err(Diagnostic::error("R315", format!("`{text}` is nothing that `override` can do"))
            .label(action.span.clone(), "neither `append` nor `replace`")
            .did_you_mean(text, ["append", "replace"].into_iter()));
    };
    if !known.actions.contains(&action_known) {
        let diagnostic = Diagnostic::error("R315", format!("`{text}` is nothing to do to `{name}`"))
            .label(action.span.clone(), "not this key");
        return Err(match known.actions {
            [] => diagnostic.hint("define the rule anew"),
            _ => diagnostic.hint(format!("write `{name}: replace`")),
        });
    }
    if !keys.has(name) {
        return Err(Diagnostic::error("R316", format!("there is no `{name}` to {text}"))
            .label(key.span.clone(), format!("this entry has no `{name}`")));
    }
    Ok((known, action_known))
}

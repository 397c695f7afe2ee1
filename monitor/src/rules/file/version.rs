//! What a file needs of the program that reads it: `required_engine_version`, `required_plugin_versions`.

use super::keys::{Keys, Shape, items, missing, wrong_shape};
use crate::diagnostic::Diagnostic;
use crate::yaml::{Kind, Node};

/// The version of Falco's engine whose language this is: that of Falco 0.45.
const ENGINE: [u64; 3] = [0, 63, 0];

/// Plugins of Falco whose fields are here without one.
const PLUGINS: &[&str] = &["container"];

/// Checks the version of the engine: a number, which is Falco's older way, or `major.minor.patch`.
pub fn check_engine(node: &Node) -> Result<(), Diagnostic> {
    let text = node.as_text().unwrap_or_default().trim();
    let wanted = match text.parse() {
        Ok(minor) => [0, minor, 0],
        Err(_) => parse(text).ok_or_else(|| {
            Diagnostic::error("R310", format!("`{text}` is no version"))
                .label(node.span.clone(), "not a version")
                .hint("write a number such as `57`, or `0.57.0`")
        })?,
    };
    // Within a major version each engine reads what was written for an older one.
    if wanted[0] == ENGINE[0] && wanted <= ENGINE {
        return Ok(());
    }
    let [major, minor, patch] = ENGINE;
    Err(Diagnostic::error("R310", format!("the file is for version {text} of Falco's engine"))
        .label(node.span.clone(), format!("{major}.{minor}.{patch} and older are understood"))
        .hint("update this program, or take an older version of the file"))
}

/// Checks the plugins: there are none here, but what the `container` plugin does.
pub fn check_plugins(node: &Node) -> Vec<Diagnostic> {
    if let Err(diagnostic) = Shape::List.check("required_plugin_versions", node) {
        return vec![diagnostic];
    }
    items(node).iter().flat_map(check_plugin).collect()
}

fn check_plugin(node: &Node) -> Vec<Diagnostic> {
    let Kind::Mapping(_) = node.kind else {
        return vec![wrong_shape("required_plugin_versions", node, "a list of mappings")];
    };
    let keys = Keys::of(node);
    let mut told = keys.unknown(&["name", "version", "alternatives"]);
    let alternatives = keys.get("alternatives").map_or(&[][..], items);
    let mut names = Vec::new();
    for keys in std::iter::once(Keys::of(node)).chain(alternatives.iter().map(Keys::of)) {
        match keys.get("version") {
            Some(version) if version.as_text().and_then(|text| parse(text.trim())).is_none() => told.push(
                Diagnostic::error("R310", "this is no version")
                    .label(version.span.clone(), "not a version")
                    .hint("write `major.minor.patch`"),
            ),
            Some(_) => {}
            None => told.push(missing("version", node)),
        }
        match keys.get("name").and_then(Node::as_text) {
            Some(name) => names.push(name.to_owned()),
            None => told.push(missing("name", node)),
        }
    }
    if told.is_empty() && !names.iter().any(|name| PLUGINS.contains(&name.as_str())) {
        told.push(
            Diagnostic::warning("R321", format!("there is no plugin `{}` here", names.join("` or `")))
                .label(node.span.clone(), "rules for events of it are left out"),
        );
    }
    told
}

/// `major.minor.patch`, perhaps with more behind `-` or `+`.
fn parse(text: &str) -> Option<[u64; 3]> {
    let numbers = text.split(['-', '+']).next()?;
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    let version = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(version)
}

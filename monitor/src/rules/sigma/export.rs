//! Rules that came from Sigma as text of a rule file, and the key `sigma` that keeps whom they come from there.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{DEFAULT_LICENSE, Origin};
use crate::diagnostic::Diagnostic;
use crate::event::json::Members;
use crate::rules::explain::layout;
use crate::rules::file::keys::Keys;
use crate::rules::{Rule, RuleSet};
use crate::yaml::{Kind, Node};

const KEYS: &[&str] = &["id", "author", "license", "status", "references", "falsepositives"];

/// All rules of a set that came from Sigma, as a rule file.
pub fn rules(set: &RuleSet) -> String {
    let mut text = String::from("# Imported from Sigma; each rule names its author and licence.\n");
    for rule in &set.rules {
        if let Some(origin) = &rule.origin {
            text.push('\n');
            write_rule(set, rule, origin, &mut text);
        }
    }
    text
}

fn write_rule(set: &RuleSet, rule: &Rule, origin: &Origin, text: &mut String) {
    let expr = set.expanded(rule);
    let condition = match expr.to_string() {
        // A block of lines cannot hold what ends a line.
        whole if whole.contains(char::is_control) => quoted(&whole),
        _ => format!("|-\n    {}", layout(&expr, 4)),
    };
    let Origin { id, author, license, status, references, falsepositives } = origin;
    let has_condition = rule.stateful.name().is_empty();
    // The text of what it remembers begins with the condition.
    let taffrail = match rule.stateful.text.strip_prefix('\n') {
        _ if rule.stateful.silent => Some("{alert: false}"),
        key => key,
    };
    let keys = [
        (if has_condition { "rule" } else { "correlation" }, Some(quoted(&rule.name))),
        ("desc", Some(quoted(&rule.desc))),
        ("condition", has_condition.then_some(condition)),
        ("output", Some(quoted(rule.output.written()))),
        ("priority", Some(rule.priority.name().to_uppercase())),
        ("tags", Some(list(&rule.tags))),
        ("enabled", (!rule.enabled).then(|| "false".to_owned())),
        ("taffrail", taffrail.map(str::to_owned)),
    ];
    for (at, (key, value)) in keys.into_iter().enumerate() {
        if let Some(value) = value {
            line(if at == 0 { "- " } else { "  " }, key, &value, text);
        }
    }
    text.push_str("  sigma:\n");
    let keys = [
        ("id", id.as_deref().map(quoted)),
        ("author", author.as_deref().map(quoted)),
        ("license", Some(quoted(license))),
        ("status", status.as_deref().map(quoted)),
        ("references", (!references.is_empty()).then(|| list(references))),
        ("falsepositives", (!falsepositives.is_empty()).then(|| list(falsepositives))),
    ];
    for (key, value) in keys {
        if let Some(value) = value {
            line("    ", key, &value, text);
        }
    }
}

fn line(indent: &str, key: &str, value: &str, text: &mut String) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{indent}{key}: {value}");
}

/// A text in double quotes: JSON's are YAML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

impl Origin {
    /// Reads the key `sigma` of a rule.
    pub fn parse(node: &Node) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let keys = Keys::of(node);
        let unknown = keys.unknown(KEYS);
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let text = |key| keys.get(key).and_then(Node::as_text).map(str::to_owned);
        let texts = |key| match keys.get(key).map(|node| &node.kind) {
            Some(Kind::Sequence(nodes)) => {
                nodes.iter().filter_map(|node| node.as_text().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        Ok(Arc::new(Self {
            id: text("id"),
            author: text("author"),
            license: text("license").unwrap_or_else(|| DEFAULT_LICENSE.to_owned()),
            status: text("status"),
            references: texts("references"),
            falsepositives: texts("falsepositives"),
        }))
    }

    /// Whom to name where the rule matches.
    pub fn credit(&self) -> String {
        let author = self.author.as_deref().unwrap_or("an unnamed author");
        format!("Sigma rule by {author}, {}", self.license)
    }

    /// Adds `"sigma":{…}`.
    pub fn write_json(&self, members: &mut Members<'_>) {
        let Self { id, author, license, status, references, falsepositives } = self;
        let mut sigma = members.object("sigma");
        let texts = [
            ("id", id.as_ref()),
            ("author", author.as_ref()),
            ("license", Some(license)),
            ("status", status.as_ref()),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                sigma.text(name, text.as_bytes());
            }
        }
        for (name, texts) in [("references", references), ("falsepositives", falsepositives)] {
            if !texts.is_empty() {
                sigma.raw(name, format_args!("{}", list(texts)));
            }
        }
        sigma.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;

    fn load(text: &str) -> RuleSet {
        let source = Arc::new(Source { name: "t.yml".to_owned(), text: text.to_owned() });
        let (set, warnings) = RuleSet::load(&[source]).unwrap_or_else(|found| {
            panic!("{}\n{text}", crate::diagnostic::render(&found, false));
        });
        assert_eq!(warnings, [], "{text}");
        set
    }

    /// What a rule says, in one text.
    fn whole(set: &RuleSet) -> Vec<String> {
        let show = |rule: &Rule| {
            format!(
                "{} {} {} {:?} {:?} {} {} {}",
                rule.name,
                rule.desc,
                rule.priority.name(),
                rule.tags,
                rule.origin,
                rule.enabled,
                rule.output.written(),
                set.expanded(rule)
            )
        };
        set.rules.iter().map(show).collect()
    }

    #[test]
    fn imported_text_loads_as_the_same_rules() {
        let made_up = "title: 'A \"b\" %proc.nmae\u{2028} # c'\nid: x\nauthor: \"J: \\e[1m\"\ndescription: 'a: b'\ntags: [attack.t1059, 'x: y']\n\
            logsource: {category: process_creation}\ndetection:\n  s:\n    CommandLine|contains: [\"a\\nb\\t\", 'c\\\\\"', \"d 'e'\"]\n    Image|re: '^/x(\\d+)\"$'\n  condition: s\n";
        let files = crate::rules::sigma::tests::sample("imported_text_loads_as_the_same_rules");
        let files = files.unwrap_or_default().into_iter().map(|(_, text)| text);
        let text = files.chain([made_up.to_owned()]).collect::<Vec<_>>().join("\n---\n");
        let set = load(&text);
        let imported = load(&rules(&set));
        assert_eq!(whole(&set), whole(&imported));
        for (rule, again) in set.rules.iter().zip(&imported.rules) {
            assert_eq!((rule.kinds, rule.all_calls()), (again.kinds, again.all_calls()), "{}", rule.name);
        }
    }

    #[test]
    fn key_sigma_of_a_rule_is_checked() {
        let rule =
            "- rule: r\n  desc: d\n  condition: evt.kind = exec\n  output: o\n  priority: INFO\n  sigma: ";
        for (key, code) in [("x", Some("R305")), ("{autor: x}", Some("R303")), ("{author: x}", None)] {
            let source = Arc::new(Source { name: "t.yaml".to_owned(), text: format!("{rule}{key}\n") });
            let found = RuleSet::load(&[source]).err().map(|found| found[0].code);
            assert_eq!(found, code, "{key}");
        }
    }

    #[test]
    fn alert_names_the_author_and_the_licence() {
        let set = load(
            "title: T\nid: x\nauthor: \"A \\e[1m\"\nlogsource: {category: process_creation}\ndetection:\n  s: {Image|endswith: /sh}\n  condition: s\n",
        );
        let rule = &set.rules[0];
        let exec = crate::testing::exec(7, 1_000, (6, 500), "/bin/sh", &["sh"]);
        let (matches, output, json) = crate::testing::with_subject(&[exec], |subject| {
            let (mut output, mut json) = (String::new(), Vec::new());
            rule.output.render(subject, &mut output);
            rule.origin.as_ref().unwrap().write_json(&mut Members::within(&mut json));
            (rule.matches(subject), output, String::from_utf8(json).unwrap())
        });
        assert!(matches);
        assert!(output.ends_with(" (Sigma rule by A \\x1b[1m, DRL-1.1)"), "{output}");
        assert_eq!(json, r#""sigma":{"id":"x","author":"A \u001b[1m","license":"DRL-1.1"}"#);
    }
}

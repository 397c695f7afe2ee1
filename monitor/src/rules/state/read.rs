//! Reads the key `taffrail` of a rule: each mistake is told with its place and a hint, and all of them at once.

use std::ops::Range;
use std::sync::Arc;

use super::{
    Input, New, Operand, RuleName, STEPS_MAX, Sequence, Stateful, Step, Threshold, Throttle, Trigger,
};
use crate::diagnostic::Diagnostic;
use crate::event::field::{self, Get, KindSet};
use crate::rules::ast::{self, Place, Word};
use crate::rules::compile::Names;
use crate::rules::file::keys::{Keys, first_line};
use crate::rules::operand::Source;
use crate::rules::{Filter, transform};
use crate::yaml::{Kind, Node};

/// Most matches that a threshold can count to.
const COUNT_MAX: u32 = 10_000;

/// Most distinct values that a threshold can count to.
const DISTINCT_MAX: u32 = 1_000;

/// Most fields of one key.
const FIELDS_MAX: usize = 8;

/// Longest time that anything is remembered for, in ns.
const WINDOW_MAX_NS: u64 = 7 * 86_400 * 1_000_000_000;

/// Reads the key of a rule. `own` is its condition's text and the kinds of event that can pass it; `None` if it has none.
pub fn parse(
    node: Option<&Node>,
    names: &Names,
    own: Option<(&str, KindSet)>,
) -> Result<Stateful, Vec<Diagnostic>> {
    let Some(node) = node else { return Ok(Stateful::default()) };
    let mut reader = Reader { names, own: own.map(|(_, kinds)| kinds), diagnostics: Vec::new() };
    let stateful = reader.stateful(node);
    match stateful {
        Some(mut stateful) if reader.diagnostics.is_empty() => {
            let condition = own.map_or("", |(condition, _)| condition);
            let written = &node.span.source.text[node.span.range.clone()];
            stateful.text = format!("{condition}\n{written}");
            stateful.place = Some(first_line(&node.span));
            Ok(stateful)
        }
        _ => Err(reader.diagnostics),
    }
}

struct Reader<'a> {
    names: &'a Names,
    own: Option<KindSet>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn stateful(&mut self, node: &Node) -> Option<Stateful> {
        let keys = self.mapping("taffrail", node, &["threshold", "sequence", "new", "throttle", "alert"])?;
        let mut triggers = [
            keys.get("threshold").map(|node| (node, self.threshold(node).map(Trigger::Threshold))),
            keys.get("sequence").map(|node| (node, self.sequence(node).map(Trigger::Sequence))),
            keys.get("new").map(|node| (node, self.new_values(node).map(Trigger::New))),
        ]
        .into_iter()
        .flatten();
        let trigger = match (triggers.next(), triggers.next()) {
            (None, _) if self.own.is_none() => {
                self.missing("threshold` or `sequence", node);
                None
            }
            (None, _) => Some(Trigger::Each),
            (Some((_, trigger)), None) => trigger,
            (Some((first, _)), Some((second, _))) => {
                self.diagnostics.push(
                    Diagnostic::error("R411", "a rule has only one of `threshold`, `sequence`, `new`")
                        .label(first_line(&second.span), "this")
                        .label(first_line(&first.span), "besides this")
                        .hint(
                            "write a second rule; a step or a threshold can take the matches of another rule",
                        ),
                );
                None
            }
        };
        let throttle = keys.get("throttle").and_then(|node| self.throttle(node));
        let silent = keys.get("alert").and_then(|node| self.truth("alert", node)) == Some(false);
        Some(Stateful { trigger: trigger?, throttle, silent, text: String::new(), place: None })
    }

    fn threshold(&mut self, node: &Node) -> Option<Threshold> {
        let keys = self.mapping("threshold", node, &["count", "distinct", "within", "by", "rules"])?;
        let distinct = keys.get("distinct").map(|node| self.operand(node));
        let most = if distinct.is_some() { DISTINCT_MAX } else { COUNT_MAX };
        let count = self.require("count", node, &keys).and_then(|node| self.count("count", &node, 2, most));
        let within_ns = self.require("within", node, &keys).and_then(|node| self.duration("within", &node));
        let by = self.operands("by", keys.get("by")).unwrap_or_default();
        let mut sources = Vec::new();
        if self.own.is_some() {
            sources.push(Step { name: "condition".to_owned(), input: Input::Own, by: by.clone() });
        }
        let rules = keys.get("rules");
        if let Some(node) = rules
            && !matches!(node.kind, Kind::Sequence(_))
        {
            return self.wrong_type("rules", node, "a list of rules");
        }
        for name in items(rules).iter().filter_map(|item| self.rule_name("rules", item)) {
            sources.push(Step { name: name.name.clone(), input: Input::Rule(name), by: by.clone() });
        }
        self.number_of("sources", &sources, 1, node);
        // What other rules match is known only when all are there.
        let kinds = self.own.filter(|_| sources.len() == 1);
        for (operand, node) in by.iter().zip(items(keys.get("by"))) {
            self.single(operand, node);
            self.exists(operand, node, kinds);
        }
        let distinct = match keys.get("distinct").zip(distinct) {
            Some((node, operand)) => {
                let operand = operand?;
                self.single(&operand, node);
                self.exists(&operand, node, kinds);
                Some(operand)
            }
            None => None,
        };
        Some(Threshold { sources, count: count?, distinct, within_ns: within_ns? })
    }

    fn sequence(&mut self, node: &Node) -> Option<Sequence> {
        let keys = self.mapping("sequence", node, &["steps", "within", "by", "ordered", "until"])?;
        let within_ns = self.require("within", node, &keys).and_then(|node| self.duration("within", &node));
        let by_node = keys.get("by");
        let by = self.operands("by", by_node);
        let ordered = keys.get("ordered").and_then(|node| self.truth("ordered", node)).unwrap_or(true);
        let until = keys.get("until").map(|node| self.step(node, "until", (by.as_deref(), by_node)));
        let list = self.require("steps", node, &keys)?;
        let Kind::Sequence(nodes) = &list.kind else {
            return self.wrong_type("steps", &list, "a list of steps");
        };
        let mut steps: Vec<Option<Step>> = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            steps.push(self.step(node, &format!("step {}", number + 1), (by.as_deref(), by_node)));
        }
        let by = by?;
        if let Some(kinds) = self.own {
            self.all_exist(&by, by_node, Some(kinds));
            steps.push(Some(Step { name: "condition".to_owned(), input: Input::Own, by }));
        }
        let steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
        self.number_of("steps", &steps, 2, &list)?;
        // Whatever can be the first says under which values the rest is looked up.
        for step in if ordered { &steps[..1] } else { &steps[..] } {
            for operand in &step.by {
                self.single(operand, nodes.first().unwrap_or(node));
            }
        }
        let until = match until {
            Some(step) => Some(step?),
            None => None,
        };
        Some(Sequence { steps, ordered, until, within_ns: within_ns? })
    }

    /// A step; `by` is that of the sequence, if it could be read.
    fn step(
        &mut self,
        node: &Node,
        name: &str,
        (by, by_node): (Option<&[Operand]>, Option<&Node>),
    ) -> Option<Step> {
        let keys = self.mapping("step", node, &["name", "condition", "rule", "by"])?;
        let named = keys.get("name").and_then(|node| self.typed("name", node, "text", text));
        let name = named.unwrap_or_else(|| name.to_owned());
        let input = match (keys.get("condition"), keys.get("rule")) {
            (Some(condition), None) => self.condition(condition).map(Input::Condition),
            (None, Some(rule)) => self.rule_name("rule", rule).map(Input::Rule),
            (None, None) => {
                self.missing("condition` or `rule", node);
                None
            }
            (Some(_), Some(rule)) => {
                self.diagnostics.push(
                    Diagnostic::error("R411", "a step has only one of `condition`, `rule`")
                        .label(rule.span.clone(), "this besides a condition"),
                );
                None
            }
        };
        let (own_by, by_node) = match keys.get("by") {
            Some(node) => (self.operands("by", Some(node))?, Some(node)),
            None => (by?.into(), by_node),
        };
        if let Some(by) = by
            && by.len() != own_by.len()
        {
            let message = format!("this step has {} values in `by`, the sequence {}", own_by.len(), by.len());
            let at = by_node.unwrap_or(node);
            self.diagnostics.push(
                Diagnostic::error("R412", message)
                    .label(first_line(&at.span), "values are compared by their place")
                    .hint("name one field here for each one there"),
            );
        }
        let several: Vec<_> = own_by.iter().filter(|operand| operand.is_several()).collect();
        if let [_, second, ..] = several[..] {
            self.single(second, by_node.unwrap_or(node));
        }
        let input = input?;
        if let Input::Condition(filter) = &input {
            self.all_exist(&own_by, by_node, Some(filter.kinds));
        }
        Some(Step { name, input, by: own_by })
    }

    fn rule_name(&mut self, key: &str, node: &Node) -> Option<RuleName> {
        let name = self.typed(key, node, "a rule's name", text)?;
        Some(RuleName { name, place: Some(node.span.clone()) })
    }

    fn condition(&mut self, node: &Node) -> Option<Filter> {
        if node.as_text().is_none() {
            return self.wrong_type("condition", node, "text");
        }
        match Filter::compile_with(node, self.names) {
            Ok(filter) => Some(filter),
            Err(diagnostics) => {
                self.diagnostics.extend(diagnostics);
                None
            }
        }
    }

    fn new_values(&mut self, node: &Node) -> Option<New> {
        let (list, per_ns, learn_ns) = match &node.kind {
            Kind::Sequence(_) => (node.clone(), None, 0),
            _ => {
                let keys = self.mapping("new", node, &["fields", "per", "learn"])?;
                let mut time = |key| keys.get(key).and_then(|node| self.duration(key, node));
                let (per_ns, learn_ns) = (time("per"), time("learn").unwrap_or(0));
                (self.require("fields", node, &keys)?, per_ns, learn_ns)
            }
        };
        let fields = self.operands("fields", Some(&list))?;
        if fields.is_empty() || self.own.is_none() {
            self.missing(if fields.is_empty() { "fields" } else { "condition" }, node);
            return None;
        }
        for (operand, item) in fields.iter().zip(items(Some(&list))) {
            self.single(operand, item);
        }
        self.all_exist(&fields, Some(&list), self.own);
        Some(New { fields, per_ns, learn_ns })
    }

    fn throttle(&mut self, node: &Node) -> Option<Throttle> {
        if node.as_bool() == Some(false) {
            return Some(Throttle { alerts: u32::MAX, per_ns: 1, by: Box::default() });
        }
        let keys = self.mapping("throttle", node, &["alerts", "per", "by"])?;
        let alerts =
            self.require("alerts", node, &keys).and_then(|node| self.count("alerts", &node, 1, COUNT_MAX));
        let per_ns = self.require("per", node, &keys).and_then(|node| self.duration("per", &node));
        let by = self.operands("by", keys.get("by"))?;
        for (operand, item) in by.iter().zip(items(keys.get("by"))) {
            self.single(operand, item);
        }
        self.all_exist(&by, keys.get("by"), self.own);
        Some(Throttle { alerts: alerts?, per_ns: per_ns?, by })
    }

    /// A list of fields; none if it is not there.
    fn operands(&mut self, key: &str, node: Option<&Node>) -> Option<Box<[Operand]>> {
        let Some(node) = node else { return Some(Box::default()) };
        let Kind::Sequence(items) = &node.kind else { return self.wrong_type(key, node, "a list of fields") };
        if items.len() > FIELDS_MAX {
            let message = format!("{} fields, but at most {FIELDS_MAX} make a key", items.len());
            self.diagnostics.push(Diagnostic::error("R408", message).label(node.span.clone(), "too many"));
            return None;
        }
        // All of them, so that the errors of all are told.
        let operands: Vec<_> = items.iter().map(|item| self.operand(item)).collect();
        operands.into_iter().collect()
    }

    /// `proc.name`, `proc.aname[2]`
    fn operand(&mut self, node: &Node) -> Option<Operand> {
        let written = self.typed("by", node, "a field", text)?;
        let (name, argument) = match written.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
            Some((name, argument)) => (name, Some(name.len() + 1..name.len() + 1 + argument.len())),
            None => (written.as_str(), None),
        };
        let node = Arc::new(node.clone());
        let word = |range: Range<usize>| Word {
            text: written[range.clone()].to_owned(),
            quoted: false,
            place: Place { node: Arc::clone(&node), range },
        };
        let field = ast::Operand::Field { name: word(0..name.len()), argument: argument.map(word) };
        match transform::operand(&field).map(|made| made.source) {
            Ok(Source::Field(field, index)) => Some(Operand { field, index, key: None }),
            Ok(Source::Keyed(field, key)) => Some(Operand { field, index: None, key: Some(key) }),
            // Nothing else is made of a field alone.
            Ok(_) => None,
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    /// Refuses a field that can have several values at once where one is needed.
    fn single(&mut self, operand: &Operand, node: &Node) {
        if !operand.is_several() {
            return;
        }
        let name = operand.field.name;
        let mut diagnostic = Diagnostic::error("R406", format!("`{name}` can have several values at once"))
            .label(first_line(&node.span), "one value is needed here");
        if !matches!(operand.field.get, Get::Many(_)) {
            diagnostic = diagnostic.hint(format!("write `{name}[1]`"));
        }
        self.diagnostics.push(diagnostic);
    }

    fn all_exist(&mut self, operands: &[Operand], node: Option<&Node>, kinds: Option<KindSet>) {
        for (operand, node) in operands.iter().zip(items(node)) {
            self.exists(operand, node, kinds);
        }
    }

    /// Refuses a field that no event of these kinds has.
    fn exists(&mut self, operand: &Operand, node: &Node, kinds: Option<KindSet>) {
        let Some(kinds) = kinds else { return };
        // A condition that matches nothing has its own warning.
        if kinds == 0 || operand.field.kinds & kinds != 0 {
            return;
        }
        let names = field::kind_names(kinds).join(", ");
        let diagnostic = Diagnostic::error("R407", format!("no event here has `{}`", operand.field.name))
            .label(node.span.clone(), format!("the condition lets only pass: {names}"));
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    fn number_of(&mut self, what: &str, steps: &[Step], least: usize, node: &Node) -> Option<()> {
        if (least..=STEPS_MAX).contains(&steps.len()) {
            return Some(());
        }
        let message = format!("{} {what}, but {least} to {STEPS_MAX} are possible", steps.len());
        let diagnostic = Diagnostic::error("R408", message).label(first_line(&node.span), "here");
        self.diagnostics.push(diagnostic.hint("the rule's condition, if it has one, counts as the last"));
        None
    }

    /// `500ms`, `10s`, `5m`, `1h`, `2d`, in ns.
    fn duration(&mut self, key: &str, node: &Node) -> Option<u64> {
        let written = node.as_text().unwrap_or_default();
        match nanoseconds(written) {
            Some(ns) if (1..=WINDOW_MAX_NS).contains(&ns) => Some(ns),
            Some(_) => {
                let message = format!("`{key}` is {written}, but more than 0 and at most 7d are possible");
                self.diagnostics
                    .push(Diagnostic::error("R404", message).label(node.span.clone(), "out of range"));
                None
            }
            None => {
                let diagnostic = Diagnostic::error("R404", format!("`{key}` is no time"))
                    .label(node.span.clone(), "needs a number and a unit")
                    .hint(if node.as_number().is_some() {
                        format!("write `{written}s`")
                    } else {
                        "write `500ms`, `10s`, `5m`, `1h` or `2d`".to_owned()
                    });
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn count(&mut self, key: &str, node: &Node, least: u32, most: u32) -> Option<u32> {
        let number = self.typed(key, node, "a number", Node::as_number)?;
        let count = u32::try_from(number).ok().filter(|count| (least..=most).contains(count));
        if count.is_none() {
            let message = format!("`{key}` is {number}, but {least} to {most} are possible");
            self.diagnostics
                .push(Diagnostic::error("R405", message).label(node.span.clone(), "out of range"));
        }
        count
    }

    /// The keys of a mapping, all of them known.
    fn mapping(&mut self, what: &str, node: &Node, known: &[&'static str]) -> Option<Keys> {
        let Kind::Mapping(pairs) = &node.kind else { return self.wrong_type(what, node, "a mapping") };
        for (key, _) in pairs {
            let name = key.as_text().unwrap_or_default();
            if !known.contains(&name) {
                let close = crate::diagnostic::closest(name, known.iter().copied());
                let hint = close.map_or_else(
                    || format!("use one of `{}`", known.join("`, `")),
                    |name| format!("did you mean `{name}`?"),
                );
                self.diagnostics.push(
                    Diagnostic::error("R401", format!("unknown key `{name}` in `{what}`"))
                        .label(key.span.clone(), "not a key here")
                        .hint(hint),
                );
            }
        }
        Some(Keys::of(node))
    }

    fn require(&mut self, key: &str, node: &Node, keys: &Keys) -> Option<Node> {
        let found = keys.get(key).cloned();
        if found.is_none() {
            self.missing(key, node);
        }
        found
    }

    fn missing(&mut self, key: &str, node: &Node) {
        let diagnostic = Diagnostic::error("R402", format!("`{key}` is missing"));
        self.diagnostics.push(diagnostic.label(first_line(&node.span), "in here"));
    }

    fn typed<T>(&mut self, key: &str, node: &Node, wanted: &str, get: fn(&Node) -> Option<T>) -> Option<T> {
        let value = get(node);
        if value.is_none() {
            return self.wrong_type(key, node, wanted);
        }
        value
    }

    fn truth(&mut self, key: &str, node: &Node) -> Option<bool> {
        self.typed(key, node, "true or false", Node::as_bool)
    }

    fn wrong_type<T>(&mut self, key: &str, node: &Node, wanted: &str) -> Option<T> {
        self.diagnostics.push(
            Diagnostic::error("R403", format!("`{key}` is {}, not {wanted}", node.noun()))
                .label(first_line(&node.span), format!("needs {wanted}")),
        );
        None
    }
}

fn text(node: &Node) -> Option<String> {
    node.as_text().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.kind) {
        Some(Kind::Sequence(items)) => items,
        _ => &[],
    }
}

/// A number and a unit, in ns.
pub fn nanoseconds(text: &str) -> Option<u64> {
    let unit_at = text.find(|char: char| !char.is_ascii_digit())?;
    let unit_ns = match text[unit_at..].trim() {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        "d" => 86_400 * 1_000_000_000,
        _ => return None,
    };
    text[..unit_at].parse::<u64>().ok()?.checked_mul(unit_ns)
}

//! From a detection to a tree of the rule language, for one class of events: fields are looked up, values and
//! modifiers become tests. What has no meaning here is told with its reason, and the rule is then left out.

use std::convert::Infallible;

use hashbrown::HashMap;

use super::choice::{Choice, Subject, call, choice, field_operand, is_text};
use super::condition::Condition;
use super::detection::{Detection, Item, Search, Value};
use super::mapping::{Category, Class, TIME_PARTS, To};
use super::modifier::{Compare, Modifiers};
use super::pattern::Pattern;
use crate::diagnostic::Diagnostic;
use crate::event::field::{self, Type};
use crate::rules::ast::{Expr, Op, Place, Quantifier, Word};

/// Most values of one rule, after all that modifiers make of them.
const VALUES_MAX: usize = 20_000;

/// Most values of all rules of a set together: filters can be added to each of them.
const VALUES_OF_ALL_MAX: usize = 300_000;

/// Most texts that one value with placeholders can become.
const EXPANDED_MAX: usize = 1_000;

/// What is known of a part of a rule for a class of events, without having seen one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there are few at a time, and boxes would be in the way")]
pub enum Truth {
    /// It holds for all of them.
    Always,
    /// It holds for none of them.
    Never,
    /// It depends.
    When(Expr),
}

impl Truth {
    /// All hold.
    pub fn all(parts: impl IntoIterator<Item = Truth>) -> Self {
        let mut whens = Vec::new();
        for part in parts {
            match part {
                Truth::Always => {}
                Truth::Never => return Truth::Never,
                Truth::When(Expr::And(more)) => whens.extend(more),
                Truth::When(expr) => whens.push(expr),
            }
        }
        match whens.len() {
            0 => Truth::Always,
            1 => Truth::When(whens.swap_remove(0)),
            _ => Truth::When(Expr::And(whens)),
        }
    }

    /// One holds.
    pub fn any(parts: impl IntoIterator<Item = Truth>) -> Self {
        let mut whens = Vec::new();
        for part in parts {
            match part {
                Truth::Always => return Truth::Always,
                Truth::Never => {}
                Truth::When(Expr::Or(more)) => whens.extend(more),
                Truth::When(expr) => whens.push(expr),
            }
        }
        match whens.len() {
            0 => Truth::Never,
            1 => Truth::When(whens.swap_remove(0)),
            _ => Truth::When(Expr::Or(whens)),
        }
    }

    /// It does not hold.
    pub fn not(self) -> Self {
        match self {
            Truth::Always => Truth::Never,
            Truth::Never => Truth::Always,
            Truth::When(Expr::Not(expr)) => Truth::When(*expr),
            Truth::When(expr) => Truth::When(Expr::Not(Box::new(expr))),
        }
    }

    fn of(holds: bool) -> Self {
        if holds { Truth::Always } else { Truth::Never }
    }
}

/// Builds the trees of one class.
pub struct Builder<'a> {
    class: &'static Class,
    category: &'static Category,
    /// Lists of the rule files, for placeholders.
    lists: &'a HashMap<String, Vec<Word>>,
    /// Within an odd number of `not`s.
    negated: bool,
    values: usize,
    /// Values of all rules so far.
    spent: &'a mut usize,
    /// Why the rule cannot be used.
    pub reasons: Vec<Diagnostic>,
    /// For each search, whether it can find an event of the class.
    pub alive: Vec<bool>,
}

impl<'a> Builder<'a> {
    /// For one class of a category.
    pub fn new(
        category: &'static Category,
        class: &'static Class,
        lists: &'a HashMap<String, Vec<Word>>,
        spent: &'a mut usize,
    ) -> Self {
        let (reasons, alive) = (Vec::new(), Vec::new());
        Self { class, category, lists, negated: false, values: 0, spent, reasons, alive }
    }

    /// The tree of a whole detection.
    pub fn detection(&mut self, detection: &Detection) -> Truth {
        self.alive = vec![false; detection.searches.len()];
        self.condition(&detection.condition, &detection.searches)
    }

    fn condition(&mut self, condition: &Condition, searches: &[Search]) -> Truth {
        match condition {
            Condition::And(parts) => {
                Truth::all(parts.iter().map(|part| self.condition(part, searches)).collect::<Vec<_>>())
            }
            Condition::Or(parts) => {
                Truth::any(parts.iter().map(|part| self.condition(part, searches)).collect::<Vec<_>>())
            }
            Condition::Not(part) => self
                .within_not(|builder| Ok::<_, Infallible>(builder.condition(part, searches)))
                .unwrap_or_else(|never| match never {}),
            Condition::Search(at) => {
                let truth = searches.get(*at).map_or(Truth::Never, |search| self.search(search));
                if let Some(alive) = self.alive.get_mut(*at) {
                    *alive |= truth != Truth::Never;
                }
                truth
            }
        }
    }

    fn within_not<E>(&mut self, build: impl FnOnce(&mut Self) -> Result<Truth, E>) -> Result<Truth, E> {
        self.negated = !self.negated;
        let truth = build(self);
        self.negated = !self.negated;
        truth.map(Truth::not)
    }

    fn search(&mut self, search: &Search) -> Truth {
        match search {
            Search::All(parts) => Truth::all(parts.iter().map(|part| self.search(part)).collect::<Vec<_>>()),
            Search::Any(parts) => Truth::any(parts.iter().map(|part| self.search(part)).collect::<Vec<_>>()),
            Search::Item(item) => self.item(item).unwrap_or_else(|reason| {
                if !self.reasons.contains(&reason) {
                    self.reasons.push(reason);
                }
                Truth::Never
            }),
        }
    }

    fn item(&mut self, item: &Item) -> Result<Truth, Diagnostic> {
        if item.modifiers.differs {
            let modifiers = Modifiers { differs: false, ..item.modifiers.clone() };
            return self.within_not(|builder| builder.item(&Item { modifiers, ..item.clone() }));
        }
        if item.field.is_empty() {
            return self.keywords(item);
        }
        let Some(to) = self.class.get(&item.field) else { return self.absent(item) };
        match (item.modifiers.time_part, to) {
            (None, To::Always(text)) => always(item, text),
            (None, To::Field(name)) => self.field(item, name),
            (None, To::Program { runs, asked }) => self.program(item, runs, asked),
            (Some(part), To::Field("evt.time")) => {
                let name = TIME_PARTS.iter().find(|(name, _)| *name == part).map(|(_, field)| *field);
                self.field(item, name.unwrap_or("evt.time"))
            }
            (Some(part), _) => {
                Err(cannot(item, &format!("`{}` is no time, so `{part}` does not apply", item.field)))
            }
        }
    }

    /// A field that these events do not have, if others of the category do.
    fn absent(&self, item: &Item) -> Result<Truth, Diagnostic> {
        if !self.category.fields().any(|name| name == item.field) {
            let message = format!("there is no field `{}` for `{}`", item.field, self.category.category);
            return Err(Diagnostic::warning("S202", message)
                .label(item.place.span(), "not a field here")
                .did_you_mean(&item.field, self.category.fields()));
        }
        if item.modifiers.compare == Compare::Exists {
            return exists(item).map(|wanted| Truth::of(!wanted));
        }
        Ok(Truth::of(item.values.iter().any(|value| value.text.as_deref().unwrap_or_default().is_empty())))
    }

    /// Either of two fields; within a `not` the first. Only the first tells whether there is a program at all.
    fn program(&mut self, item: &Item, runs: &'static str, asked: &'static str) -> Result<Truth, Diagnostic> {
        let named = |value: &&Value| value.text.as_ref().is_some_and(|text| !text.is_empty());
        let values: Vec<Value> = item.values.iter().filter(named).cloned().collect();
        let found = self.field(item, runs)?;
        if self.negated || item.modifiers.compare == Compare::Exists || values.is_empty() {
            return Ok(found);
        }
        Ok(Truth::any([found, self.field(&Item { values, ..item.clone() }, asked)?]))
    }

    /// Words that may stand in any text of the event.
    fn keywords(&mut self, item: &Item) -> Result<Truth, Diagnostic> {
        let mut names: Vec<&'static str> = Vec::new();
        for (_, to) in self.class.all() {
            let found = match to {
                To::Field(name) => [Some(name), None],
                To::Program { runs, asked } => [Some(runs), (!self.negated).then_some(asked)],
                To::Always(_) => [None, None],
            };
            for name in found.into_iter().flatten() {
                if is_text(name) && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let compare = match item.modifiers.compare {
            Compare::Equals => Compare::Contains,
            compare => compare,
        };
        if item.modifiers.field || matches!(compare, Compare::Exists | Compare::Cidr) {
            return Err(cannot(item, "words without a field can only be looked for as texts"));
        }
        let modifiers = Modifiers { compare, ..item.modifiers.clone() };
        let mut in_any = |values: Vec<Value>| {
            let item = Item { values, modifiers: modifiers.clone(), ..item.clone() };
            let parts = names.iter().map(|name| self.field(&item, name)).collect::<Result<Vec<_>, _>>()?;
            Ok(Truth::any(parts))
        };
        if item.modifiers.all {
            // Each word may stand in another field.
            let parts = item.values.iter().map(|value| in_any(vec![value.clone()]));
            return Ok(Truth::all(parts.collect::<Result<Vec<_>, Diagnostic>>()?));
        }
        in_any(item.values.clone())
    }

    /// A test of one of our fields.
    fn field(&mut self, item: &Item, name: &'static str) -> Result<Truth, Diagnostic> {
        let subject = Subject { name, item };
        let compare = item.modifiers.compare;
        if compare == Compare::Exists {
            let there = subject.exists();
            return exists(item).map(|wanted| if wanted { there } else { there.not() });
        }
        let ty = field::find(name).map(|field| field.ty);
        let mut choices: Vec<Vec<Choice>> = Vec::new();
        for value in &item.values {
            let texts = self.expanded(item, value)?;
            let mut of_value = Vec::new();
            for text in &texts {
                of_value.extend(self.choices(&subject, ty, value, text.as_deref())?);
            }
            self.values += of_value.len();
            *self.spent += of_value.len();
            if self.values > VALUES_MAX || *self.spent > VALUES_OF_ALL_MAX {
                let message = format!(
                    "more than {VALUES_MAX} values of the rule or {VALUES_OF_ALL_MAX} of all, after all modifiers"
                );
                return Err(Diagnostic::warning("S107", message).label(value.place.span(), "one too many"));
            }
            choices.push(of_value);
        }
        Ok(if item.modifiers.all {
            let (single, several): (Vec<_>, Vec<_>) =
                choices.into_iter().partition(|choices| choices.len() == 1);
            let together = subject.grouped(single.into_iter().flatten().collect(), Quantifier::All);
            let apart =
                several.into_iter().map(|choices| Truth::any(subject.grouped(choices, Quantifier::Any)));
            Truth::all(together.into_iter().chain(apart))
        } else {
            Truth::any(subject.grouped(choices.into_iter().flatten().collect(), Quantifier::Any))
        })
    }

    /// What a value is compared as.
    fn choices(
        &mut self,
        subject: &Subject<'_>,
        ty: Option<Type>,
        value: &Value,
        text: Option<&str>,
    ) -> Result<Vec<Choice>, Diagnostic> {
        let item = subject.item;
        let Modifiers { compare, cased, field: is_field, ref flags, .. } = item.modifiers;
        let word = |text: String| Word { text, quoted: true, place: value.place.clone() };
        let op = match compare {
            Compare::Less => Some(Op::Lt),
            Compare::LessOrEqual => Some(Op::Le),
            Compare::Greater => Some(Op::Gt),
            Compare::GreaterOrEqual => Some(Op::Ge),
            _ => None,
        };
        let Some(text) = text else {
            return match compare {
                Compare::Equals if !is_field => Ok(vec![Choice::Absent]),
                _ => Err(cannot_at(&value.place, "`null` can only be compared as a whole")),
            };
        };
        if is_field {
            return self.references(subject, value, text, op);
        }
        if let Some(op) = op {
            return match ty {
                Some(Type::Number) => Ok(vec![Choice::Each(op, word(text.to_owned()))]),
                _ => Err(cannot(item, &format!("`{}` is no number", item.field))),
            };
        }
        match (compare, ty) {
            (Compare::Regex, _) => {
                let flags = if flags.is_empty() { String::new() } else { format!("(?{flags})") };
                Ok(vec![Choice::text(ty, Op::Search, word(format!("{flags}{text}")))])
            }
            (Compare::Cidr, Some(Type::Address)) => Ok(vec![Choice::Value(Op::In, word(text.to_owned()))]),
            (Compare::Cidr, _) => Err(cannot(item, &format!("`{}` is no address", item.field))),
            _ => {
                let patterns = item
                    .modifiers
                    .patterns(Pattern::parse(text))
                    .map_err(|reason| cannot_at(&value.place, &format!("the value {reason}")))?;
                Ok(patterns.into_iter().map(|pattern| choice(ty, pattern.shape(), cased, &word)).collect())
            }
        }
    }

    /// Comparisons with another field of the event.
    fn references(
        &self,
        subject: &Subject<'_>,
        value: &Value,
        text: &str,
        op: Option<Op>,
    ) -> Result<Vec<Choice>, Diagnostic> {
        let cased = subject.item.modifiers.cased;
        let names = match self.class.get(text) {
            Some(To::Field(name)) => vec![name],
            Some(To::Program { runs, .. }) if self.negated => vec![runs],
            Some(To::Program { runs, asked }) => vec![runs, asked],
            Some(To::Always(_)) => {
                return Err(cannot_at(
                    &value.place,
                    &format!("`{text}` is the same for all events of this kind"),
                ));
            }
            None if self.category.fields().any(|name| name == text) => return Ok(Vec::new()),
            None => {
                let message = format!("there is no field `{text}` for `{}`", self.category.category);
                return Err(Diagnostic::warning("S202", message)
                    .label(value.place.span(), "not a field here")
                    .did_you_mean(text, self.category.fields()));
            }
        };
        let op = op.unwrap_or(match (subject.item.modifiers.compare, cased, is_text(subject.name)) {
            (Compare::Contains, false, _) => Op::IContains,
            (Compare::Contains, true, _) => Op::Contains,
            (Compare::StartsWith, false, _) => Op::IStartsWith,
            (Compare::StartsWith, true, _) => Op::StartsWith,
            (Compare::EndsWith, false, _) => Op::IEndsWith,
            (Compare::EndsWith, true, _) => Op::EndsWith,
            (_, false, true) => Op::IEq,
            _ => Op::Eq,
        });
        let right = |name| call("val", field_operand(name, &value.place), &value.place);
        Ok(names.into_iter().map(|name| Choice::Reference(op, right(name))).collect())
    }

    /// The texts of a value: itself, or with `expand` all that its placeholders stand for.
    fn expanded(&self, item: &Item, value: &Value) -> Result<Vec<Option<String>>, Diagnostic> {
        let Some(text) = value.text.as_deref().filter(|_| item.modifiers.expand) else {
            return Ok(vec![value.text.clone()]);
        };
        let mut texts = vec![String::new()];
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            if let Some(before) = before.strip_suffix('\\') {
                texts.iter_mut().for_each(|text| text.extend([before, "%"]));
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('%') else { break };
            let items = self.placeholder(name, &value.place)?;
            texts = texts
                .iter()
                .flat_map(|text| items.iter().map(move |item| format!("{text}{before}{item}")))
                .collect();
            if texts.len() > EXPANDED_MAX {
                let message = format!("the placeholders stand for more than {EXPANDED_MAX} texts");
                return Err(Diagnostic::warning("S107", message).label(value.place.span(), "too many"));
            }
            rest = after;
        }
        Ok(texts.into_iter().map(|text| Some(text + rest)).collect())
    }

    fn placeholder(&self, name: &str, place: &Place) -> Result<Vec<&str>, Diagnostic> {
        let Some(items) = self.lists.get(name) else {
            return Err(Diagnostic::warning("S204", format!("placeholder `%{name}%` has no values"))
                .label(place.span(), "used here")
                .hint(format!("give it some in a rule file: `- list: {name}` with `items: […]`")));
        };
        if let Some(list) = items.iter().find(|item| !item.quoted && self.lists.contains_key(&item.text)) {
            let message = format!("list `{name}` has list `{}` in it, which a placeholder cannot", list.text);
            return Err(Diagnostic::warning("S204", message)
                .label(place.span(), "used here")
                .label(list.place.span(), "a list"));
        }
        Ok(items.iter().map(|item| item.text.as_str()).collect())
    }
}

/// The value of `exists`.
fn exists(item: &Item) -> Result<bool, Diagnostic> {
    let text = |value: &Value| value.text.as_deref().map(str::to_ascii_lowercase);
    match item.values.iter().map(text).collect::<Option<Vec<_>>>().unwrap_or_default().as_slice() {
        [text] if text == "true" => Ok(true),
        [text] if text == "false" => Ok(false),
        _ => Err(cannot(item, "`exists` takes `true` or `false`")),
    }
}

/// A field that is the same for all events of a class.
fn always(item: &Item, text: &str) -> Result<Truth, Diagnostic> {
    if item.modifiers.compare == Compare::Exists {
        return exists(item).map(Truth::of);
    }
    let plain = Modifiers { all: item.modifiers.all, cased: item.modifiers.cased, ..Modifiers::default() };
    if item.modifiers != plain {
        return Err(cannot(item, &format!("`{}` can only be compared as a whole", item.field)));
    }
    let is = |value: &Value| value.text.as_deref().is_some_and(|value| value.eq_ignore_ascii_case(text));
    let holds = if item.modifiers.all { item.values.iter().all(is) } else { item.values.iter().any(is) };
    Ok(Truth::of(holds))
}

/// Something that cannot be asked of a field here.
fn cannot(item: &Item, message: &str) -> Diagnostic {
    cannot_at(&item.place, message)
}

fn cannot_at(place: &Place, message: &str) -> Diagnostic {
    Diagnostic::warning("S203", message).label(place.span(), "here")
}

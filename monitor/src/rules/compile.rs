//! Trees to compiled conditions: names are looked up, macros put in place, values checked against the type of
//! their field. All errors of a condition are told, each with its place. [`super::transform`] has what stands on the
//! sides of a test, [`super::typed`] the values, [`super::doubt`] what is legal but can hardly be meant.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::ast::{self, Expr, Op, Operand, Quantifier, Right, Word};
use super::doubt::{self, Claim};
use super::kinds::{is_chosen_only, kinds_by_name};
use super::matcher::{Node, Test};
use super::operand::{Against, Derived, Source};
use super::parser;
use super::transform::{self, ABSENT, Made, Many};
use super::typed::{Item, Left};
use crate::diagnostic::{Diagnostic, Span};
use crate::event::field::{self, FIELDS, Get, KindSet, Type};
use crate::probe::hook::{ALL_KINDS, bit};
use taffrail_common::kind;

/// Names that conditions can use.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Macros.
    pub macros: HashMap<String, Expr>,
    /// Lists: their items, lists within lists not resolved yet.
    pub lists: HashMap<String, Vec<Word>>,
}

/// Most values of one `in (…)`, lists included.
const VALUES_MAX: usize = 100_000;

/// Most tests in one condition, macros included.
const TESTS_MAX: usize = 20_000;

/// Most regular expressions in one condition, macros included.
const PATTERNS_MAX: usize = 500;

/// Deepest nesting of macros.
const MACROS_MAX: usize = 32;

/// Deepest nesting of all that a condition comes to, macros included: evaluating one goes as deep.
const DEPTH_MAX: usize = 256;

/// A condition that is ready to match.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The condition.
    pub node: Node,
    /// Which kinds of event it can match.
    pub kinds: KindSet,
    /// What has to be watched for its fields, beside these.
    pub needs: KindSet,
    /// System calls that it asks for by name and that are no event unless they are chosen.
    pub calls: BTreeSet<String>,
    /// What is legal, but hardly meant.
    pub warnings: Vec<Diagnostic>,
    /// Fields in it that no event has a value of yet.
    pub blind: Vec<&'static str>,
}

/// Compiles a condition.
pub fn compile(expr: &Expr, names: &Names) -> Result<Condition, Vec<Diagnostic>> {
    let mut compiler = Compiler {
        names,
        within: Vec::new(),
        depth: 0,
        tests: 0,
        patterns: 0,
        errors: Vec::new(),
        warnings: Vec::new(),
        negated: false,
        needs: 0,
        calls: BTreeSet::new(),
        blind: Vec::new(),
    };
    let compiled = compiler.expr(expr);
    let Compiler { errors, warnings, needs, calls, blind, .. } = compiler;
    match compiled {
        Some(Part { node, kinds, .. }) if errors.is_empty() => {
            let can = kinds & bit(kind::SYSCALL) != 0;
            let calls = if can { calls } else { BTreeSet::new() };
            Ok(Condition { node, kinds, needs, calls, warnings, blind })
        }
        _ => Err(errors),
    }
}

struct Compiler<'a> {
    names: &'a Names,
    /// Macros that are being put in place, to find rings.
    within: Vec<&'a str>,
    /// How deep within the condition.
    depth: usize,
    tests: usize,
    patterns: usize,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// Within an odd number of `not`s.
    negated: bool,
    needs: KindSet,
    calls: BTreeSet<String>,
    blind: Vec<&'static str>,
}

/// A part of a condition.
struct Part {
    node: Node,
    /// The kinds that it can match.
    kinds: KindSet,
    /// Whether the kinds say all that it says.
    exact: bool,
    /// What has to be so for it to hold.
    claims: Vec<Claim>,
}

impl<'a> Compiler<'a> {
    fn expr(&mut self, expr: &'a Expr) -> Option<Part> {
        if self.tests > TESTS_MAX {
            // Said already: macros within macros can double at each step.
            return None;
        }
        self.depth += 1;
        let compiled = self.by_sort(expr);
        self.depth -= 1;
        compiled
    }

    fn by_sort(&mut self, expr: &'a Expr) -> Option<Part> {
        match expr {
            Expr::And(parts) => {
                let parts = self.parts(parts)?;
                let kinds = parts.iter().fold(ALL_KINDS, |kinds, part| kinds & part.kinds);
                let exact = parts.iter().all(|part| part.exact);
                let (nodes, claims): (Vec<_>, Vec<_>) =
                    parts.into_iter().map(|part| (part.node, part.claims)).unzip();
                let claims = doubt::agreeing(claims.into_iter().flatten(), &mut |warning| self.warn(warning));
                // What a macro adds to a list of its own sort stands beside the others, to be put in their order.
                let nodes = nodes.into_iter().flat_map(|node| match node {
                    Node::And(inner) => inner.into_vec(),
                    node => vec![node],
                });
                Some(Part { node: Node::And(cheap_first(nodes.collect())), kinds, exact, claims })
            }
            Expr::Or(parts) => {
                let parts = self.parts(parts)?;
                let kinds = parts.iter().fold(0, |kinds, part| kinds | part.kinds);
                let exact = parts.iter().all(|part| part.exact);
                let nodes = parts.into_iter().flat_map(|part| match part.node {
                    Node::Or(inner) => inner.into_vec(),
                    node => vec![node],
                });
                Some(Part { node: Node::Or(cheap_first(nodes.collect())), kinds, exact, claims: Vec::new() })
            }
            Expr::Not(part) => {
                self.negated = !self.negated;
                let compiled = self.expr(part);
                self.negated = !self.negated;
                let Part { node, kinds, exact, claims: _ } = compiled?;
                let kinds = if exact { ALL_KINDS & !kinds } else { ALL_KINDS };
                Some(Part { node: Node::Not(Box::new(node)), kinds, exact, claims: Vec::new() })
            }
            Expr::Macro(name) => self.macro_call(name),
            Expr::Test(test) => self.test(test),
        }
    }

    /// All parts, so that the errors of all are told.
    fn parts(&mut self, parts: &'a [Expr]) -> Option<Vec<Part>> {
        let compiled: Vec<Option<Part>> = parts.iter().map(|part| self.expr(part)).collect();
        compiled.into_iter().collect()
    }

    fn macro_call(&mut self, name: &'a Word) -> Option<Part> {
        let place = name.place.span();
        let Some(expr) = self.names.macros.get(&name.text) else {
            let known = self.names.macros.keys().map(String::as_str);
            let diagnostic = Diagnostic::error("R202", format!("there is no macro `{}`", name.text))
                .label(place, "not a macro")
                .did_you_mean(&name.text, known.chain(FIELDS.iter().map(|field| field.name)));
            return self.fail(diagnostic);
        };
        if self.within.contains(&name.text.as_str()) {
            let diagnostic = Diagnostic::error("R204", format!("macro `{}` contains itself", name.text));
            return self.fail(diagnostic.label(place, "here again"));
        }
        if self.within.len() >= MACROS_MAX || self.depth > DEPTH_MAX {
            let message = if self.depth > DEPTH_MAX {
                format!("with its macros the condition is nested deeper than {DEPTH_MAX} levels")
            } else {
                format!("macros within macros are deeper than {MACROS_MAX} levels")
            };
            // Once is enough: there can be exponentially many ways down here.
            self.tests = TESTS_MAX + 1;
            return self.fail(Diagnostic::error("R205", message).label(place, "one too deep"));
        }
        self.within.push(&name.text);
        let compiled = self.expr(expr);
        self.within.pop();
        compiled
    }

    fn test(&mut self, test: &'a ast::Test) -> Option<Part> {
        let ast::Test { left, op, op_place, quantifier, right } = test;
        let place = left.place().span();
        self.tests += 1;
        if self.tests > TESTS_MAX {
            let message = format!("the condition has more than {TESTS_MAX} tests, macros included");
            return self.fail(Diagnostic::error("R205", message).label(place, "one too many"));
        }
        if let Some(never) = self.absent(left) {
            return Some(never);
        }
        let made = self.operand(left)?;
        let typed = Left { name: left, ty: made.ty, place, op: *op, op_place: op_place.span() };
        match right {
            Right::Operand(right) => self.two_fields(typed, made, right),
            Right::Values(words) => self.constants(typed, made, words, *quantifier),
            Right::None => self.constants(typed, made, &[], *quantifier),
        }
    }

    fn operand(&mut self, operand: &Operand) -> Option<Made> {
        let made = self.take(transform::operand(operand))?;
        self.needs |= made.source.needs();
        Some(made)
    }

    /// A test that never holds, of a field that Falco has and of which there are no values here.
    fn absent(&mut self, left: &Operand) -> Option<Part> {
        let Operand::Field { name, .. } = left else { return None };
        let field = field::find(&name.text).filter(|field| matches!(field.get, Get::Nothing))?;
        match ABSENT.iter().find(|(absent, _)| *absent == field.name) {
            Some((_, why)) => {
                let message = format!("`{}` is not recorded: this never holds", name.text);
                self.warn(Diagnostic::warning("R217", message).label(name.place.span(), *why));
            }
            None if !self.blind.contains(&field.name) => self.blind.push(field.name),
            None => {}
        }
        Some(Part { node: Node::Or(Box::default()), kinds: 0, exact: true, claims: Vec::new() })
    }

    fn two_fields(&mut self, typed: Left<'_>, left: Made, right: &'a Operand) -> Option<Part> {
        if let Some(never) = self.absent(right) {
            return Some(never);
        }
        self.take(typed.check_operator())?;
        let made = self.operand(right)?;
        let op = typed.op;
        if matches!(op, Op::PathMatch | Op::Regex | Op::Search | Op::BContains | Op::BStartsWith) {
            let message = format!("`{}` compares with constants only", op.text());
            let diagnostic = Diagnostic::error("R211", message).label(typed.op_place, "this operator");
            return self.fail(diagnostic.label(right.place().span(), "a value of the event"));
        }
        let is_text = |ty| matches!(ty, Type::Text | Type::Path | Type::TextList);
        if left.ty != made.ty && !(is_text(left.ty) && is_text(made.ty)) {
            let message = format!("`{}` and `{right}` are never the same", typed.name);
            let diagnostic = Diagnostic::error("R211", message)
                .label(typed.place, noun(left.ty))
                .label(right.place().span(), noun(made.ty));
            return self.fail(diagnostic.hint("`text(…)` makes a text of either"));
        }
        let every = op == Op::In && left.many == Many::List;
        let kinds = left.kinds & made.kinds;
        let derived = Derived { left: left.source, every, right: Against::Source(op, made.source) };
        Some(Part { node: Node::Derived(Box::new(derived)), kinds, exact: false, claims: Vec::new() })
    }

    fn constants(
        &mut self,
        typed: Left<'_>,
        made: Made,
        words: &'a [Word],
        quantifier: Option<Quantifier>,
    ) -> Option<Part> {
        let op = typed.op;
        if matches!(op, Op::Regex | Op::Search) {
            self.patterns += words.len();
            if self.patterns > PATTERNS_MAX {
                let message = format!("more than {PATTERNS_MAX} regular expressions, macros included");
                let diagnostic = Diagnostic::error("R205", message);
                return self.fail(diagnostic.label(typed.op_place, "one too many"));
            }
        }
        let is_list = op.takes_list() || quantifier.is_some();
        let items = if is_list { self.items(words) } else { self.item(words) }?;
        let mut warnings = Vec::new();
        let matcher = self.take(typed.matcher(&items, quantifier, &mut warnings))?;
        warnings.into_iter().take(doubt::TOLD_MAX).for_each(|warning| self.warn(warning));
        let Made { source, many, kinds, .. } = made;
        let (Source::Field(field, index), false) = (&source, op == Op::In && many == Many::List) else {
            let every = op == Op::In && many == Many::List;
            let derived = Derived { left: source, every, right: Against::Matcher(matcher) };
            return Some(Part {
                node: Node::Derived(Box::new(derived)),
                kinds,
                exact: false,
                claims: Vec::new(),
            });
        };
        let (field, index) = (*field, *index);
        let is_one_of = matches!(op, Op::Eq | Op::In | Op::Intersects)
            && matches!(quantifier, None | Some(Quantifier::Any));
        doubt::check_values(&typed, field, &items).into_iter().for_each(|warning| self.warn(warning));
        let by_name = if is_one_of { kinds_by_name(field, &items) } else { None };
        if by_name.is_some() && field.name == "evt.type" && !self.negated {
            let names = items.iter().map(|item| item.word.text.as_str());
            self.calls.extend(names.filter(|name| is_chosen_only(name)).map(str::to_owned));
        }
        // `evt.type` says less than its kind: `open` is one of the names of the kind `open`.
        let exact = by_name.is_some() && field.name == "evt.kind";
        let claims =
            if is_one_of && many == Many::One { doubt::claim(&typed, field, index, &items) } else { None };
        let node = Node::Test(Box::new(Test { field, index, matcher }));
        Some(Part { node, kinds: by_name.unwrap_or(kinds), exact, claims: claims.into_iter().collect() })
    }

    /// The only value of a test; a list that is named there must have one item.
    fn item(&mut self, words: &'a [Word]) -> Option<Vec<Item<'a>>> {
        let [word] = words else { return Some(Vec::new()) };
        if word.quoted || !self.names.lists.contains_key(&word.text) {
            return Some(vec![Item { word, list: None }]);
        }
        let items = self.items(words)?;
        if items.len() == 1 {
            return Some(items);
        }
        let message = format!("one value is needed here, but the list `{}` has {}", word.text, items.len());
        let diagnostic = Diagnostic::error("R208", message).label(word.place.span(), "a list");
        self.fail(diagnostic.hint(format!("write `in ({0})`, or `\"{0}\"` if the word is meant", word.text)))
    }

    /// The values of a test, lists put in place.
    fn items(&mut self, words: &'a [Word]) -> Option<Vec<Item<'a>>> {
        let mut values = Vec::new();
        let mut pending: Vec<(Item<'a>, usize)> =
            words.iter().rev().map(|word| (Item { word, list: None }, 0)).collect();
        while let Some((item, depth)) = pending.pop() {
            let word = item.word;
            let list = if word.quoted { None } else { self.names.lists.get(&word.text) };
            match list {
                Some(_) if depth > parser::DEPTH_MAX => {
                    let diagnostic =
                        Diagnostic::error("R204", format!("list `{}` contains itself", word.text));
                    return self.fail(diagnostic.label(word.place.span(), "used here"));
                }
                Some(items) => {
                    let list = item.list.or(Some(word));
                    pending.extend(items.iter().rev().map(|word| (Item { word, list }, depth + 1)));
                }
                None => values.push(item),
            }
            if values.len() + pending.len() > VALUES_MAX {
                let diagnostic = Diagnostic::error("R205", format!("more than {VALUES_MAX} values"));
                return self.fail(
                    words.iter().take(1).fold(diagnostic, |told, word| told.label(word.place.span(), "here")),
                );
            }
        }
        Some(values)
    }

    fn take<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(diagnostic) => self.fail(diagnostic),
        }
    }

    fn fail<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        // A macro that is used twice has its errors once.
        if !self.errors.contains(&diagnostic) {
            self.errors.push(diagnostic);
        }
        None
    }

    fn warn(&mut self, diagnostic: Diagnostic) {
        if !self.warnings.contains(&diagnostic) {
            self.warnings.push(diagnostic);
        }
    }
}

fn noun(ty: Type) -> &'static str {
    match ty {
        Type::Text | Type::Path | Type::TextList => "text",
        Type::Number => "a number",
        Type::Bool => "true or false",
        Type::Address => "an address",
    }
}

/// There is no field of that name.
pub fn unknown_field(name: &str, place: Span) -> Diagnostic {
    let diagnostic =
        Diagnostic::error("R201", format!("there is no field `{name}`")).label(place, "not a field");
    if matches!(name, "evt.arg" | "evt.rawarg" | "evt.args") {
        let names = FIELDS.iter().filter_map(|field| field.name.strip_prefix("evt.arg."));
        return diagnostic.hint(format!(
            "arguments go by their names: `evt.arg.` and {}",
            names.collect::<Vec<_>>().join(", ")
        ));
    }
    diagnostic.did_you_mean(name, FIELDS.iter().map(|field| field.name))
}

fn cheap_first(mut nodes: Vec<Node>) -> Box<[Node]> {
    nodes.sort_by_cached_key(Node::cost);
    nodes.into()
}

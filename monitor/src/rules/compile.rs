//! Trees to compiled conditions: names are looked up, macros put in place, values checked against the type of
//! their field. All errors of a condition are told, each with its place.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::ast::{self, Expr, Op, Operand, Place, Right, Word};
use super::matcher::{Matcher, Network, Node, Test};
use super::parser;
use crate::diagnostic::{Diagnostic, Span};
use crate::event::field::{self, FIELDS, Field, Get, KindSet, Type};
use crate::event::kind_name;
use crate::probe::call;
use crate::probe::hook::{ALL_KINDS, bit};
use taffrail_common::call::CALLS;
use taffrail_common::kind::{self, KINDS};

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

/// Deepest nesting of macros.
const MACROS_MAX: usize = 32;

/// A condition that is ready to match.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The condition.
    pub node: Node,
    /// Which kinds of event it can match.
    pub kinds: KindSet,
    /// System calls that it asks for by name and that are no event unless they are chosen.
    pub calls: BTreeSet<String>,
}

/// Compiles a condition.
pub fn compile(expr: &Expr, names: &Names) -> Result<Condition, Vec<Diagnostic>> {
    let mut compiler = Compiler {
        names,
        within: Vec::new(),
        tests: 0,
        diagnostics: Vec::new(),
        negated: false,
        calls: BTreeSet::new(),
    };
    let compiled = compiler.expr(expr);
    match compiled {
        Some((node, kinds, _)) if compiler.diagnostics.is_empty() => {
            let can = kinds & bit(kind::SYSCALL) != 0;
            Ok(Condition { node, kinds, calls: if can { compiler.calls } else { BTreeSet::new() } })
        }
        _ => Err(compiler.diagnostics),
    }
}

struct Compiler<'a> {
    names: &'a Names,
    /// Macros that are being put in place, to find rings.
    within: Vec<String>,
    tests: usize,
    diagnostics: Vec<Diagnostic>,
    /// Within an odd number of `not`s.
    negated: bool,
    calls: BTreeSet<String>,
}

/// A node, the kinds that it can match, and whether the kinds say all that it says.
type Compiled = Option<(Node, KindSet, bool)>;

impl Compiler<'_> {
    fn expr(&mut self, expr: &Expr) -> Compiled {
        if self.tests > TESTS_MAX {
            // Said already: macros within macros can double at each step.
            return None;
        }
        match expr {
            Expr::And(parts) => {
                let parts = self.parts(parts)?;
                let kinds = parts.iter().fold(ALL_KINDS, |kinds, part| kinds & part.1);
                let exact = parts.iter().all(|part| part.2);
                Some((Node::And(cheap_first(parts)), kinds, exact))
            }
            Expr::Or(parts) => {
                let parts = self.parts(parts)?;
                let kinds = parts.iter().fold(0, |kinds, part| kinds | part.1);
                let exact = parts.iter().all(|part| part.2);
                Some((Node::Or(cheap_first(parts)), kinds, exact))
            }
            Expr::Not(part) => {
                self.negated = !self.negated;
                let compiled = self.expr(part);
                self.negated = !self.negated;
                let (node, kinds, exact) = compiled?;
                let kinds = if exact { ALL_KINDS & !kinds } else { ALL_KINDS };
                Some((Node::Not(Box::new(node)), kinds, exact))
            }
            Expr::Macro(name) => self.macro_call(name),
            Expr::Test(test) => self.test(test),
        }
    }

    /// All parts, so that the errors of all are told.
    fn parts(&mut self, parts: &[Expr]) -> Option<Vec<(Node, KindSet, bool)>> {
        let compiled: Vec<Compiled> = parts.iter().map(|part| self.expr(part)).collect();
        compiled.into_iter().collect()
    }

    fn macro_call(&mut self, name: &Word) -> Compiled {
        let place = name.place.span();
        let Some(expr) = self.names.macros.get(&name.text) else {
            let known = self.names.macros.keys().map(String::as_str);
            let diagnostic = Diagnostic::error("R202", format!("there is no macro `{}`", name.text))
                .label(place, "not a macro")
                .did_you_mean(&name.text, known.chain(FIELDS.iter().map(|field| field.name)));
            return self.fail(diagnostic);
        };
        if self.within.contains(&name.text) {
            let diagnostic = Diagnostic::error("R204", format!("macro `{}` contains itself", name.text));
            return self.fail(diagnostic.label(place, "here again"));
        }
        if self.within.len() >= MACROS_MAX {
            let message = format!("macros within macros are deeper than {MACROS_MAX} levels");
            // Once is enough: there can be exponentially many ways down here.
            self.tests = TESTS_MAX + 1;
            return self.fail(Diagnostic::error("R205", message).label(place, "one too deep"));
        }
        self.within.push(name.text.clone());
        let compiled = self.expr(expr);
        self.within.pop();
        compiled
    }

    fn test(&mut self, test: &ast::Test) -> Compiled {
        let ast::Test { left, op, op_place, quantifier: None, right } = test else {
            return self.fail(unsupported(&test.op_place));
        };
        let (op, op_place) = (*op, op_place.span());
        let (Operand::Field { name, argument }, Right::Values(_) | Right::None) = (left, right) else {
            return self.fail(unsupported(left.place()));
        };
        let words = match right {
            Right::Values(words) => words.as_slice(),
            _ => &[],
        };
        self.tests += 1;
        let place = name.place.span();
        if self.tests > TESTS_MAX {
            let message = format!("the condition has more than {TESTS_MAX} tests, macros included");
            return self.fail(Diagnostic::error("R205", message).label(place, "one too many"));
        }
        let Some(field) = field::find(&name.text) else {
            let diagnostic = unknown_field(&name.text, place);
            return self.fail(diagnostic);
        };
        let index = match argument.as_ref().map(|argument| argument.text.parse()) {
            None => None,
            Some(Ok(index)) => Some(index),
            Some(Err(_)) => return self.fail(unsupported(&name.place)),
        };
        if index.is_some() && !matches!(field.get, Get::Ancestors(_) | Get::Indexed(_)) {
            let diagnostic =
                Diagnostic::error("R206", format!("`{}` takes no number in brackets", field.name));
            return self.fail(diagnostic.label(place, "one value"));
        }
        let values = self.values(words, op)?;
        let test = Typed { field, place, op, op_place };
        match test.matcher(&values) {
            Ok(matcher) => {
                let exact = kinds_by_name(field, op, &values);
                if exact.is_some() && field.name == "evt.type" && !self.negated {
                    let calls =
                        values.iter().map(|value| value.text.as_str()).filter(|name| is_chosen_only(name));
                    self.calls.extend(calls.map(str::to_owned));
                }
                let kinds = exact.unwrap_or(field.kinds);
                // `evt.type` says less than its kind: `open` is one of the names of the kind `open`.
                let exact = exact.is_some() && field.name == "evt.kind";
                Some((Node::Test(Box::new(Test { field, index, matcher })), kinds, exact))
            }
            Err(diagnostic) => self.fail(diagnostic),
        }
    }

    /// The values of a test, lists put in place.
    fn values(&mut self, words: &[Word], op: Op) -> Option<Vec<Word>> {
        if op != Op::In {
            return Some(words.to_vec());
        }
        let mut values = Vec::new();
        let mut pending: Vec<(Word, usize)> = words.iter().rev().map(|word| (word.clone(), 0)).collect();
        while let Some((word, depth)) = pending.pop() {
            let list = if word.quoted { None } else { self.names.lists.get(&word.text) };
            match list {
                Some(_) if depth > parser::DEPTH_MAX => {
                    let diagnostic =
                        Diagnostic::error("R204", format!("list `{}` contains itself", word.text));
                    return self.fail(diagnostic.label(word.place.span(), "used here"));
                }
                Some(items) => pending.extend(items.iter().rev().map(|item| (item.clone(), depth + 1))),
                None => values.push(word),
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

    fn fail<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        // A macro that is used twice has its errors once.
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
        None
    }
}

/// Part of the language that is not there yet.
fn unsupported(place: &Place) -> Diagnostic {
    Diagnostic::error("R208", "this part of the language is not supported").label(place.span(), "here")
}

/// There is no field of that name.
pub fn unknown_field(name: &str, place: Span) -> Diagnostic {
    Diagnostic::error("R201", format!("there is no field `{name}`"))
        .label(place, "not a field")
        .did_you_mean(name, FIELDS.iter().map(|field| field.name))
}

fn cheap_first(mut parts: Vec<(Node, KindSet, bool)>) -> Box<[Node]> {
    parts.sort_by_key(|(node, ..)| node.cost());
    parts.into_iter().map(|(node, ..)| node).collect()
}

/// The kinds that a test of the event's name or kind lets through.
fn kinds_by_name(field: &Field, op: Op, values: &[Word]) -> Option<KindSet> {
    if !matches!(op, Op::Eq | Op::In) || !matches!(field.name, "evt.type" | "evt.kind") {
        return None;
    }
    let of_kind = field.name == "evt.kind";
    let kinds_of = |value: &Word| match value.text.as_str() {
        name if of_kind => {
            (1..KINDS as u16).filter(|kind| kind_name(*kind) == name).fold(0, |set, kind| set | bit(kind))
        }
        "execve" | "execveat" => bit(kind::EXEC),
        "clone" => bit(kind::FORK),
        "procexit" => bit(kind::EXIT),
        "signal" => bit(kind::SIGNAL),
        "cgroup_attach_task" => bit(kind::CGROUP_MOVE),
        "flow" => bit(kind::FLOW),
        "udp" => bit(kind::UDP),
        "dns" => bit(kind::DNS),
        name => {
            let rows = CALLS.iter().filter(|row| row.name == name);
            rows.fold(if call::is_seen(name) { bit(kind::SYSCALL) } else { 0 }, |set, row| {
                set | bit(row.kind)
            })
        }
    };
    Some(values.iter().map(kinds_of).fold(0, |kinds, kind| kinds | kind))
}

/// Whether a name is that of a call which is no event kind of its own.
fn is_chosen_only(name: &str) -> bool {
    // These are names of the kinds `exec` and `fork`.
    !matches!(name, "execve" | "execveat" | "clone")
        && call::is_seen(name)
        && CALLS.iter().all(|row| row.name != name)
}

/// A test whose field is known, for checking its values.
struct Typed {
    field: &'static Field,
    place: Span,
    op: Op,
    op_place: Span,
}

impl Typed {
    fn matcher(&self, values: &[Word]) -> Result<Matcher, Diagnostic> {
        if self.op == Op::Exists {
            return Ok(Matcher::Exists);
        }
        match self.field.ty {
            Type::Text | Type::Path | Type::TextList => self.text(values),
            Type::Number => self.number(values),
            Type::Bool => self.bool(values),
            Type::Address => self.address(values),
        }
    }

    fn text(&self, values: &[Word]) -> Result<Matcher, Diagnostic> {
        let bytes = || values.first().map(|word| word.text.as_bytes()).unwrap_or_default();
        Ok(match self.op {
            Op::Eq => Matcher::Text(bytes().into(), true),
            Op::Ne => Matcher::Text(bytes().into(), false),
            Op::In => Matcher::Texts(values.iter().map(|word| word.text.as_bytes().into()).collect()),
            Op::Contains => Matcher::Find(Box::new(memchr::memmem::Finder::new(bytes()).into_owned())),
            Op::IContains => Matcher::FindFolded(bytes().to_ascii_lowercase().into()),
            Op::StartsWith => Matcher::Prefix(bytes().into()),
            Op::EndsWith => Matcher::Suffix(bytes().into()),
            Op::Glob => Matcher::Glob(bytes().into()),
            _ => {
                return Err(self
                    .bad_operator("text", "`=`, `!=`, `in`, `contains`, `startswith`, `endswith`, `glob`"));
            }
        })
    }

    fn number(&self, values: &[Word]) -> Result<Matcher, Diagnostic> {
        if !matches!(self.op, Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::In) {
            return Err(self.bad_operator("a number", "`=`, `!=`, `<`, `<=`, `>`, `>=`, `in`"));
        }
        let numbers: Vec<i64> = self.each(values, "a number", |text| text.parse().ok())?;
        Ok(match (self.op, numbers.as_slice()) {
            (Op::In, numbers) => Matcher::Numbers(numbers.into()),
            (op, [number, ..]) => Matcher::Number(op, *number),
            (_, []) => Matcher::Numbers(Box::default()),
        })
    }

    fn bool(&self, values: &[Word]) -> Result<Matcher, Diagnostic> {
        let wanted = match self.op {
            Op::Eq => true,
            Op::Ne => false,
            _ => return Err(self.bad_operator("true or false", "`=`, `!=`")),
        };
        let values = self.each(values, "`true` or `false`", |text| text.parse::<bool>().ok())?;
        Ok(Matcher::Bool(values.first().copied().unwrap_or(true) == wanted))
    }

    fn address(&self, values: &[Word]) -> Result<Matcher, Diagnostic> {
        let wanted = match self.op {
            Op::Eq | Op::In => true,
            Op::Ne => false,
            _ => return Err(self.bad_operator("an address", "`=`, `!=`, `in`")),
        };
        let networks = self.each(values, "an address or a network", Network::parse)?;
        Ok(Matcher::Addresses(networks.into(), wanted))
    }

    fn each<T>(
        &self,
        values: &[Word],
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Diagnostic> {
        let one = |word: &Word| {
            parse(&word.text).ok_or_else(|| {
                let name = self.field.name;
                Diagnostic::error(
                    "R203",
                    format!("`{name}` is compared with `{}`, which is not {wanted}", word.text),
                )
                .label(word.place.span(), format!("not {wanted}"))
                .label(self.place.clone(), format!("needs {wanted}"))
            })
        };
        values.iter().map(one).collect()
    }

    fn bad_operator(&self, what: &str, allowed: &str) -> Diagnostic {
        let (name, op) = (self.field.name, self.op.text());
        Diagnostic::error("R207", format!("`{name}` is {what}, which `{op}` cannot test"))
            .label(self.op_place.clone(), "this operator")
            .label(self.place.clone(), what)
            .hint(format!("use one of {allowed}, `exists`"))
    }
}

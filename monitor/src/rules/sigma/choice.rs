//! Tests of one field: what each value asks for, and the tests of several values put together, so that they are
//! looked for at once.

use std::net::IpAddr;

use super::build::Truth;
use super::detection::Item;
use super::pattern::Shape;
use crate::event::field::{self, Type};
use crate::rules::ast::{Argument, Expr, Op, Operand, Place, Quantifier, Right, Test, Word};

/// One of our fields, and the item that asks for it.
pub struct Subject<'a> {
    /// The field.
    pub name: &'static str,
    /// The item.
    pub item: &'a Item,
}

/// A test of the subject, of which some can be put together.
pub enum Choice {
    /// There is no value.
    Absent,
    /// There is no value, or an empty one.
    Empty,
    /// There is a value.
    Present,
    /// A test that takes several values.
    Value(Op, Word),
    /// The same of a value that is printed first: a number or an address as text.
    Printed(Op, Word),
    /// A test that takes one value.
    Each(Op, Word),
    /// A test against another field.
    Reference(Op, Operand),
}

impl Choice {
    /// Of a text that a value is compared with.
    pub fn text(ty: Option<Type>, op: Op, word: Word) -> Self {
        match ty {
            Some(Type::Number | Type::Address | Type::Bool) => Choice::Printed(op, word),
            _ => Choice::Value(op, word),
        }
    }
}

/// The test of a shape.
pub fn choice(ty: Option<Type>, shape: Shape, cased: bool, word: &impl Fn(String) -> Word) -> Choice {
    let (op, cased_op, text) = match shape {
        Shape::Any => return Choice::Present,
        Shape::Equals(text) if text.is_empty() => return Choice::Empty,
        Shape::Equals(text) => match ty {
            Some(Type::Number) => match number(&text) {
                Some(number) => return Choice::Value(Op::In, word(number.to_string())),
                None => (Op::IEq, Op::Eq, text),
            },
            Some(Type::Address) if text.parse::<IpAddr>().is_ok() => {
                return Choice::Value(Op::In, word(text));
            }
            _ => (Op::IEq, Op::Eq, text),
        },
        Shape::StartsWith(text) => (Op::IStartsWith, Op::StartsWith, text),
        Shape::EndsWith(text) => (Op::IEndsWith, Op::EndsWith, text),
        Shape::Contains(text) => (Op::IContains, Op::Contains, text),
        Shape::Glob(text) => (Op::IGlob, Op::Glob, text),
        Shape::Regex(text) if cased => (Op::Regex, Op::Regex, text),
        Shape::Regex(text) => (Op::Regex, Op::Regex, format!("(?i){text}")),
    };
    Choice::text(ty, if cased { cased_op } else { op }, word(text))
}

/// A whole number, decimal or as `0x3e7`.
fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Subject<'_> {
    fn operand(&self) -> Operand {
        field_operand(self.name, &self.item.place)
    }

    fn printed(&self) -> Operand {
        call("text", self.operand(), &self.item.place)
    }

    fn test(&self, left: Operand, op: Op, quantifier: Option<Quantifier>, right: Right) -> Truth {
        Truth::When(Expr::Test(Test { left, op, op_place: self.item.place.clone(), quantifier, right }))
    }

    /// That there is a value.
    pub fn exists(&self) -> Truth {
        self.test(self.operand(), Op::Exists, None, Right::None)
    }

    /// The tests, those put together that differ in their value only.
    pub fn grouped(&self, choices: Vec<Choice>, quantifier: Quantifier) -> Vec<Truth> {
        let mut truths = Vec::new();
        let mut groups: Vec<(bool, Op, Vec<Word>)> = Vec::new();
        for choice in choices {
            let (printed, op, word) = match choice {
                Choice::Value(op, word) => (false, op, word),
                Choice::Printed(op, word) => (true, op, word),
                Choice::Absent => {
                    truths.push(self.exists().not());
                    continue;
                }
                Choice::Empty => {
                    let word = Word { text: String::new(), quoted: true, place: self.item.place.clone() };
                    let empty = if is_text(self.name) {
                        self.test(self.operand(), Op::Eq, None, Right::Values(vec![word]))
                    } else {
                        Truth::Never
                    };
                    truths.push(Truth::any([self.exists().not(), empty]));
                    continue;
                }
                Choice::Present => {
                    truths.push(self.exists());
                    continue;
                }
                Choice::Each(op, word) => {
                    truths.push(self.test(self.operand(), op, None, Right::Values(vec![word])));
                    continue;
                }
                Choice::Reference(op, operand) => {
                    truths.push(self.test(self.operand(), op, None, Right::Operand(operand)));
                    continue;
                }
            };
            match groups.iter_mut().find(|(known, other, _)| (*known, *other) == (printed, op)) {
                Some((.., words)) => words.push(word),
                None => groups.push((printed, op, vec![word])),
            }
        }
        truths.extend(groups.into_iter().flat_map(|(printed, op, words)| {
            let left = if printed { self.printed() } else { self.operand() };
            match (op, quantifier, words.len()) {
                // No value is in two lists of one.
                (Op::In, Quantifier::All, 2..) => words
                    .into_iter()
                    .map(|word| self.test(left.clone(), op, None, Right::Values(vec![word])))
                    .collect(),
                (Op::In, ..) | (_, _, 1) => vec![self.test(left, op, None, Right::Values(words))],
                _ => vec![self.test(left, op, Some(quantifier), Right::Values(words))],
            }
        }));
        truths
    }
}

/// One of our fields.
pub fn field_operand(name: &str, place: &Place) -> Operand {
    let name = Word { text: name.to_owned(), quoted: false, place: place.clone() };
    Operand::Field { name, argument: None }
}

/// A transformer of it.
pub fn call(name: &str, argument: Operand, place: &Place) -> Operand {
    let name = Word { text: name.to_owned(), quoted: false, place: place.clone() };
    Operand::Call { name, arguments: vec![Argument::Operand(argument)], selector: None }
}

/// Whether one of our fields is a text.
pub fn is_text(name: &str) -> bool {
    field::find(name).is_some_and(|field| matches!(field.ty, Type::Text | Type::Path | Type::TextList))
}

//! The sides of a test that are made of fields: names are looked up, and each transformer is checked against what it
//! is given.

use super::ast::{Argument, Operand, Word};
use super::compile::unknown_field;
use super::operand::{DEPTH_MAX, Options, Source};
use crate::diagnostic::{Diagnostic, Span};
use crate::event::field::{self, Field, Get, KindSet, Type};
use crate::probe::hook::ALL_KINDS;

/// One side of a test.
#[derive(Debug)]
pub struct Made {
    /// What makes its values.
    pub source: Source,
    /// What they are; of several texts, one.
    pub ty: Type,
    /// How many there can be.
    pub many: Many,
    /// The kinds of event that can have one.
    pub kinds: KindSet,
}

/// How many values there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// One.
    One,
    /// Several that are much the same, such as all ancestors' names.
    Any,
    /// A list.
    List,
}

/// Falco's fields whose values are not recorded, and why. A test of one never holds.
pub const ABSENT: &[(&str, &str)] =
    &[("proc.env", "environments often hold secrets"), ("proc.aenv", "environments often hold secrets")];

/// The names of all transformers.
const NAMES: [&str; 10] =
    ["tolower", "toupper", "b64", "basename", "len", "text", "concat", "join", "getopt", "val"];

/// Looks up what a side names.
pub fn operand(operand: &Operand) -> Result<Made, Diagnostic> {
    made(operand, 0)
}

fn made(operand: &Operand, depth: usize) -> Result<Made, Diagnostic> {
    match operand {
        Operand::Field { name, argument } => of_field(name, argument.as_ref()),
        Operand::Call { name, .. } if depth >= DEPTH_MAX => {
            let message = format!("transformers within each other are deeper than {DEPTH_MAX} levels");
            Err(Diagnostic::error("R205", message).label(name.place.span(), "one too deep"))
        }
        Operand::Call { name, arguments, selector } => {
            if let Some(selector) = selector.as_deref().filter(|_| name.text != "getopt") {
                return Err(wrong(name, "takes nothing in brackets").label(selector.place.span(), "this"));
            }
            call(name, arguments, selector.as_deref(), depth + 1)
        }
    }
}

fn of_field(name: &Word, argument: Option<&Word>) -> Result<Made, Diagnostic> {
    let place = name.place.span();
    let (field, argument) = match (field::find(&name.text), argument) {
        (Some(field), argument) => (field, argument),
        (None, None) => {
            // `container.label.app` is `container.label[app]`.
            let mut splits = name.text.match_indices('.').map(|(dot, _)| name.text.split_at(dot));
            let keyed = splits.find_map(|(name, key)| Some((keyed(field::find(name)?)?, &key[1..])));
            let Some((field, key)) = keyed else { return Err(unknown_field(&name.text, place)) };
            return Ok(by_name(field, key));
        }
        // `evt.arg[flags]` is `evt.arg.flags`.
        (None, Some(word)) => match field::find(&format!("{}.{}", name.text, word.text)) {
            Some(field) => (field, None),
            None => return Err(unknown_field(&name.text, place)),
        },
    };
    if matches!(field.get, Get::Nothing) {
        return Ok(Made {
            source: Source::Field(field, None),
            ty: element(field.ty),
            many: Many::One,
            kinds: 0,
        });
    }
    let index = match (keyed(field), argument) {
        (Some(field), Some(word)) => return Ok(by_name(field, &word.text)),
        (Some(_), None) => {
            let error = Diagnostic::error("R206", format!("`{}` needs a name in brackets", name.text));
            return Err(error.label(place, "which one?"));
        }
        (None, None) => None,
        (None, Some(word)) => Some(index(field, word, place)?),
    };
    let many = match (field.get, index) {
        (Get::One(_) | Get::Keyed(_) | Get::Nothing, _) | (_, Some(_)) => Many::One,
        (Get::Ancestors(_) | Get::Indexed(_), None) => Many::Any,
        (Get::Many(_), None) if field.ty == Type::TextList => Many::List,
        (Get::Many(_), None) => Many::Any,
    };
    Ok(Made { source: Source::Field(field, index), ty: element(field.ty), many, kinds: field.kinds })
}

/// The field, if its values go by name.
fn keyed(field: &'static Field) -> Option<&'static Field> {
    matches!(field.get, Get::Keyed(_)).then_some(field)
}

fn by_name(field: &'static Field, key: &str) -> Made {
    let source = Source::Keyed(field, key.as_bytes().into());
    Made { source, ty: element(field.ty), many: Many::One, kinds: field.kinds }
}

/// What one value is.
fn element(ty: Type) -> Type {
    if ty == Type::TextList { Type::Text } else { ty }
}

fn index(field: &Field, word: &Word, place: Span) -> Result<u32, Diagnostic> {
    let error = |message: String| Diagnostic::error("R206", message);
    if !matches!(field.get, Get::Ancestors(_) | Get::Indexed(_)) {
        let what = if matches!(field.get, Get::One(_)) { "one value" } else { "a list" };
        let error = error(format!("`{}` takes no number in brackets", field.name)).label(place, what);
        return Err(error.label(word.place.span(), "this"));
    }
    word.text.parse().map_err(|_| {
        let error = error(format!("`{}` takes a number in brackets, not `{}`", field.name, word.text));
        error.label(word.place.span(), "not a number")
    })
}

fn call(
    name: &Word,
    arguments: &[Argument],
    selector: Option<&Word>,
    depth: usize,
) -> Result<Made, Diagnostic> {
    let text = |make: fn(Box<Source>) -> Source| {
        let inner = only(name, arguments, depth)?;
        needs_text(name, arguments, &inner)?;
        Ok(Made { source: make(Box::new(inner.source)), ..inner })
    };
    match name.text.as_str() {
        "tolower" => text(Source::Lower),
        "toupper" => text(Source::Upper),
        "b64" => text(Source::Decoded),
        "basename" => text(Source::LastPart),
        "val" => only(name, arguments, depth),
        "text" => only(name, arguments, depth).map(printed),
        "len" => {
            let inner = only(name, arguments, depth)?;
            let make = if inner.many == Many::One {
                needs_text(name, arguments, &inner)?;
                Source::Length
            } else {
                Source::Count
            };
            let source = make(Box::new(inner.source));
            Ok(Made { source, ty: Type::Number, many: Many::One, kinds: inner.kinds })
        }
        "concat" => {
            if arguments.len() < 2 {
                return Err(wrong(name, "needs at least two arguments"));
            }
            let parts: Result<Vec<_>, _> =
                arguments.iter().map(|argument| single(name, argument, depth)).collect();
            Ok(joined(Box::default(), parts?))
        }
        "join" => join(name, arguments, depth),
        "getopt" => options(name, arguments, selector, depth),
        _ => Err(Diagnostic::error("R209", format!("there is no transformer `{}`", name.text))
            .label(name.place.span(), "not a transformer")
            .did_you_mean(&name.text, NAMES.into_iter())),
    }
}

fn join(name: &Word, arguments: &[Argument], depth: usize) -> Result<Made, Diagnostic> {
    let [Argument::Word(separator), list] = arguments else {
        return Err(
            wrong(name, "needs a text that comes between and a list").hint("write `join(\", \", proc.arg)`")
        );
    };
    let separator: Box<[u8]> = separator.text.as_bytes().into();
    match list {
        Argument::List(items) if !items.is_empty() => {
            let parts: Result<Vec<_>, _> = items.iter().map(|item| single(name, item, depth)).collect();
            Ok(joined(separator, parts?))
        }
        Argument::Operand(operand) => {
            let inner = made(operand, depth)?;
            if inner.many == Many::One {
                return Err(wrong(name, "needs a list").label(operand.place().span(), "one value"));
            }
            Ok(joined(separator, vec![printed(inner)]))
        }
        Argument::List(_) | Argument::Word(_) => Err(wrong(name, "needs a list as its second argument")),
    }
}

fn options(
    name: &Word,
    arguments: &[Argument],
    selector: Option<&Word>,
    depth: usize,
) -> Result<Made, Diagnostic> {
    let [Argument::Operand(list), Argument::Word(letters)] = arguments else {
        return Err(wrong(name, "needs a list of arguments and the letters of its options")
            .hint("write `getopt(proc.arg, \"nt:\")`"));
    };
    let list = match list {
        // What Falco has as a list under that name is one text here.
        Operand::Field { name, argument: None } if name.text == "proc.args" => {
            of_field(&Word { text: "proc.arg".to_owned(), ..name.clone() }, None)?
        }
        list => made(list, depth)?,
    };
    if list.many == Many::One || list.ty == Type::Number {
        return Err(wrong(name, "needs a list of arguments, such as `proc.arg`"));
    }
    let wanted = match selector.map(|word| (word, word.text.as_bytes())) {
        None => None,
        Some((_, [letter])) => Some(*letter),
        Some((word, _)) => {
            return Err(wrong(name, "takes one letter in brackets").label(word.place.span(), "this"));
        }
    };
    let spec = letters.text.as_bytes();
    let letters: Vec<u8> = spec.iter().copied().filter(|letter| *letter != b':').collect();
    let with_value = spec.windows(2).filter(|pair| pair[1] == b':' && pair[0] != b':').map(|pair| pair[0]);
    let options =
        Options { arguments: list.source, letters: letters.into(), with_value: with_value.collect(), wanted };
    let many = if wanted.is_some() { Many::One } else { Many::List };
    Ok(Made { source: Source::Options(Box::new(options)), ty: Type::Text, many, kinds: list.kinds })
}

/// The only argument.
fn only(name: &Word, arguments: &[Argument], depth: usize) -> Result<Made, Diagnostic> {
    match arguments {
        [Argument::Operand(operand)] => made(operand, depth),
        _ => Err(wrong(name, "needs one argument: a field, or what another transformer makes of one")),
    }
}

/// An argument that is one text, or is made one.
fn single(name: &Word, argument: &Argument, depth: usize) -> Result<Made, Diagnostic> {
    match argument {
        Argument::Word(word) => {
            let source = Source::Text(word.text.as_bytes().into());
            Ok(Made { source, ty: Type::Text, many: Many::One, kinds: ALL_KINDS })
        }
        Argument::Operand(operand) => {
            let made = made(operand, depth)?;
            if made.many != Many::One {
                return Err(wrong(name, "needs single values here").label(operand.place().span(), "several"));
            }
            Ok(printed(made))
        }
        Argument::List(_) => Err(wrong(name, "takes no list here")),
    }
}

fn joined(separator: Box<[u8]>, parts: Vec<Made>) -> Made {
    let kinds = parts.iter().fold(ALL_KINDS, |kinds, part| kinds & part.kinds);
    let parts = parts.into_iter().map(|part| part.source).collect();
    Made { source: Source::Joined(separator, parts), ty: Type::Text, many: Many::One, kinds }
}

fn printed(made: Made) -> Made {
    match made.ty {
        Type::Text | Type::Path | Type::TextList => made,
        Type::Number | Type::Bool | Type::Address => {
            Made { source: Source::Printed(Box::new(made.source)), ty: Type::Text, ..made }
        }
    }
}

fn needs_text(name: &Word, arguments: &[Argument], made: &Made) -> Result<(), Diagnostic> {
    if matches!(made.ty, Type::Text | Type::Path | Type::TextList) {
        return Ok(());
    }
    let diagnostic = wrong(name, "needs text");
    Err(match arguments {
        [Argument::Operand(operand)] => diagnostic
            .label(operand.place().span(), "no text")
            .hint(format!("write `{}(text({operand}))`", name.text)),
        _ => diagnostic,
    })
}

fn wrong(name: &Word, what: &str) -> Diagnostic {
    Diagnostic::error("R210", format!("`{}` {what}", name.text)).label(name.place.span(), "this transformer")
}

//! The right side of a test, checked against the type of its left side: words become matchers. What is legal but can
//! hardly be meant is told as a warning.

use super::ast::{Op, Operand, Quantifier, Word};
use super::matcher::Matcher;
use super::network::{Network, Networks};
use super::path::{COMPONENTS_MAX, Paths};
use super::pattern::{FoldedTexts, Glob, Needle, Needles, Pattern, Texts};
use crate::diagnostic::{Diagnostic, Span};
use crate::event::field::Type;

/// Longest text that one test looks for, in bytes.
const TEXT_MAX: usize = 16 << 10;

/// The left side of a test.
pub struct Left<'a> {
    /// How it is written.
    pub name: &'a Operand,
    /// What its values are.
    pub ty: Type,
    /// Where it stands.
    pub place: Span,
    /// The operator.
    pub op: Op,
    /// Where that stands.
    pub op_place: Span,
}

/// A value on the right.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// The value.
    pub word: &'a Word,
    /// The name of the list that it comes from.
    pub list: Option<&'a Word>,
}

impl Item<'_> {
    /// Labels where it stands, and where the list is used that it is in.
    pub fn label(&self, diagnostic: Diagnostic, text: impl Into<String>) -> Diagnostic {
        let diagnostic = diagnostic.label(self.word.place.span(), text);
        match self.list {
            Some(list) => {
                diagnostic.label(list.place.span(), format!("by the list `{}` that is used here", list.text))
            }
            None => diagnostic,
        }
    }

    fn bytes(&self) -> &[u8] {
        self.word.text.as_bytes()
    }
}

/// What a test needs: a matcher, and what is to be said of it.
pub type Matched = Result<Matcher, Diagnostic>;

impl Left<'_> {
    /// A test with constants. `each` says for how many of them it has to hold.
    pub fn matcher(
        &self,
        items: &[Item<'_>],
        each: Option<Quantifier>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Matched {
        if self.op == Op::Exists {
            return Ok(Matcher::Exists);
        }
        self.check_operator()?;
        if let Some(long) = items.iter().find(|item| item.bytes().len() > TEXT_MAX) {
            let message = format!("a value of more than {TEXT_MAX} bytes");
            return Err(long.label(Diagnostic::error("R205", message), "too long"));
        }
        if let Some(matcher) = self.at_once(items, each)? {
            return Ok(matcher);
        }
        let Some(quantifier) = each else {
            return match items {
                [item] => self.one(item, warnings),
                _ => Ok(Matcher::never()),
            };
        };
        let each: Result<Box<[_]>, _> = items.iter().map(|item| self.one(item, warnings)).collect();
        Ok(Matcher::Quantified(quantifier, each?))
    }

    /// A test with all constants together, where there is one.
    fn at_once(&self, items: &[Item<'_>], each: Option<Quantifier>) -> Result<Option<Matcher>, Diagnostic> {
        let texts = || items.iter().map(Item::bytes);
        let is_text = matches!(self.ty, Type::Text | Type::Path | Type::TextList);
        let is_any = each == Some(Quantifier::Any);
        Ok(Some(match self.op {
            Op::In | Op::Intersects => self.one_of(items)?,
            Op::Eq if is_any => self.one_of(items)?,
            Op::PathMatch => {
                let deep = || {
                    let message = format!("a path of more than {COMPONENTS_MAX} folders");
                    Diagnostic::error("R205", message).label(self.op_place.clone(), "in this list")
                };
                Matcher::Paths(Box::new(Paths::new(texts()).ok_or_else(deep)?))
            }
            Op::IEq if is_any => Matcher::FoldedTexts(FoldedTexts::new(texts())),
            Op::Contains | Op::IContains if is_any && is_text && items.len() > 1 => self.needles(items)?,
            Op::IContains if items.len() == 1 => self.needles(items)?,
            _ => return Ok(None),
        }))
    }

    fn needles(&self, items: &[Item<'_>]) -> Matched {
        let too_much = || {
            Diagnostic::error("R205", "so many texts cannot be looked for at once")
                .label(self.op_place.clone(), "in this list")
        };
        let needles = Needles::new(items.iter().map(Item::bytes), self.op == Op::IContains);
        needles.map(|needles| Matcher::FindAny(Box::new(needles))).ok_or_else(too_much)
    }

    /// A test for one of several constants.
    fn one_of(&self, items: &[Item<'_>]) -> Matched {
        Ok(match self.ty {
            Type::Text | Type::Path | Type::TextList => {
                Matcher::Texts(Texts::new(items.iter().map(Item::bytes)))
            }
            Type::Number => {
                let mut numbers: Vec<i64> = Vec::with_capacity(items.len());
                for item in items {
                    if let Number::Whole(number) = self.parse(item, "a number", |text| number(text, true))? {
                        numbers.push(number);
                    }
                }
                numbers.sort_unstable();
                numbers.dedup();
                Matcher::Numbers(numbers.into())
            }
            Type::Bool => {
                let bools: Result<Vec<bool>, _> = items.iter().map(|item| self.bool(item)).collect();
                let bools = bools?;
                match (bools.contains(&true), bools.contains(&false)) {
                    (true, true) => Matcher::Exists,
                    (false, false) => Matcher::never(),
                    (wanted, _) => Matcher::Bool(wanted),
                }
            }
            Type::Address => {
                let networks: Result<Vec<Network>, _> = items.iter().map(|item| self.network(item)).collect();
                Matcher::Addresses(Box::new(Networks::new(networks?.into_iter())), true)
            }
        })
    }

    /// A test with one constant.
    fn one(&self, item: &Item<'_>, warnings: &mut Vec<Diagnostic>) -> Matched {
        match self.ty {
            Type::Text | Type::Path | Type::TextList => self.text(item, warnings),
            Type::Number => self.number(item, warnings),
            Type::Bool => self.bool(item).map(|value| Matcher::Bool(value == (self.op == Op::Eq))),
            Type::Address => {
                let networks = Networks::new([self.network(item)?].into_iter());
                Ok(Matcher::Addresses(Box::new(networks), self.op == Op::Eq))
            }
        }
    }

    fn text(&self, item: &Item<'_>, warnings: &mut Vec<Diagnostic>) -> Matched {
        let bytes = item.bytes();
        if matches!(self.op, Op::Lt | Op::Le | Op::Gt | Op::Ge) && number(&item.word.text, true).is_some() {
            let message = format!("`{}` is text: its bytes are compared, not numbers", self.name);
            let warning = Diagnostic::warning("R216", message).label(self.op_place.clone(), "byte by byte");
            warnings.push(item.label(warning, "a number").hint(format!("`len({})` is a number", self.name)));
        }
        let is_all = match self.op {
            Op::Contains
            | Op::IContains
            | Op::StartsWith
            | Op::IStartsWith
            | Op::EndsWith
            | Op::IEndsWith
            | Op::BContains
            | Op::BStartsWith => bytes.is_empty(),
            Op::Glob | Op::IGlob => !bytes.is_empty() && bytes.iter().all(|byte| *byte == b'*'),
            Op::Regex => matches!(item.word.text.as_str(), ".*" | "^.*$" | "(.*)"),
            Op::Search => matches!(item.word.text.as_str(), "" | ".*"),
            _ => false,
        };
        if is_all {
            let message = format!("all that `{}` can be passes this", self.name);
            let warning = Diagnostic::warning("R215", message).label(self.op_place.clone(), "with this");
            warnings.push(item.label(warning, "always").hint(format!("write `{} exists`", self.name)));
        }
        if self.op == Op::Regex && bytes.is_empty() {
            let message = "an empty expression is the empty text, for `regex` is of the whole text";
            let warning = Diagnostic::warning("R214", message).label(self.op_place.clone(), "with this");
            warnings.push(item.label(warning, "empty"));
        }
        Ok(match self.op {
            Op::Ne => Matcher::Text(bytes.into(), false),
            Op::IEq => Matcher::Folded(bytes.to_ascii_lowercase().into()),
            Op::Lt | Op::Le | Op::Gt | Op::Ge => Matcher::Order(self.op, bytes.into()),
            Op::Contains => find(bytes),
            Op::IContains => self.needles(&[*item])?,
            Op::BContains => find(&self.parse(item, "bytes as hex digits", hex)?),
            Op::BStartsWith => Matcher::Prefix(self.parse(item, "bytes as hex digits", hex)?.into()),
            Op::StartsWith => Matcher::Prefix(bytes.into()),
            Op::EndsWith => Matcher::Suffix(bytes.into()),
            Op::IStartsWith => Matcher::FoldedPrefix(bytes.into()),
            Op::IEndsWith => Matcher::FoldedSuffix(bytes.into()),
            Op::Glob | Op::IGlob => self.glob(item)?,
            Op::Regex => Matcher::Pattern(Box::new(self.pattern(item, Pattern::whole)?)),
            Op::Search => Matcher::Pattern(Box::new(self.pattern(item, Pattern::anywhere)?)),
            Op::Eq | Op::In | Op::Intersects | Op::PathMatch | Op::Exists => {
                Matcher::Text(bytes.into(), true)
            }
        })
    }

    /// A pattern, or what does the same quicker.
    fn glob(&self, item: &Item<'_>) -> Matched {
        let pattern = item.bytes();
        let folded = self.op == Op::IGlob;
        let stars_at_start = pattern.iter().take_while(|byte| **byte == b'*').count();
        let inner = &pattern[stars_at_start..];
        let stars_at_end = inner.iter().rev().take_while(|byte| **byte == b'*').count();
        let inner = &inner[..inner.len() - stars_at_end];
        if inner.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\')) {
            return Ok(Matcher::Glob(Glob::new(pattern, folded)));
        }
        Ok(match (stars_at_start > 0, stars_at_end > 0, folded) {
            (false, false, false) => Matcher::Text(inner.into(), true),
            (false, false, true) => Matcher::Folded(inner.into()),
            (false, true, false) => Matcher::Prefix(inner.into()),
            (false, true, true) => Matcher::FoldedPrefix(inner.into()),
            (true, false, false) => Matcher::Suffix(inner.into()),
            (true, false, true) => Matcher::FoldedSuffix(inner.into()),
            (true, true, false) => find(inner),
            (true, true, true) => Matcher::Glob(Glob::new(pattern, folded)),
        })
    }

    fn pattern(
        &self,
        item: &Item<'_>,
        make: impl Fn(&str) -> Result<Pattern, regex::Error>,
    ) -> Result<Pattern, Diagnostic> {
        make(&item.word.text).map_err(|error| {
            let (message, label) = match &error {
                regex::Error::CompiledTooBig(_) => (
                    "this expression takes too much memory".to_owned(),
                    "its repetitions multiply".to_owned(),
                ),
                error => {
                    let text = error.to_string();
                    let last = text.lines().last().unwrap_or_default().trim();
                    let why = last.strip_prefix("error: ").unwrap_or(last).to_owned();
                    ("this is no regular expression".to_owned(), why)
                }
            };
            item.label(Diagnostic::error("R212", message), label)
        })
    }

    fn number(&self, item: &Item<'_>, warnings: &mut Vec<Diagnostic>) -> Matched {
        let is_ordered = !matches!(self.op, Op::Eq | Op::Ne);
        match self.parse(item, "a number", |text| number(text, !is_ordered))? {
            Number::Whole(number) => Ok(Matcher::Number(self.op, number)),
            Number::Above(floor) => Ok(match self.op {
                Op::Lt | Op::Le => Matcher::Number(Op::Le, floor),
                Op::Gt | Op::Ge => Matcher::Number(Op::Gt, floor),
                op => {
                    let message = format!("`{}` is always a whole number", self.name);
                    let warning = Diagnostic::warning("R214", message);
                    warnings.push(item.label(warning, "so it never is this one"));
                    if op == Op::Ne { Matcher::Exists } else { Matcher::never() }
                }
            }),
        }
    }

    fn bool(&self, item: &Item<'_>) -> Result<bool, Diagnostic> {
        self.parse(item, "`true` or `false`", |text| text.parse().ok())
    }

    fn network(&self, item: &Item<'_>) -> Result<Network, Diagnostic> {
        self.parse(item, "an address or a network", Network::parse)
    }

    fn parse<T>(
        &self,
        item: &Item<'_>,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Diagnostic> {
        let Word { text, .. } = item.word;
        parse(text).ok_or_else(|| {
            let message = format!("`{}` is compared with `{text}`, which is not {wanted}", self.name);
            let diagnostic = item.label(Diagnostic::error("R203", message), format!("not {wanted}"));
            diagnostic.label(self.place.clone(), format!("needs {wanted}"))
        })
    }

    /// Whether values of that type can be tested so.
    pub fn check_operator(&self) -> Result<(), Diagnostic> {
        let (what, allowed): (_, &[Op]) = match self.ty {
            Type::Text | Type::Path | Type::TextList => return Ok(()),
            Type::Number => {
                ("a number", &[Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge, Op::In, Op::Intersects])
            }
            Type::Bool => ("true or false", &[Op::Eq, Op::Ne, Op::In, Op::Intersects]),
            Type::Address => ("an address", &[Op::Eq, Op::Ne, Op::In, Op::Intersects]),
        };
        if allowed.contains(&self.op) || self.op == Op::Exists {
            return Ok(());
        }
        let (name, op) = (self.name, self.op.text());
        let allowed: Vec<_> = allowed.iter().map(|op| format!("`{}`", op.text())).collect();
        Err(Diagnostic::error("R207", format!("`{name}` is {what}, which `{op}` cannot test"))
            .label(self.op_place.clone(), "this operator")
            .label(self.place.clone(), what)
            .hint(format!("use one of {}, `exists`, or write `text({name})`", allowed.join(", "))))
    }
}

fn find(text: &[u8]) -> Matcher {
    Matcher::Find(Box::new(Needle::new(text)))
}

/// Bytes from hex digits.
fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let bytes = pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// A number as it can be written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i64),
    /// It lies between this number and the next.
    Above(i64),
}

/// Reads `-1`, `0x1f`, `1.5` or `1e+9`. Of large unsigned numbers, which fields have as negative ones, only equality
/// can be told.
fn number(text: &str, large: bool) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        return u64::from_str_radix(digits, 16).ok().filter(|_| is_hex).and_then(|value| whole(value, large));
    }
    if let Ok(value) = text.parse::<i64>() {
        return Some(Number::Whole(value));
    }
    if let Ok(value) = text.parse::<u64>() {
        return whole(value, large);
    }
    // Exact up to there.
    const LIMIT: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
    let is_number =
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value: f64 = text.parse().ok().filter(|value: &f64| is_number && value.abs() < LIMIT)?;
    let floor = value.floor();
    Some(if floor == value { Number::Whole(floor as i64) } else { Number::Above(floor as i64) })
}

fn whole(value: u64, large: bool) -> Option<Number> {
    (large || i64::try_from(value).is_ok()).then_some(Number::Whole(value as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_can_be_written() {
        for (text, expected) in [
            ("10", Some(Number::Whole(10))),
            ("-1", Some(Number::Whole(-1))),
            ("+1", Some(Number::Whole(1))),
            ("0x1F", Some(Number::Whole(31))),
            ("0xffffffffffffffff", Some(Number::Whole(-1))),
            ("1.5", Some(Number::Above(1))),
            ("-1.5", Some(Number::Above(-2))),
            ("1e+9", Some(Number::Whole(1_000_000_000))),
            ("2.0", Some(Number::Whole(2))),
            ("1e+99", None),
            ("nan", None),
            ("inf", None),
            ("0x", None),
            ("0x+1", None),
            ("12abc", None),
            ("", None),
        ] {
            assert_eq!(number(text, true), expected, "{text}");
        }
        assert_eq!(number("0xffffffffffffffff", false), None);
    }

    #[test]
    fn bytes_are_read_from_pairs_of_hex_digits() {
        assert_eq!(hex("00fF"), Some(vec![0, 255]));
        assert_eq!(hex(""), Some(Vec::new()));
        assert_eq!((hex("0"), hex("0g"), hex("+1")), (None, None, None));
    }
}

//! Conditions as a tree, as they are written: names are not looked up yet. Trees come from Falco's language
//! ([`super::parser`]), from exceptions, and from Sigma; each part knows where it was written.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::Span;
use crate::yaml;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// All hold.
    And(Vec<Expr>),
    /// One holds.
    Or(Vec<Expr>),
    /// It does not hold.
    Not(Box<Expr>),
    /// What a macro says.
    Macro(Word),
    /// A test of a field.
    Test(Test),
}

/// A test: what, how, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// What is tested.
    pub left: Operand,
    /// How.
    pub op: Op,
    /// Where the operator stands.
    pub op_place: Place,
    /// For how many of the values on the right it has to hold, if that is said (`startswith anyof (…)`).
    pub quantifier: Option<Quantifier>,
    /// What it is compared with.
    pub right: Right,
}

/// A field, or what is made of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// `proc.aname[2]`
    Field {
        /// Its name.
        name: Word,
        /// What stands in brackets.
        argument: Option<Word>,
    },
    /// `tolower(proc.name)`, `val(proc.name)`
    Call {
        /// The transformer's name.
        name: Word,
        /// What it is given.
        arguments: Vec<Argument>,
        /// What stands in brackets behind it: `getopt(proc.args, "t:")[t]`.
        selector: Option<Box<Word>>,
    },
}

/// What a transformer is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A field, or what another transformer makes of one.
    Operand(Operand),
    /// A text.
    Word(Word),
    /// Several in brackets, as `join` has them.
    List(Vec<Argument>),
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing: `exists`.
    None,
    /// A value, or a list of them; a word without quotes may be the name of a list.
    Values(Vec<Word>),
    /// Another field of the same event: `val(proc.pname)`.
    Operand(Operand),
}

/// A word or text of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Without quotes and escapes.
    pub text: String,
    /// Whether it was quoted: then it is never the name of a list.
    pub quoted: bool,
    /// Where it stands.
    pub place: Place,
}

/// Where something was written: in which scalar, and which bytes of its content. All places are equal, so that
/// trees are compared by what they say.
#[derive(Clone, Debug)]
pub struct Place {
    /// The scalar.
    pub node: Arc<yaml::Node>,
    /// Bytes of its content.
    pub range: Range<usize>,
}

impl Place {
    /// A whole scalar.
    pub fn whole(node: &Arc<yaml::Node>) -> Self {
        Self { range: 0..node.as_text().map_or(0, str::len), node: Arc::clone(node) }
    }

    /// Its bytes in the file.
    pub fn span(&self) -> Span {
        self.node.part(self.range.clone())
    }

    /// From here to the end of another place in the same scalar.
    pub fn to(&self, end: &Place) -> Self {
        Self { node: Arc::clone(&self.node), range: self.range.start..end.range.end.max(self.range.start) }
    }
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl Argument {
    fn each_field(&self, see: &mut impl FnMut(&Word)) {
        match self {
            Argument::Operand(operand) => operand.each_field(see),
            Argument::Word(_) => {}
            Argument::List(parts) => parts.iter().for_each(|part| part.each_field(see)),
        }
    }
}

impl Operand {
    fn each_field(&self, see: &mut impl FnMut(&Word)) {
        match self {
            Operand::Field { name, .. } => see(name),
            Operand::Call { arguments, .. } => arguments.iter().for_each(|argument| argument.each_field(see)),
        }
    }

    /// Where its name stands.
    pub fn place(&self) -> &Place {
        match self {
            Operand::Field { name, .. } | Operand::Call { name, .. } => &name.place,
        }
    }
}

macro_rules! spellings {
    ($( #[$doc:meta] $enum:ident { $( $name:ident $text:literal ),* $(,)? } )*) => { $(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $enum { $( #[doc = concat!("`", $text, "`")] $name, )* }

        impl $enum {
            /// All of them.
            pub const ALL: &'static [$enum] = &[ $( $enum::$name, )* ];

            /// How it is written.
            pub fn text(self) -> &'static str {
                match self { $( $enum::$name => $text, )* }
            }
        }
    )* };
}

spellings! {
    /// An operator. `iequals`, `istartswith`, `iendswith` and `search` are not Falco's.
    Op {
        Eq "=", Ne "!=", Lt "<", Le "<=", Gt ">", Ge ">=", In "in", Intersects "intersects", PathMatch "pmatch",
        Contains "contains", IContains "icontains", BContains "bcontains", StartsWith "startswith",
        BStartsWith "bstartswith", EndsWith "endswith", Glob "glob", IGlob "iglob", Regex "regex", IEq "iequals", IStartsWith "istartswith", IEndsWith "iendswith",
        Search "search", Exists "exists",
    }
    /// For how many values of a list a test has to hold.
    Quantifier { One "oneof", Any "anyof", All "allof" }
}

impl Op {
    /// The operator with that spelling; `==` is `=`.
    pub fn of(text: &str) -> Option<Self> {
        let text = if text == "==" { "=" } else { text };
        Self::ALL.iter().copied().find(|op| op.text() == text)
    }

    /// Whether Falco does not have it: there its name can be that of a macro.
    pub fn is_own(self) -> bool {
        matches!(self, Op::IEq | Op::IStartsWith | Op::IEndsWith | Op::Search)
    }

    /// Whether it compares with a list.
    pub fn takes_list(self) -> bool {
        matches!(self, Op::In | Op::Intersects | Op::PathMatch)
    }
}

impl Quantifier {
    /// The one with that spelling.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|quantifier| quantifier.text() == text)
    }
}

/// Conditions print as they could be written, and read again to the same tree.
impl fmt::Display for Expr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::And(parts) => nested(out, parts, " and "),
            Expr::Or(parts) => nested(out, parts, " or "),
            Expr::Not(part) => {
                out.write_str("not ")?;
                part.fmt_within(out)
            }
            Expr::Macro(name) => out.write_str(&name.text),
            Expr::Test(test) => test.fmt(out),
        }
    }
}

impl Expr {
    /// Whether it needs brackets as a part of another.
    pub fn needs_brackets(&self) -> bool {
        matches!(self, Expr::And(_) | Expr::Or(_))
    }

    /// Calls `see` with the name of each macro that is used.
    pub fn each_macro(&self, see: &mut impl FnMut(&Word)) {
        match self {
            Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| part.each_macro(see)),
            Expr::Not(part) => part.each_macro(see),
            Expr::Macro(name) => see(name),
            Expr::Test(_) => {}
        }
    }

    /// Shows the name of each field.
    pub fn each_field(&self, see: &mut impl FnMut(&Word)) {
        match self {
            Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| part.each_field(see)),
            Expr::Not(part) => part.each_field(see),
            Expr::Macro(_) => {}
            Expr::Test(test) => {
                test.left.each_field(see);
                if let Right::Operand(right) = &test.right {
                    right.each_field(see);
                }
            }
        }
    }

    fn fmt_within(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.needs_brackets() { write!(out, "({self})") } else { write!(out, "{self}") }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Test { left, op, op_place: _, quantifier, right } = self;
        write!(out, "{left} {}", op.text())?;
        if let Some(quantifier) = quantifier {
            write!(out, " {}", quantifier.text())?;
        }
        match right {
            Right::None => Ok(()),
            Right::Operand(operand) => write!(out, " {operand}"),
            Right::Values(values) if op.takes_list() || quantifier.is_some() => {
                out.write_str(" (")?;
                separated(out, values)?;
                out.write_str(")")
            }
            Right::Values(values) => values.iter().try_for_each(|value| write!(out, " {value}")),
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Field { name, argument: None } => out.write_str(&name.text),
            Operand::Field { name, argument: Some(argument) } => write!(out, "{}[{argument}]", name.text),
            Operand::Call { name, arguments, selector } => {
                write!(out, "{}(", name.text)?;
                separated(out, arguments)?;
                out.write_str(")")?;
                selector.as_ref().map_or(Ok(()), |selector| write!(out, "[{selector}]"))
            }
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Argument::Operand(operand) => operand.fmt(out),
            Argument::Word(word) => word.fmt(out),
            Argument::List(items) => {
                out.write_str("(")?;
                separated(out, items)?;
                out.write_str(")")
            }
        }
    }
}

fn nested(out: &mut fmt::Formatter<'_>, parts: &[Expr], separator: &str) -> fmt::Result {
    for (n, part) in parts.iter().enumerate() {
        out.write_str(if n > 0 { separator } else { "" })?;
        part.fmt_within(out)?;
    }
    Ok(())
}

fn separated(out: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (n, item) in items.iter().enumerate() {
        write!(out, "{}{item}", if n > 0 { ", " } else { "" })?;
    }
    Ok(())
}

impl fmt::Display for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An item of a list needs no quotes there for what it needs them for in a condition.
        let ends = |char: char| char.is_whitespace() || "()\"'=,".contains(char);
        if self.quoted || self.text.is_empty() || self.text.contains(ends) {
            write!(out, "\"{}\"", self.text.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            out.write_str(&self.text)
        }
    }
}

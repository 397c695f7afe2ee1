//! Conditions as a tree, as they are written: names are not looked up yet.

use std::fmt;
use std::ops::Range;

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
    Test {
        /// The field's name.
        field: Word,
        /// The number in brackets.
        index: Option<u32>,
        /// How it is tested.
        op: Op,
        /// Where the operator stands.
        op_range: Range<usize>,
        /// What it is compared with.
        values: Vec<Word>,
    },
}

/// A word or text of the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Without quotes and escapes.
    pub text: String,
    /// Whether it was quoted: then it is never the name of a list.
    pub quoted: bool,
    /// Its bytes in the condition.
    pub range: Range<usize>,
}

macro_rules! operators {
    ($( $name:ident $text:literal ),* $(,)?) => {
        /// An operator.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op { $( #[doc = concat!("`", $text, "`")] $name, )* }

        impl Op {
            /// All operators.
            pub const ALL: &'static [Op] = &[ $( Op::$name, )* ];

            /// How it is written.
            pub fn text(self) -> &'static str {
                match self { $( Op::$name => $text, )* }
            }
        }
    };
}

operators! {
    Eq "=", Ne "!=", Lt "<", Le "<=", Gt ">", Ge ">=", In "in", Contains "contains", IContains "icontains",
    StartsWith "startswith", EndsWith "endswith", Glob "glob", Exists "exists",
}

impl Op {
    /// The operator with that spelling; `==` is `=`.
    pub fn of(text: &str) -> Option<Self> {
        let text = if text == "==" { "=" } else { text };
        Self::ALL.iter().copied().find(|op| op.text() == text)
    }
}

/// Conditions print as they could be written.
impl fmt::Display for Expr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::And(parts) => list(out, parts, " and "),
            Expr::Or(parts) => list(out, parts, " or "),
            Expr::Not(part) => write!(out, "not ({part})"),
            Expr::Macro(name) => out.write_str(&name.text),
            Expr::Test { field, index, op, op_range: _, values } => {
                out.write_str(&field.text)?;
                if let Some(index) = index {
                    write!(out, "[{index}]")?;
                }
                write!(out, " {}", op.text())?;
                match (op, values.as_slice()) {
                    (Op::Exists, _) => Ok(()),
                    (Op::In, values) => {
                        out.write_str(" (")?;
                        for (n, value) in values.iter().enumerate() {
                            write!(out, "{}{value}", if n > 0 { ", " } else { "" })?;
                        }
                        out.write_str(")")
                    }
                    (_, values) => values.iter().try_for_each(|value| write!(out, " {value}")),
                }
            }
        }
    }
}

fn list(out: &mut fmt::Formatter<'_>, parts: &[Expr], separator: &str) -> fmt::Result {
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            out.write_str(separator)?;
        }
        write!(out, "({part})")?;
    }
    Ok(())
}

impl fmt::Display for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quoted {
            write!(out, "\"{}\"", self.text.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            out.write_str(&self.text)
        }
    }
}

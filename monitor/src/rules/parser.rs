//! Tokens to a tree. One syntax error a condition is told; the next condition starts afresh.

use std::ops::Range;
use std::sync::Arc;

use super::ast::{Argument, Expr, Op, Operand, Place, Quantifier, Right, Test, Word};
use super::lexer::{self, Token, TokenKind, Unclosed, tokens};
use crate::diagnostic::Diagnostic;
use crate::yaml;

/// Longest condition, in bytes.
pub const LENGTH_MAX: usize = 64 << 10;

/// Deepest nesting of brackets, `not` and transformers.
pub const DEPTH_MAX: usize = 64;

/// Parses the condition in a scalar.
pub fn parse(node: &Arc<yaml::Node>) -> Result<Expr, Diagnostic> {
    parse_joined(node, &[])
}

/// Parses the condition that several scalars make one after the other: later files can add to one.
pub fn parse_joined(first: &Arc<yaml::Node>, more: &[Arc<yaml::Node>]) -> Result<Expr, Diagnostic> {
    let tokens = read(first, more)?;
    let mut parser = Parser { tokens: &tokens, at: 0, first, more };
    let expr = parser.or(0)?;
    parser.end()?;
    Ok(expr)
}

/// Parses the field, or the call of a transformer, that is that part of a scalar.
pub fn parse_operand(node: &Arc<yaml::Node>, range: Range<usize>) -> Result<Operand, Diagnostic> {
    let mut all = Vec::new();
    let text = node.as_text().and_then(|text| text.get(range.clone())).unwrap_or_default();
    read_one(node, text, (range.start, range.start), &mut all)?;
    let mut parser = Parser { tokens: &all, at: 0, first: node, more: &[] };
    let operand = parser.operand(0)?;
    parser.end()?;
    Ok(operand)
}

/// The tokens of several scalars; the places of each one's begin one byte behind the end of the one before.
fn read(first: &Arc<yaml::Node>, more: &[Arc<yaml::Node>]) -> Result<Vec<Token>, Diagnostic> {
    let mut all = Vec::new();
    let mut start = 0;
    for node in std::iter::once(first).chain(more) {
        let text = node.as_text().unwrap_or_default();
        if start + text.len() > LENGTH_MAX {
            let message =
                format!("the condition is {} bytes long, more than {LENGTH_MAX}", start + text.len());
            let diagnostic = Diagnostic::error("R104", message).label(node.part(0..1), "");
            return Err(diagnostic.hint("move parts of it into lists and macros"));
        }
        read_one(node, text, (0, start), &mut all)?;
        start += text.len() + 1;
    }
    Ok(all)
}

/// Adds the tokens of a part of a scalar: where it stands in there, and where among all.
fn read_one(
    node: &Arc<yaml::Node>,
    text: &str,
    (start, start_of_all): (usize, usize),
    all: &mut Vec<Token>,
) -> Result<(), Diagnostic> {
    let tokens = tokens(text).map_err(|Unclosed(range)| {
        let place = node.part(range.start + start..range.end + start);
        Diagnostic::error("R101", "this quote is not closed").label(place, "")
    })?;
    all.extend(tokens.into_iter().map(|Token { kind, range }| Token {
        kind,
        range: range.start + start_of_all..range.end + start_of_all,
    }));
    Ok(())
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    first: &'a Arc<yaml::Node>,
    more: &'a [Arc<yaml::Node>],
}

impl<'a> Parser<'a> {
    fn end(&self) -> Result<(), Diagnostic> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.wrong("R102", "expected `and`, `or` or the end here"),
        }
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    /// Takes the word if it is next.
    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token { kind: TokenKind::Word(text), .. }) if text == word);
        self.at += usize::from(found);
        found
    }

    fn take(&mut self, kind: &TokenKind) -> bool {
        let found = self.peek().is_some_and(|token| token.kind == *kind);
        self.at += usize::from(found);
        found
    }

    /// Whether an opening bracket follows the next token at once, as in a call of a transformer.
    fn is_call(&self) -> bool {
        match (self.peek(), self.tokens.get(self.at + 1)) {
            (
                Some(Token { kind: TokenKind::Word(_), range }),
                Some(Token { kind: TokenKind::Open, range: open }),
            ) => range.end == open.start,
            _ => false,
        }
    }

    /// The place in the scalar that the range begins in.
    fn place(&self, range: Range<usize>) -> Place {
        let mut node = self.first;
        let mut start = 0;
        for next in self.more {
            let end = start + node.as_text().map_or(0, str::len);
            if range.start <= end {
                break;
            }
            (node, start) = (next, end + 1);
        }
        Place { node: Arc::clone(node), range: range.start - start..range.end - start }
    }

    fn error(&self, code: &'static str, message: impl Into<String>, range: Range<usize>) -> Diagnostic {
        Diagnostic::error(code, message).label(self.place(range).span(), "")
    }

    /// An error at the next token, or at the end.
    fn wrong<T>(&self, code: &'static str, message: &str) -> Result<T, Diagnostic> {
        let lens = self.more.iter().map(|node| node.as_text().map_or(0, str::len) + 1);
        let end = self.first.as_text().map_or(0, str::len) + lens.sum::<usize>();
        let range = self.peek().map_or(end.saturating_sub(1)..end, |token| token.range.clone());
        Err(self.error(code, message, range))
    }

    fn check_depth(&self, depth: usize) -> Result<(), Diagnostic> {
        if depth > DEPTH_MAX {
            return self.wrong("R103", &format!("nested deeper than {DEPTH_MAX} levels"));
        }
        Ok(())
    }

    fn or(&mut self, depth: usize) -> Result<Expr, Diagnostic> {
        let mut parts = vec![self.and(depth)?];
        while self.take_word("or") {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Expr::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Expr, Diagnostic> {
        let mut parts = vec![self.not(depth)?];
        while self.take_word("and") {
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Expr::And(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Expr, Diagnostic> {
        self.check_depth(depth)?;
        if self.take_word("not") {
            return Ok(Expr::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take(&TokenKind::Open) {
            let inner = self.or(depth + 1)?;
            if !self.take(&TokenKind::Close) {
                return self.wrong("R102", "expected `)`, `and` or `or` here");
            }
            return Ok(inner);
        }
        self.test(depth)
    }

    fn test(&mut self, depth: usize) -> Result<Expr, Diagnostic> {
        let Some(Token { kind: TokenKind::Word(text), range }) = self.peek() else {
            return self.wrong("R102", "expected a field, a macro or `(` here");
        };
        if matches!(text.as_str(), "and" | "or") || Op::of(text).is_some_and(|op| !op.is_own()) {
            return self.wrong("R102", "expected a field, a macro or `(` here");
        }
        let left = self.operand(depth)?;
        let Some((op, op_place)) = self.operator() else {
            return match left {
                Operand::Field { name, argument: None } if !name.text.contains('.') => Ok(Expr::Macro(name)),
                left => {
                    let message = format!("`{left}` is a field: expected an operator after it");
                    let range = range.start..left.place().range.end;
                    Err(self.error("R105", message, range).hint(format!("write `{left} exists`")))
                }
            };
        };
        let quantifier = self.quantifier(op);
        let right = match op {
            Op::Exists => Right::None,
            _ if self.is_call() => Right::Operand(self.operand(depth)?),
            _ if op.takes_list() || quantifier.is_some() => Right::Values(self.list()?),
            _ => Right::Values(vec![self.value()?]),
        };
        Ok(Expr::Test(Test { left, op, op_place, quantifier, right }))
    }

    /// A field, or a call of a transformer; the next token is a word.
    fn operand(&mut self, depth: usize) -> Result<Operand, Diagnostic> {
        self.check_depth(depth)?;
        let is_call = self.is_call();
        let Some(Token { kind: TokenKind::Word(text), range }) = self.peek() else {
            return self.wrong("R102", "expected a field here");
        };
        self.at += 1;
        if is_call {
            self.at += 1;
            let name = self.word(text, range.clone());
            let arguments = self.arguments(depth + 1)?;
            return Ok(Operand::Call { name, arguments, selector: self.selector()? });
        }
        let Some((name, rest)) = text.split_once('[') else {
            return Ok(Operand::Field { name: self.word(text, range.clone()), argument: None });
        };
        let middle = range.start + name.len();
        let argument = self.bracketed(rest, middle..range.end)?;
        Ok(Operand::Field { name: self.word(name, range.start..middle), argument: Some(argument) })
    }

    /// What stands in square brackets; the opening one is taken off the text, but not off its place.
    fn bracketed(&self, rest: &str, range: Range<usize>) -> Result<Word, Diagnostic> {
        let Some(argument) = rest.strip_suffix(']').filter(|argument| !argument.is_empty()) else {
            return Err(self.error("R108", "expected a number or a name, and `]` behind it", range));
        };
        let inside = range.start + 1..range.end - 1;
        let quote = argument.chars().next().filter(|first| matches!(first, '"' | '\''));
        Ok(match quote.and_then(|quote| lexer::quoted(argument, quote)) {
            Some((text, _)) => Word { text, quoted: true, place: self.place(inside) },
            None => self.word(argument, inside),
        })
    }

    /// What stands in square brackets at once behind the call that was read.
    fn selector(&mut self) -> Result<Option<Box<Word>>, Diagnostic> {
        let end = self.at.checked_sub(1).and_then(|last| self.tokens.get(last)).map(|token| token.range.end);
        match self.peek() {
            Some(Token { kind: TokenKind::Word(text), range }) if end == Some(range.start) => {
                let Some(rest) = text.strip_prefix('[') else { return Ok(None) };
                self.at += 1;
                Ok(Some(Box::new(self.bracketed(rest, range.clone())?)))
            }
            _ => Ok(None),
        }
    }

    fn word(&self, text: &str, range: Range<usize>) -> Word {
        Word { text: text.to_owned(), quoted: false, place: self.place(range) }
    }

    /// Arguments up to the closing bracket; the opening one is taken already.
    fn arguments(&mut self, depth: usize) -> Result<Vec<Argument>, Diagnostic> {
        self.check_depth(depth)?;
        let mut arguments = Vec::new();
        while !self.take(&TokenKind::Close) {
            if !arguments.is_empty() && !self.take(&TokenKind::Comma) {
                return self.wrong("R109", "expected `,` or `)` here");
            }
            let is_field = matches!(self.peek(), Some(Token { kind: TokenKind::Word(text), .. })
                if text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.contains('.'));
            arguments.push(if self.take(&TokenKind::Open) {
                Argument::List(self.arguments(depth + 1)?)
            } else if is_field || self.is_call() {
                Argument::Operand(self.operand(depth)?)
            } else {
                Argument::Word(self.value()?)
            });
        }
        Ok(arguments)
    }

    fn operator(&mut self) -> Option<(Op, Place)> {
        let token = self.peek()?;
        let op = match &token.kind {
            TokenKind::Operator(text) => Op::of(text),
            TokenKind::Word(text) => Op::of(text),
            _ => None,
        }?;
        self.at += 1;
        Some((op, self.place(token.range.clone())))
    }

    fn quantifier(&mut self, op: Op) -> Option<Quantifier> {
        let Some(Token { kind: TokenKind::Word(text), .. }) = self.peek() else { return None };
        // Else it is a value of that name.
        let followed = self.tokens.get(self.at + 1).is_some_and(|token| token.kind == TokenKind::Open);
        let quantifier = Quantifier::of(text).filter(|_| followed && !op.takes_list())?;
        self.at += 1;
        Some(quantifier)
    }

    fn value(&mut self) -> Result<Word, Diagnostic> {
        let Some(Token { kind, range }) = self.peek() else {
            return self.wrong("R106", "expected a value here");
        };
        let (text, quoted) = match kind {
            TokenKind::Word(text) => (text.as_str(), false),
            TokenKind::Quoted(text) => (text.as_str(), true),
            _ => return self.wrong("R106", "expected a value here"),
        };
        self.at += 1;
        Ok(Word { text: text.to_owned(), quoted, place: self.place(range.clone()) })
    }

    /// A list in brackets, or the name of one.
    fn list(&mut self) -> Result<Vec<Word>, Diagnostic> {
        if !self.take(&TokenKind::Open) {
            return match self.peek() {
                Some(Token { kind: TokenKind::Word(_), .. }) => Ok(vec![self.value()?]),
                _ => self.wrong("R107", "expected `(` and a list of values here"),
            };
        }
        let mut values = Vec::new();
        while !self.take(&TokenKind::Close) {
            if !values.is_empty() && !self.take(&TokenKind::Comma) {
                return self.wrong("R107", "expected `,` or `)` here");
            }
            // A comma before the closing bracket is allowed.
            if !values.is_empty() && self.take(&TokenKind::Close) {
                break;
            }
            values.push(self.value()?);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;

    fn parsed(text: &str) -> Result<Expr, Diagnostic> {
        let source = Arc::new(Source { name: "t".to_owned(), text: text.to_owned() });
        parse(&Arc::new(yaml::Node::whole(&source)))
    }

    fn printed(text: &str) -> Result<String, &'static str> {
        parsed(text).map(|expr| expr.to_string()).map_err(|error| error.code)
    }

    #[test]
    fn and_binds_tighter_than_or_and_not_tighter_than_both() {
        let expected = "(a and not b) or c";
        assert_eq!(printed("a and not b or c"), Ok(expected.to_owned()));
        assert_eq!(printed("a and (not b or c)"), Ok("a and (not b or c)".to_owned()));
    }

    #[test]
    fn each_syntax_error_has_its_code() {
        let deep = format!("{}a{}", "(".repeat(70), ")".repeat(70));
        let long = "a or ".repeat(20_000);
        for (text, code) in [
            ("a = \"b", "R101"),
            ("a b", "R102"),
            ("", "R102"),
            ("a and", "R102"),
            ("(a", "R102"),
            ("and", "R102"),
            (deep.as_str(), "R103"),
            (long.as_str(), "R104"),
            ("fd.name", "R105"),
            ("fd.name = ", "R106"),
            ("fd.name = )", "R106"),
            ("fd.name in \"a\"", "R107"),
            ("fd.name in (a b)", "R107"),
            ("proc.aname[ = a", "R108"),
            ("proc.aname[] = a", "R108"),
            ("len(fd.name = a", "R109"),
            ("getopt(proc.args, \"t\")[] = a", "R108"),
        ] {
            assert_eq!(printed(text), Err(code), "{text:.40}");
        }
        for text in [
            "a",
            "a = b",
            "not not a",
            "a in (b, \"c\",)",
            "proc.aname[2] exists",
            "a in ()",
            "a in b",
            "evt.dir=<",
            "proc.pname != <NA> and proc.pname in (<NA>, a)",
            "getopt(proc.args, \"nt:\")[t] = x",
            "proc.env[\"A B\"] = x",
            "tolower(proc.name) = val(proc.pname)",
            "concat(proc.name, \"x\", join(\",\", (proc.name, proc.pname))) startswith anyof (a, b)",
            "proc.name = anyof",
            "(search) and proc.name search search",
        ] {
            assert!(printed(text).is_ok(), "{text}");
        }
    }

    /// Makes conditions with everything in them that the language has.
    struct Maker(u64);

    impl Maker {
        fn random(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % n
        }

        fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
            of[self.random(of.len())]
        }

        fn value(&mut self) -> &'static str {
            self.one(&[
                "x",
                "\"a b\"",
                "'q\"\\\\'",
                "/etc/*",
                "-1",
                "10.0.0.0/8",
                "<NA>",
                "a!b",
                "\"\"",
                "\"\\n\\t\\d\"",
                "anyof",
                "0x1f",
                "'<>='",
            ])
        }

        fn list(&mut self) -> String {
            let values: Vec<_> = (0..self.random(4)).map(|_| self.value()).collect();
            format!("({})", values.join(", "))
        }

        fn operand(&mut self, depth: usize) -> String {
            match if depth == 0 { self.random(4) } else { self.random(8) } {
                0 | 1 => self.one(&["f.x", "f.x.y_z", "fd.name"]).to_owned(),
                2 => format!("f.x[{}]", self.random(9)),
                3 => format!("f.x[{}]", self.one(&["a", "app.kubernetes.io/name", "\"a b]\"", "'\\\"'"])),
                4 => format!("{}({})", self.one(&["b64", "val", "len"]), self.operand(depth - 1)),
                5 => {
                    format!("concat({}, {})", self.operand(depth - 1), self.one(&["x", "\"a.b\"", "'a, b'"]))
                }
                6 => format!("join(\",\", ({}, x))", self.operand(depth - 1)),
                _ => format!("getopt({}, \"nt:\")[{}]", self.operand(depth - 1), self.one(&["t", "\"t\""])),
            }
        }

        fn test(&mut self) -> String {
            let op = Op::ALL[self.random(Op::ALL.len())];
            let right = match op {
                Op::Exists => String::new(),
                _ if self.random(4) == 0 => {
                    let field = self.operand(1);
                    if field.ends_with(')') { field } else { format!("val({field})") }
                }
                op if op.takes_list() => self.list(),
                _ if self.random(3) == 0 => {
                    format!("{} {}", self.one(&["anyof", "allof", "oneof"]), self.list())
                }
                _ => self.value().to_owned(),
            };
            format!("{} {} {right}", self.operand(2), op.text())
        }

        fn condition(&mut self, depth: usize) -> String {
            match if depth == 0 { self.random(4) } else { self.random(7) } {
                0 => "some_macro".to_owned(),
                1..4 => self.test(),
                4 => format!("not {}", self.condition(depth - 1)),
                5 => format!("({}) and ({})", self.condition(depth - 1), self.condition(depth - 1)),
                _ => format!("({}) or ({})", self.condition(depth - 1), self.condition(depth - 1)),
            }
        }
    }

    #[test]
    fn printed_condition_parses_to_the_same_tree() {
        let mut maker = Maker(11);
        for _ in 0..2_000 {
            let text = maker.condition(4);
            let once = parsed(&text).unwrap_or_else(|error| panic!("{text}\n{error:?}"));
            assert_eq!(parsed(&once.to_string()), Ok(once), "{text}");
        }
    }

    #[test]
    fn any_text_is_a_tree_or_an_error_never_a_panic() {
        let mut state = 5u64;
        for _ in 0..20_000 {
            let text: String = (0..24)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    [
                        "a", " ", "(", ")", "=", "!", "\"", "'", "\\", ",", "not ", "in", "and ", "[", "1]",
                        "ü", "<", ".",
                    ][(state >> 33) as usize % 18]
                })
                .collect();
            if let Err(error) = parsed(&text) {
                assert!(!error.labels.is_empty(), "{text}");
            }
        }
    }
}

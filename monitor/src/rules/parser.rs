//! Tokens to a tree. One syntax error a condition is told; the next condition starts afresh.

use std::ops::Range;

use super::ast::{Expr, Op, Word};
use super::lexer::{Token, TokenKind, Unclosed, tokens};

/// Longest condition, in bytes.
pub const LENGTH_MAX: usize = 64 << 10;

/// Deepest nesting of brackets and `not`.
pub const DEPTH_MAX: usize = 64;

/// What is wrong with a condition's syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// `R1xx`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub range: Range<usize>,
    /// What to do.
    pub hint: Option<String>,
}

/// Parses a condition.
pub fn parse(text: &str) -> Result<Expr, SyntaxError> {
    if text.len() > LENGTH_MAX {
        let message = format!("the condition is {} bytes long, more than {LENGTH_MAX}", text.len());
        return Err(error("R104", message, 0..1).hinting("move parts of it into lists and macros"));
    }
    let tokens = tokens(text).map_err(|Unclosed(range)| error("R101", "this quote is not closed", range))?;
    let mut parser = Parser { tokens: &tokens, at: 0, end: text.len() };
    let expr = parser.or(0)?;
    match parser.next() {
        None => Ok(expr),
        Some(token) => Err(error("R102", "expected `and`, `or` or the end here", token.range.clone())),
    }
}

fn error(code: &'static str, message: impl Into<String>, range: Range<usize>) -> SyntaxError {
    SyntaxError { code, message: message.into(), range, hint: None }
}

impl SyntaxError {
    fn hinting(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    end: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.peek();
        self.at += usize::from(token.is_some());
        token
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

    /// An error at the next token, or at the end.
    fn wrong<T>(&self, code: &'static str, message: &str) -> Result<T, SyntaxError> {
        let range = self.peek().map_or(self.end.saturating_sub(1)..self.end, |token| token.range.clone());
        Err(error(code, message, range))
    }

    fn or(&mut self, depth: usize) -> Result<Expr, SyntaxError> {
        let mut parts = vec![self.and(depth)?];
        while self.take_word("or") {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Expr::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Expr, SyntaxError> {
        let mut parts = vec![self.not(depth)?];
        while self.take_word("and") {
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Expr::And(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Expr, SyntaxError> {
        if depth > DEPTH_MAX {
            return self.wrong("R103", &format!("nested deeper than {DEPTH_MAX} levels"));
        }
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
        self.test()
    }

    fn test(&mut self) -> Result<Expr, SyntaxError> {
        let Some(Token { kind: TokenKind::Word(text), range }) = self.peek() else {
            return self.wrong("R102", "expected a field, a macro or `(` here");
        };
        if matches!(text.as_str(), "and" | "or") || Op::of(text).is_some() {
            return self.wrong("R102", "expected a field, a macro or `(` here");
        }
        self.at += 1;
        let (name, index) = split_index(text, range)?;
        let field =
            Word { text: name.to_owned(), quoted: false, range: range.start..range.start + name.len() };
        let Some((op, op_range)) = self.operator() else {
            if name.contains('.') || index.is_some() {
                let message = format!("`{text}` is a field: expected an operator after it");
                return Err(error("R105", message, range.clone()).hinting(format!("write `{text} exists`")));
            }
            return Ok(Expr::Macro(field));
        };
        let values = match op {
            Op::Exists => Vec::new(),
            Op::In => self.list()?,
            _ => vec![self.value()?],
        };
        Ok(Expr::Test { field, index, op, op_range, values })
    }

    fn operator(&mut self) -> Option<(Op, Range<usize>)> {
        let token = self.peek()?;
        let op = match &token.kind {
            TokenKind::Operator(text) => Op::of(text),
            TokenKind::Word(text) => Op::of(text),
            _ => None,
        }?;
        self.at += 1;
        Some((op, token.range.clone()))
    }

    fn value(&mut self) -> Result<Word, SyntaxError> {
        match self.peek() {
            Some(Token { kind: TokenKind::Word(text), range }) => {
                self.at += 1;
                Ok(Word { text: text.clone(), quoted: false, range: range.clone() })
            }
            Some(Token { kind: TokenKind::Quoted(text), range }) => {
                self.at += 1;
                Ok(Word { text: text.clone(), quoted: true, range: range.clone() })
            }
            _ => self.wrong("R106", "expected a value here"),
        }
    }

    fn list(&mut self) -> Result<Vec<Word>, SyntaxError> {
        if !self.take(&TokenKind::Open) {
            return self.wrong("R107", "expected `(` and a list of values here");
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

/// `proc.aname[2]` is a name and a number.
fn split_index<'t>(text: &'t str, range: &Range<usize>) -> Result<(&'t str, Option<u32>), SyntaxError> {
    let Some((name, rest)) = text.split_once('[') else { return Ok((text, None)) };
    let number = rest.strip_suffix(']').and_then(|number| number.parse().ok());
    match number {
        Some(number) => Ok((name, Some(number))),
        None => Err(error("R108", format!("`[{rest}` is not a number in brackets"), range.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree without places, to compare.
    fn printed(text: &str) -> Result<String, &'static str> {
        parse(text).map(|expr| expr.to_string()).map_err(|error| error.code)
    }

    #[test]
    fn and_binds_tighter_than_or_and_not_tighter_than_both() {
        let expected = "((a) and (not (b))) or (c)";
        assert_eq!(printed("a and not b or c"), Ok(expected.to_owned()));
        assert_eq!(printed("a and (not b or c)"), Ok("(a) and ((not (b)) or (c))".to_owned()));
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
            ("fd.name in a", "R107"),
            ("fd.name in (a b)", "R107"),
            ("proc.aname[x] = a", "R108"),
        ] {
            assert_eq!(printed(text), Err(code), "{text:.40}");
        }
        for text in ["a", "a = b", "not not a", "a in (b, \"c\",)", "proc.aname[2] exists", "a in ()"] {
            assert!(printed(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn printed_condition_parses_to_the_same_tree() {
        let mut state = 11u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        fn make(random: &mut dyn FnMut(u64) -> u64, depth: u32) -> String {
            let values = ["x", "\"a b\"", "'q\"\\\\'", "/etc/*", "-1", "10.0.0.0/8"];
            match if depth == 0 { random(3) } else { random(7) } {
                0 => "some_macro".to_owned(),
                1 => "fd.name exists".to_owned(),
                2 => format!(
                    "f.x[{}] {} {}",
                    random(9),
                    ["=", "!=", "<=", "glob"][random(4) as usize],
                    values[random(6) as usize]
                ),
                3 => format!("not ({})", make(random, depth - 1)),
                4 => format!("f in ({}, {})", values[random(6) as usize], values[random(6) as usize]),
                5 => format!("({}) and ({})", make(random, depth - 1), make(random, depth - 1)),
                _ => format!("({}) or ({})", make(random, depth - 1), make(random, depth - 1)),
            }
        }
        for _ in 0..500 {
            let text = make(&mut random, 4);
            let once = printed(&text).unwrap();
            assert_eq!(printed(&once), Ok(once.clone()), "{text}");
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
            if let Err(error) = parse(&text) {
                assert!(error.range.end <= text.len().max(1), "{text}");
            }
        }
    }
}

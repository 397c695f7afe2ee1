//! Conditions as tokens. Whatever is no operator, bracket, comma or quoted text is a word: field names, macro
//! names and unquoted values look alike until the parser knows what it wants. Only that a value may have `<`, `>` and
//! `!` in it (`evt.dir=<`, `<NA>`) is told apart here.

use std::ops::Range;

use super::ast::{Op, Quantifier};

/// One token and its bytes in the condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where.
    pub range: Range<usize>,
}

/// Kinds of token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A word without quotes.
    Word(String),
    /// A quoted text, without its quotes and escapes.
    Quoted(String),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `=`, `==`, `!=`, `<`, `<=`, `>`, `>=`
    Operator(&'static str),
}

/// A text whose quote is not closed; the place of the quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclosed(pub Range<usize>);

const OPERATORS: [&str; 7] = ["==", "!=", "<=", ">=", "=", "<", ">"];

/// Splits a condition.
pub fn tokens(text: &str) -> Result<Vec<Token>, Unclosed> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut values = Values::None;
    while let Some(char) = text[at..].chars().next() {
        let start = at;
        let kind = match char {
            char if char.is_whitespace() => {
                at += char.len_utf8();
                continue;
            }
            '(' => single(TokenKind::Open, &mut at),
            ')' => single(TokenKind::Close, &mut at),
            ',' => single(TokenKind::Comma, &mut at),
            '"' | '\'' => {
                let (content, len) = quoted(&text[at..], char).ok_or(Unclosed(at..at + 1))?;
                at += len;
                TokenKind::Quoted(content)
            }
            _ if values != Values::None && !matches!(char, '=') => {
                at += value_len(&text[at..]);
                TokenKind::Word(text[start..at].to_owned())
            }
            _ => match OPERATORS.iter().find(|operator| text[at..].starts_with(**operator)) {
                Some(operator) => {
                    at += operator.len();
                    TokenKind::Operator(operator)
                }
                None => {
                    let len = word_len(&text[at..]);
                    at += len;
                    TokenKind::Word(text[start..at].to_owned())
                }
            },
        };
        values = values.after(&kind);
        tokens.push(Token { kind, range: start..at });
    }
    Ok(tokens)
}

/// Whether values come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    None,
    /// One.
    One,
    /// A list, or one that is given by its name.
    List,
    /// More of a list whose bracket is open.
    InList,
}

impl Values {
    fn after(self, kind: &TokenKind) -> Self {
        match kind {
            TokenKind::Open if self == Values::List => Values::InList,
            TokenKind::Word(_) | TokenKind::Quoted(_) | TokenKind::Comma if self == Values::InList => self,
            TokenKind::Operator(_) => Values::One,
            TokenKind::Word(word) if self == Values::None => match Op::of(word) {
                Some(Op::Exists) | None => Values::None,
                Some(op) if op.takes_list() => Values::List,
                Some(_) => Values::One,
            },
            TokenKind::Word(word) if self == Values::One && Quantifier::of(word).is_some() => Values::List,
            _ => Values::None,
        }
    }
}

fn single(kind: TokenKind, at: &mut usize) -> TokenKind {
    *at += 1;
    kind
}

/// Content and whole length of a quoted text. Escapes are Falco's; another backslash is one, as patterns need it.
pub fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut content = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            char if char == quote => return Some((content, at + 1)),
            '\\' => match chars.next()? {
                (_, next @ ('\\' | '"' | '\'' | '/')) => content.push(next),
                (_, 'b') => content.push('\u{8}'),
                (_, 'f') => content.push('\u{c}'),
                (_, 'n') => content.push('\n'),
                (_, 'r') => content.push('\r'),
                (_, 't') => content.push('\t'),
                (_, next) => content.extend(['\\', next]),
            },
            char => content.push(char),
        }
    }
    None
}

/// A word ends before white space, brackets, commas, quotes and operators. It has at least one character:
/// a lone `!` is a word too, which the parser will not like. A quoted text in square brackets belongs to it.
fn word_len(text: &str) -> usize {
    if let Some(len) = indexed_len(text) {
        return len;
    }
    let ends = |(at, char): (usize, char)| {
        at > 0 && (char.is_whitespace() || matches!(char, '(' | ')' | ',' | '"' | '\'' | '=' | '<' | '>'))
            || at > 0 && text[at..].starts_with("!=")
    };
    text.char_indices().find(|&next| ends(next)).map_or(text.len(), |(at, _)| at)
}

/// The length of a value without quotes: also a call's name.
fn value_len(text: &str) -> usize {
    let ends = |char: char| char.is_whitespace() || matches!(char, '(' | ')' | ',' | '"' | '\'' | '=');
    text.find(ends).unwrap_or(text.len())
}

/// The length of `field["argument"]`, if the text begins so.
fn indexed_len(text: &str) -> Option<usize> {
    let name = text.find(|char: char| !char.is_ascii_alphanumeric() && !matches!(char, '.' | '_'))?;
    let argument = text[name..].strip_prefix('[')?;
    let (_, len) = quoted(argument, argument.chars().next().filter(|char| matches!(char, '"' | '\''))?)?;
    argument[len..].starts_with(']').then_some(name + 1 + len + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        tokens(text).unwrap().into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn condition_is_split_into_words_texts_and_operators() {
        use TokenKind::*;
        let word = |text: &str| Word(text.to_owned());
        let expected = vec![
            word("proc.name"),
            word("in"),
            Open,
            word("a-b"),
            Comma,
            Quoted("c d".to_owned()),
            Close,
            word("and"),
            word("fd.name"),
            Operator("!="),
            word("/etc/*"),
        ];
        assert_eq!(kinds("proc.name in (a-b, \"c d\") and fd.name!=/etc/*"), expected);
        assert_eq!(kinds("a>=1"), vec![word("a"), Operator(">="), word("1")]);
        assert_eq!(kinds("a=<"), vec![word("a"), Operator("="), word("<")]);
        assert_eq!(kinds("(a<b and"), vec![Open, word("a"), Operator("<"), word("b"), word("and")]);
        let list = vec![word("a"), word("in"), Open, word("<NA>"), Comma, word("x>y!"), Close, word("b")];
        assert_eq!(kinds("a in (<NA>,x>y!) b"), list);
        let quantified = vec![word("a"), Operator("="), word("anyof"), Open, word("<"), Close];
        assert_eq!(kinds("a = anyof (<)"), quantified);
        let call = vec![word("a"), Operator("="), word("val"), Open, word("b"), Close];
        assert_eq!(kinds("a=val(b)"), call);
        assert_eq!(kinds(r#"'it\'s \d "'"#), vec![Quoted("it's \\d \"".to_owned())]);
        assert_eq!(kinds(r#""a\n\/\\n""#), vec![Quoted("a\n/\\n".to_owned())]);
    }

    #[test]
    fn quote_that_is_not_closed_is_told_with_its_place() {
        assert_eq!(tokens("a = \"b"), Err(Unclosed(4..5)));
    }
}

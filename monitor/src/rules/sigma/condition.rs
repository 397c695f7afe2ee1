//! Sigma's `condition`: names of searches with `and`, `or`, `not`, brackets, and `1 of x*`, `all of them`.

use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::rules::ast::Place;
use crate::yaml;

/// Longest condition, in bytes.
const LENGTH_MAX: usize = 64 << 10;

/// Deepest nesting of brackets and `not`.
const DEPTH_MAX: usize = 64;

/// Most searches that one condition names, each as often as it is named.
const SEARCHES_MAX: usize = 10_000;

/// A condition; searches are numbers into the list of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All hold.
    And(Vec<Condition>),
    /// One holds.
    Or(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// That search finds the event.
    Search(usize),
}

/// Parses the condition in a scalar.
pub fn parse(node: &Arc<yaml::Node>, names: &[&str]) -> Result<Condition, Diagnostic> {
    let text = node.as_text().unwrap_or_default();
    let mut parser = Parser { node, words: words(text), at: 0, names, named: 0 };
    if text.len() > LENGTH_MAX {
        return Err(parser.error(
            "S107",
            format!("the condition is longer than {LENGTH_MAX} bytes"),
            0..LENGTH_MAX,
        ));
    }
    if let Some(at) = text.find('|') {
        let error = parser.error("S110", "this is an aggregation of Sigma 1", at..text.len());
        return Err(error.hint("version 2 has correlation rules in its place"));
    }
    let condition = parser.or(0)?;
    match parser.peek() {
        None => Ok(condition),
        Some(_) => Err(parser.wrong("expected `and`, `or` or the end here")),
    }
}

/// Brackets, and what stands between spaces and brackets.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, char) in text.char_indices().chain([(text.len(), ' ')]) {
        let is_bracket = matches!(char, '(' | ')');
        if char.is_whitespace() || is_bracket {
            words.extend(start.take().map(|start| start..at));
            if is_bracket {
                words.push(at..at + 1);
            }
        } else {
            start.get_or_insert(at);
        }
    }
    words
}

struct Parser<'a> {
    node: &'a Arc<yaml::Node>,
    words: Vec<Range<usize>>,
    at: usize,
    names: &'a [&'a str],
    named: usize,
}

impl<'a> Parser<'a> {
    fn word(&self, at: usize) -> Option<&'a str> {
        self.node.as_text().unwrap_or_default().get(self.words.get(at)?.clone())
    }

    fn peek(&self) -> Option<&'a str> {
        self.word(self.at)
    }

    /// Takes the word if it is next, in upper or lower case.
    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn error(&self, code: &'static str, message: impl Into<String>, range: Range<usize>) -> Diagnostic {
        let place = Place { node: Arc::clone(self.node), range };
        Diagnostic::error(code, message).label(place.span(), "")
    }

    /// An error at the next word, or at the end.
    fn wrong(&self, message: &str) -> Diagnostic {
        let end = self.node.as_text().map_or(0, str::len);
        let range = self.words.get(self.at).cloned().unwrap_or(end.saturating_sub(1)..end);
        self.error("S103", message, range)
    }

    fn or(&mut self, depth: usize) -> Result<Condition, Diagnostic> {
        let mut parts = vec![self.and(depth)?];
        while self.take("or") {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Condition::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Condition, Diagnostic> {
        let mut parts = vec![self.not(depth)?];
        while self.take("and") {
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Condition::And(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Condition, Diagnostic> {
        if depth > DEPTH_MAX {
            return Err(self.wrong(&format!("nested deeper than {DEPTH_MAX} levels")));
        }
        if self.take("not") {
            return Ok(Condition::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.or(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err(self.wrong("expected `)` here")) };
        }
        self.searches()
    }

    /// A search by name, or several by `1 of`, `any of`, `all of`.
    fn searches(&mut self) -> Result<Condition, Diagnostic> {
        let is_of = self.word(self.at + 1).is_some_and(|word| word.eq_ignore_ascii_case("of"));
        let Some(word) = self.peek().filter(|word| {
            ![")", "and", "or", "of"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
        }) else {
            return Err(self.wrong("expected the name of a search, `1 of`, `all of`, `not` or `(` here"));
        };
        if !is_of {
            let Some(search) = self.names.iter().position(|name| *name == word) else {
                let error = self.wrong("there is no such search");
                return Err(Diagnostic {
                    code: "S104",
                    ..error.did_you_mean(word, self.names.iter().copied())
                });
            };
            self.count(1)?;
            self.at += 1;
            return Ok(Condition::Search(search));
        }
        let all = match word.to_ascii_lowercase().as_str() {
            "all" => true,
            "1" | "any" => false,
            _ => return Err(self.wrong("expected `1`, `any` or `all` before `of`")),
        };
        self.at += 2;
        let Some(pattern) = self.peek() else {
            return Err(self.wrong("expected `them` or a pattern such as `selection_*` here"));
        };
        let is_meant = |name: &str| {
            if pattern.eq_ignore_ascii_case("them") { !name.starts_with('_') } else { is_like(pattern, name) }
        };
        let searches: Vec<Condition> =
            (0..self.names.len()).filter(|at| is_meant(self.names[*at])).map(Condition::Search).collect();
        if searches.is_empty() {
            let error = self.wrong("no search has such a name");
            let known = self.names.iter().copied();
            return Err(Diagnostic { code: "S104", ..error.did_you_mean(pattern.trim_matches('*'), known) });
        }
        self.count(searches.len())?;
        self.at += 1;
        Ok(if all { Condition::And(searches) } else { Condition::Or(searches) })
    }

    fn count(&mut self, more: usize) -> Result<(), Diagnostic> {
        self.named += more;
        if self.named <= SEARCHES_MAX {
            return Ok(());
        }
        let error = self.wrong(&format!("the condition names more than {SEARCHES_MAX} searches"));
        Err(Diagnostic { code: "S107", ..error })
    }
}

/// Whether a name is like a pattern, in which `*` is anything. The last star that was passed is the only one
/// that is moved on, so the time is at most pattern times name.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;

    fn show(condition: &Condition, names: &[&str]) -> String {
        let each = |parts: &[Condition], separator: &str| {
            let parts: Vec<_> = parts.iter().map(|part| show(part, names)).collect();
            format!("({})", parts.join(separator))
        };
        match condition {
            Condition::And(parts) => each(parts, " & "),
            Condition::Or(parts) => each(parts, " | "),
            Condition::Not(part) => format!("!{}", show(part, names)),
            Condition::Search(at) => names[*at].to_owned(),
        }
    }

    fn parsed(text: &str) -> Result<String, &'static str> {
        let names = ["a", "b", "sel_1", "sel_2", "filter_x_y", "_hidden"];
        let source = Arc::new(Source { name: "t".to_owned(), text: text.to_owned() });
        parse(&Arc::new(yaml::Node::whole(&source)), &names)
            .map(|condition| show(&condition, &names))
            .map_err(|diagnostic| diagnostic.code)
    }

    #[test]
    fn conditions_are_read_with_the_precedence_of_the_specification() {
        for (text, expected) in [
            ("a", "a"),
            ("a and b or sel_1", "((a & b) | sel_1)"),
            ("a or b and not sel_1", "(a | (b & !sel_1))"),
            ("a AND (b OR sel_1)", "(a & (b | sel_1))"),
            ("not not a", "!!a"),
            ("1 of sel_*", "(sel_1 | sel_2)"),
            ("all of sel_*", "(sel_1 & sel_2)"),
            ("any of *_*_*", "(filter_x_y)"),
            ("a and not 1 of filter_*", "(a & !(filter_x_y))"),
            ("1 of them", "(a | b | sel_1 | sel_2 | filter_x_y)"),
            ("1 of _*", "(_hidden)"),
            ("(a)and(b)", "(a & b)"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_have_their_codes() {
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        let many = "1 of them or ".repeat(3_000) + "a";
        for (text, code) in [
            ("", "S103"),
            ("a b", "S103"),
            ("a and", "S103"),
            ("(a", "S103"),
            ("a)", "S103"),
            ("2 of sel_*", "S103"),
            ("1 of", "S103"),
            ("c", "S104"),
            ("1 of x*", "S104"),
            ("a | count() by b > 3", "S110"),
            (&deep, "S103"),
            (&many, "S107"),
        ] {
            assert_eq!(parsed(text), Err(code), "{text}");
        }
    }

    #[test]
    fn patterns_of_names_match_with_stars_anywhere() {
        for (pattern, name, like) in [
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "abc", true),
            ("ab*bc", "abc", false),
            ("*", "", true),
            ("a", "ab", false),
            ("*b*", "abc", true),
            ("*d*", "abc", false),
        ] {
            assert_eq!(is_like(pattern, name), like, "{pattern} {name}");
        }
    }
}

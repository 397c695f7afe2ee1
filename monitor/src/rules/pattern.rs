//! Ways to look for texts in texts: sets, several needles at once, globs, regular expressions. All of them take time
//! linear in the text, whoever chose it, and are equal if they were made of the same. [`super::path`] has paths.

use std::cell::Cell;
use std::hash::{Hash, Hasher};

use aho_corasick::AhoCorasick;
use hashbrown::{Equivalent, HashSet};
use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

/// A set of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts(HashSet<Box<[u8]>>);

impl Texts {
    /// Makes one.
    pub fn new<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Self {
        Self(texts.map(Into::into).collect())
    }

    /// Whether it has that text.
    pub fn contains(&self, text: &[u8]) -> bool {
        self.0.contains(text)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|text| &**text)
    }
}

impl Hash for Texts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.0.len());
    }
}

/// A set of texts in which upper and lower case (ASCII) are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldedTexts(HashSet<FoldedBox>);

impl FoldedTexts {
    /// Makes one.
    pub fn new<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Self {
        Self(texts.map(FoldedBox::new).collect())
    }

    /// Whether it has that text.
    pub fn contains(&self, text: &[u8]) -> bool {
        self.0.contains(&Folded(text))
    }

    /// All of them in lower case, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|text| &*text.0)
    }
}

impl Hash for FoldedTexts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.0.len());
    }
}

/// A text in lower case, to be looked up by [`Folded`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldedBox(Box<[u8]>);

impl FoldedBox {
    /// That text in lower case.
    pub fn new(text: &[u8]) -> Self {
        Self(text.to_ascii_lowercase().into())
    }
}

/// A text that is looked up as if it were in lower case.
pub struct Folded<'a>(pub &'a [u8]);

impl Hash for FoldedBox {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Folded(&self.0).hash(state);
    }
}

impl Hash for Folded<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for chunk in self.0.chunks(64) {
            let mut lower = [0; 64];
            let lower = &mut lower[..chunk.len()];
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            state.write(lower);
        }
    }
}

impl Equivalent<FoldedBox> for Folded<'_> {
    fn equivalent(&self, key: &FoldedBox) -> bool {
        key.0.eq_ignore_ascii_case(self.0)
    }
}

/// One text that is looked for in others.
#[derive(Clone, Debug)]
pub struct Needle(Finder<'static>);

impl Needle {
    /// Makes one.
    pub fn new(text: &[u8]) -> Self {
        Self(Finder::new(text).into_owned())
    }

    /// Whether it is in that text.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.0.find(text).is_some()
    }

    /// What is looked for.
    pub fn text(&self) -> &[u8] {
        self.0.needle()
    }
}

impl PartialEq for Needle {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Needle {}

impl Hash for Needle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

/// Several texts that are looked for at once.
#[derive(Clone, Debug)]
pub struct Needles {
    texts: Box<[Box<[u8]>]>,
    /// Whether upper and lower case (ASCII) are the same.
    folded: bool,
    automaton: AhoCorasick,
}

impl Needles {
    /// Makes one; `None` if that would take too much memory.
    pub fn new<'a>(texts: impl Iterator<Item = &'a [u8]>, folded: bool) -> Option<Self> {
        let texts: Box<[Box<[u8]>]> = texts.map(Into::into).collect();
        let automaton = AhoCorasick::builder().ascii_case_insensitive(folded).build(&texts).ok()?;
        Some(Self { texts, folded, automaton })
    }

    /// What is looked for.
    pub fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.texts.iter().map(|text| &**text)
    }

    /// Whether one of them is in that text.
    pub fn are_in(&self, text: &[u8]) -> bool {
        self.automaton.is_match(text)
    }
}

impl PartialEq for Needles {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded && self.texts == other.texts
    }
}

impl Eq for Needles {}

impl Hash for Needles {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.folded, &self.texts).hash(state);
    }
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Most memory that a compiled expression may take, in bytes.
const PATTERN_BYTES_MAX: usize = 512 << 10;

/// Longest text that is put right for an expression if it is no UTF-8, in bytes.
const VALID_BYTES_MAX: usize = 64 << 10;

impl Pattern {
    /// An expression that the whole text has to be like. As in Falco (RE2 in POSIX mode), `^` and `$` are the ends of
    /// lines and `.` is any character but a line break.
    pub fn whole(text: &str) -> Result<Self, regex::Error> {
        // Alone it has to be one too: brackets must not pair with ours.
        Self::anywhere(text)?;
        Self::anywhere(&format!(r"\A(?m:{text})\z"))
    }

    /// An expression that has to be found somewhere in the text; `^` and `$` are its ends.
    pub fn anywhere(text: &str) -> Result<Self, regex::Error> {
        let mut builder = RegexBuilder::new(text);
        builder.size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        builder.build().map(Self)
    }

    /// Whether a text is like it. Bytes that are no UTF-8 count as the replacement character, so that they do not hide
    /// a text from `.`.
    pub fn matches(&self, text: &[u8]) -> bool {
        thread_local! {
            static VALID: Cell<String> = const { Cell::new(String::new()) };
        }
        if std::str::from_utf8(text).is_ok() {
            return self.0.is_match(text);
        }
        let mut valid = VALID.take();
        valid.clear();
        for chunk in text[..text.len().min(VALID_BYTES_MAX)].utf8_chunks() {
            valid.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                valid.push(char::REPLACEMENT_CHARACTER);
            }
        }
        let matches = self.0.is_match(valid.as_bytes());
        VALID.set(valid);
        matches
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

/// A pattern as shells have them: `*` is any bytes, `?` is any one byte, `[a-z]`, `[!a-z]` and `[[:alpha:]]` are
/// classes, a backslash takes the next byte as it is. `*` goes over slashes too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob {
    /// The pattern.
    pub pattern: Box<[u8]>,
    /// Whether upper and lower case (ASCII) are the same.
    pub folded: bool,
}

impl Glob {
    /// Makes one.
    pub fn new(pattern: &[u8], folded: bool) -> Self {
        Self { pattern: pattern.into(), folded }
    }

    /// Whether a text is like it.
    pub fn matches(&self, text: &[u8]) -> bool {
        glob(&self.pattern, text, self.folded)
    }
}

/// Whether a text is like a pattern, as [`Glob`] has it. A star that fails is only ever moved on, never tried in
/// combination with earlier ones, so the time is at most pattern times text.
pub fn glob(pattern: &[u8], text: &[u8], folded: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
            continue;
        }
        if let Some(len) = one(&pattern[p..], text[t], folded) {
            p += len;
            t += 1;
            continue;
        }
        match star {
            Some((star_p, star_t)) => {
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
            None => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// What is wrong with a pattern that people write: it would stand for itself where something else is meant.
pub fn glob_mistake(pattern: &[u8]) -> Option<&'static str> {
    let mut rest = pattern;
    while let Some(first) = rest.first() {
        let length = match first {
            b'[' => match class(rest, 0, false) {
                Some((_, length)) => length,
                None => return Some("`[` has no `]`"),
            },
            b'\\' if rest.len() == 1 => return Some("nothing stands behind the backslash"),
            b'\\' => 2,
            _ => 1,
        };
        rest = &rest[length..];
    }
    None
}

/// Whether the pattern's first element takes that byte; its length if so.
fn one(pattern: &[u8], byte: u8, folded: bool) -> Option<usize> {
    let same = |other: u8| if folded { other.eq_ignore_ascii_case(&byte) } else { other == byte };
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => match class(pattern, byte, folded) {
            Some((takes, len)) => takes.then_some(len),
            None => same(b'[').then_some(1),
        },
        [b'\\', escaped, ..] => same(*escaped).then_some(2),
        [first, ..] => same(*first).then_some(1),
    }
}

/// Whether the class that the pattern begins with takes a byte, and the length of the class; `None` if it has no end.
fn class(pattern: &[u8], byte: u8, folded: bool) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = 1 + usize::from(negated);
    let mut at = first;
    let mut takes = false;
    let holds = |test: &dyn Fn(u8) -> bool| {
        test(byte) || folded && (test(byte.to_ascii_lowercase()) || test(byte.to_ascii_uppercase()))
    };
    loop {
        match pattern.get(at..)? {
            [b']', ..] if at > first => return Some((takes != negated, at + 1)),
            rest => {
                if let Some((named, len)) = named_class(rest) {
                    takes |= holds(&|byte| named(&byte));
                    at += len;
                    continue;
                }
                let (low, len) = member(rest)?;
                at += len;
                match pattern.get(at..)? {
                    [b'-', high @ ..] if !matches!(high, [] | [b']', ..]) => {
                        let (high, len) = member(high)?;
                        takes |= holds(&|byte| (low..=high).contains(&byte));
                        at += 1 + len;
                    }
                    _ => takes |= holds(&|byte| byte == low),
                }
            }
        }
    }
}

/// A byte of a class and how it is written.
fn member(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'\\', escaped, ..] => Some((*escaped, 2)),
        [byte, ..] => Some((*byte, 1)),
        [] => None,
    }
}

type ByteTest = fn(&u8) -> bool;

/// `[:alpha:]` and the like within a class, and how long that is.
fn named_class(rest: &[u8]) -> Option<(ByteTest, usize)> {
    let inside = rest.strip_prefix(b"[:")?;
    let len = inside.windows(2).position(|end| end == b":]")?;
    let test: ByteTest = match &inside[..len] {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    Some((test, len + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text, matches) in [
            ("/etc/*", "/etc/passwd", true),
            ("/etc/*", "/etc/", true),
            ("/etc/*", "/etcx", false),
            ("*.s?", "a.so", true),
            ("*.s?", "a.s", false),
            ("[a-c]x[!0-9]", "bxz", true),
            ("[a-c]x[!0-9]", "bx5", false),
            ("[]-]", "]", true),
            ("[]-]", "-", true),
            ("[!]]", "]", false),
            ("[!]]", "a", true),
            ("[\\]x]", "]", true),
            ("[[:digit:]x]", "7", true),
            ("[[:digit:]x]", "d", false),
            ("[[:no:]", "[", true),
            ("[a-]", "-", true),
            ("a[", "a[", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes(), false), matches, "{pattern} {text}");
        }
        for (pattern, text, matches) in
            [("/ETC/[a-c]*", "/etc/Bx", true), ("[[:upper:]]", "x", true), ("a", "b", false)]
        {
            assert_eq!(Glob::new(pattern.as_bytes(), true).matches(text.as_bytes()), matches, "{pattern}");
        }
    }

    #[test]
    fn pattern_of_many_stars_takes_no_exponential_time() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!glob(pattern.as_bytes(), "a".repeat(20_000).as_bytes(), false));
    }

    #[test]
    fn expression_is_of_the_whole_text_or_found_anywhere() {
        for (pattern, text, whole, anywhere) in [
            ("a.c", &b"abc"[..], true, true),
            ("a.c", b"xabc", false, true),
            ("a|ab", b"ab", true, true),
            ("a.c", b"a\nc", false, false),
            ("(?s)a.c", b"a\nc", true, true),
            ("^b$", b"a\nb", false, false),
            ("^a$\n^b$", b"a\nb", true, false),
            ("(?m)^b$", b"a\nb", false, true),
            ("(?i)ABC", b"abc", true, true),
            ("a.c", b"a\xffc", true, true),
            ("[^/]+", b"\xff\xfe", true, true),
            ("[[:alpha:]]+\\d", b"ab1", true, true),
            ("", b"", true, true),
            ("", b"a", false, true),
        ] {
            assert_eq!(Pattern::whole(pattern).unwrap().matches(text), whole, "{pattern}");
            assert_eq!(Pattern::anywhere(pattern).unwrap().matches(text), anywhere, "{pattern}");
        }
        for wrong in ["a)|(?:b", "(", "[z-a]", "(?x)a # b", "(a{1000}){1000}"] {
            let compiled = Pattern::whole(wrong);
            assert!(compiled.is_err(), "{wrong}");
        }
    }

    #[test]
    fn folded_set_finds_any_case_of_any_length() {
        let long = "Ab".repeat(100);
        let set = FoldedTexts::new([&b"Bash"[..], long.as_bytes()].into_iter());
        for (text, found) in [("BASH", true), ("bash", true), ("bas", false), (&*long.to_uppercase(), true)] {
            assert_eq!(set.contains(text.as_bytes()), found, "{text}");
        }
    }
}

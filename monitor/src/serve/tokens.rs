//! Bearer tokens, from a file. In memory there are their hashes only; the comparison takes as long for a wrong token
//! as for a right one.

use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

/// A file is no larger.
const FILE_MAX: u64 = 64 << 10;

/// Shorter tokens can be guessed.
const TOKEN_MIN: usize = 16;

/// What a token that the file has no name for is called.
const NAMELESS: &str = "token";

/// Known tokens: name, and SHA-256.
#[derive(Default)]
pub struct Tokens(Vec<(String, [u8; 32])>);

impl Tokens {
    /// Reads a file with a token in each line: `NAME TOKEN`, `NAME sha256:HEX`, or just a token. Empty lines and those
    /// that begin with `#` are passed over. The error tells the line, never what is in it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut text = Zeroizing::new(String::new());
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
        // Half of it would leave out tokens, and let in half a one.
        if text.len() as u64 > FILE_MAX {
            return Err(format!("it has more than {FILE_MAX} bytes"));
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, token) = match line.split_once([' ', '\t']) {
                Some((name, token)) => (name, token.trim_start()),
                None => (NAMELESS, line),
            };
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let hash = match token.strip_prefix("sha256:") {
                Some(digits) => crate::audit::hex::from_hex(digits.as_bytes())
                    .ok_or_else(|| wrong("behind `sha256:` there are not 64 hex digits"))?,
                None if token.len() < TOKEN_MIN => {
                    return Err(wrong(&format!("the token has less than {TOKEN_MIN} characters")));
                }
                None => Sha256::digest(token).into(),
            };
            if name.bytes().any(|byte| !byte.is_ascii_graphic()) || token.contains(char::is_whitespace) {
                return Err(wrong("this is not `NAME TOKEN`"));
            }
            tokens.push((name.to_owned(), hash));
        }
        if tokens.is_empty() { Err("there is no token in it".to_owned()) } else { Ok(Self(tokens)) }
    }

    /// The name of a token, if it is known.
    pub fn name_of(&self, token: &str) -> Option<&str> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for (name, known) in &self.0 {
            let is_it: Choice = hash.ct_eq(known);
            // No end before the last one.
            if bool::from(is_it) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_known_by_itself_by_its_name_or_by_its_hash() {
        let hash = crate::rules::hex(&Sha256::digest("0123456789abcdef-b"));
        let text = format!("# ours\n0123456789abcdef-a\n\nb sha256:{hash}\nc\t0123456789abcdef-c\r\n");
        let tokens = Tokens::parse(&text).unwrap();
        for (token, name) in
            [("a", Some("token")), ("b", Some("b")), ("c", Some("c")), ("d", None), ("", None)]
        {
            assert_eq!(tokens.name_of(&format!("0123456789abcdef-{token}")), name);
        }
        assert_eq!(tokens.name_of(&format!("sha256:{hash}")), None);
    }

    #[test]
    fn file_that_is_no_list_of_tokens_is_refused_without_a_word_of_it() {
        for (text, why) in [
            ("", "there is no token in it"),
            ("short", "line 1: the token has less than 16 characters"),
            ("a 0123456789abcdef\nb sha256:00", "line 2: behind `sha256:` there are not 64 hex digits"),
            ("a 0123456789abcdef more", "line 1: this is not `NAME TOKEN`"),
        ] {
            assert_eq!(Tokens::parse(text).err().as_deref(), Some(why), "{text}");
        }
    }

    #[test]
    fn file_that_is_too_large_is_refused_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a 0123456789abcdef\n".repeat(4000)).unwrap();
        assert_eq!(Tokens::read(file.path()).err().as_deref(), Some("it has more than 65536 bytes"));
    }
}

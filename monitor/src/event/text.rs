//! Texts from events in outputs. Whoever runs in a container chose them, so each output escapes them by its
//! own rules: [`escape`] for lines that people read, [`json_string`] for JSON.

use std::fmt::Write as _;
use std::io;

/// Appends bytes so that they are one line of printable text: control characters, characters that change the
/// direction or hide, and bytes that are not UTF-8 become escapes, and a backslash is doubled.
pub fn escape(bytes: &[u8], out: &mut String) {
    if bytes.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'\\')
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        out.push_str(text);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                char if char.is_ascii_control() => {
                    let _ = write!(out, "\\x{:02x}", char as u32);
                }
                char if hides(char) => {
                    let _ = write!(out, "\\u{{{:x}}}", char as u32);
                }
                char => out.push(char),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// As [`escape`], as a new text.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    escape(bytes, &mut out);
    out
}

/// Whether a character is a control, changes the direction of text, or cannot be seen: C1, line and paragraph
/// separators, and all that Unicode calls `Default_Ignorable_Code_Point`. (Variation selectors and tags can
/// carry whole hidden texts.)
fn hides(char: char) -> bool {
    matches!(char,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Appends a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD; returns whether there were
/// any, so that the caller can add the exact bytes beside it.
pub fn json_string(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let mut damaged = false;
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            for char in chunk.valid().chars() {
                json_char(char, out);
            }
            if !chunk.invalid().is_empty() {
                damaged = true;
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
    out.push(b'"');
    damaged
}

/// Whether JSON has all bytes as they are. They are looked at in blocks without a branch, for which the compiler finds
/// vector instructions.
fn is_plain(bytes: &[u8]) -> bool {
    let block_is_plain = |block: &[u8]| {
        block.iter().fold(true, |plain, &byte| {
            plain & (byte.wrapping_sub(b' ') <= b'~' - b' ') & (byte != b'"') & (byte != b'\\')
        })
    };
    bytes.chunks(32).all(block_is_plain)
}

/// JSON that somebody else has written, as it can be shown: characters that hide or turn text around are escaped. They
/// can only stand within strings.
pub fn shown_json(json: &impl std::fmt::Display) -> String {
    let mut shown = Vec::new();
    for char in json.to_string().chars() {
        if hides(char) || char.is_ascii_control() {
            json_char(char, &mut shown);
        } else {
            shown.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    String::from_utf8_lossy(&shown).into_owned()
}

fn json_char(char: char, out: &mut Vec<u8>) {
    match char {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        char if char.is_ascii_control() || hides(char) => {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                // Writing to memory cannot fail.
                let _ = io::Write::write_fmt(out, format_args!("\\u{unit:04x}"));
            }
        }
        char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_is_one_line_of_printable_characters() {
        let table: &[(&[u8], &str)] = &[
            (b"/usr/bin/ls -l", "/usr/bin/ls -l"),
            (b"a\nb\tc\\", "a\\nb\\tc\\\\"),
            (b"\x1b[2J\x07\x7f", "\\x1b[2J\\x07\\x7f"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            ("a\u{e0041}\u{fe0f}\u{3164}".as_bytes(), "a\\u{e0041}\\u{fe0f}\\u{3164}"),
            ("gr\u{fc}n \u{202e}txt\u{200b}\u{85}".as_bytes(), "gr\u{fc}n \\u{202e}txt\\u{200b}\\u{85}"),
        ];
        for (bytes, text) in table {
            assert_eq!(escaped(bytes), *text);
        }
    }

    /// What [`escape`] made of the bytes, back to the bytes.
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\\') {
            bytes.extend_from_slice(before.as_bytes());
            let (escape, after) = after.split_at(1);
            rest = after;
            match escape {
                "n" => bytes.push(b'\n'),
                "r" => bytes.push(b'\r'),
                "t" => bytes.push(b'\t'),
                "x" => {
                    bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                    rest = &rest[2..];
                }
                "u" => {
                    let (number, after) = rest[1..].split_once('}').unwrap();
                    let char = char::from_u32(u32::from_str_radix(number, 16).unwrap()).unwrap();
                    bytes.extend_from_slice(char.to_string().as_bytes());
                    rest = after;
                }
                escape => bytes.extend_from_slice(escape.as_bytes()),
            }
        }
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }

    #[test]
    fn escaped_text_of_any_bytes_shows_nothing_hidden_and_can_be_had_back() {
        let mut state = 11u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u32
        };
        for _ in 0..4_000 {
            let mut bytes = Vec::new();
            for _ in 0..random() % 12 {
                match (random() % 4, char::from_u32(random() % 0x11_0000)) {
                    (0, _) => bytes.push(random() as u8),
                    (1, _) => bytes.push(b"\\x{nu}\n"[random() as usize % 7]),
                    (_, Some(char)) => bytes.extend_from_slice(char.to_string().as_bytes()),
                    (_, None) => bytes.extend_from_slice("\u{200b}\u{fe0f}".as_bytes()),
                }
            }
            let text = escaped(&bytes);
            assert!(!text.chars().any(|char| char.is_control() || hides(char)), "{text}");
            assert_eq!(unescape(&text), bytes, "{text}");
        }
    }

    #[test]
    fn json_string_parses_back_whatever_the_bytes() {
        let mut state = 7u64;
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    if state >> 60 == 0 {
                        0xe2
                    } else {
                        (state >> 33) as u8 & if state >> 62 == 0 { 0xff } else { 0x7f }
                    }
                })
                .collect();
            let mut out = Vec::new();
            let damaged = json_string(&bytes, &mut out);
            assert!(!out.iter().any(|&byte| byte < 0x20 || byte == 0x7f));
            let back: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(damaged, std::str::from_utf8(&bytes).is_err());
            assert_eq!(back, String::from_utf8_lossy(&bytes));
        }
    }
}

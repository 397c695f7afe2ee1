//! Bounds of what goes out. A text or list that is too long for a receiver is cut, and its end says how long it was:
//! `…[9000 bytes]`, `…[400 items]`.

use std::borrow::Cow;

/// How much of a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Longest text, in bytes.
    pub text_max: usize,
    /// Longest list.
    pub list_max: usize,
    /// Whether members for which the format has no name of its own are kept.
    pub keeps_own: bool,
}

impl Cut {
    /// Everything.
    pub const NOTHING: Self = Self { text_max: usize::MAX, list_max: usize::MAX, keeps_own: true };

    /// From everything to what is essential.
    pub const STEPS: [Self; 5] = [
        Self::NOTHING,
        Self { text_max: 2048, list_max: 128, keeps_own: true },
        Self { text_max: 512, list_max: 32, keeps_own: true },
        Self { text_max: 96, list_max: 8, keeps_own: true },
        Self { text_max: 64, list_max: 2, keeps_own: false },
    ];

    /// The text, cut if it is too long.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if text.len() <= self.text_max {
            return Cow::Borrowed(text);
        }
        let end = text.floor_char_boundary(self.text_max);
        Cow::Owned(format!("{}…[{} bytes]", &text[..end], text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_text_ends_at_a_character_and_tells_its_true_length() {
        let cut = Cut { text_max: 4, ..Cut::NOTHING };
        assert_eq!(cut.text("abcd"), "abcd");
        assert_eq!(cut.text("abcde"), "abcd…[5 bytes]");
        assert_eq!(cut.text("abcäö"), "abc…[7 bytes]");
    }
}

//! Text that must not reach a log.

use std::fmt;

/// A password, a key, or text that may hold one. Its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text. What takes it must not log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with a guess in a time that depends on the guess's length only, so that an answer's
    /// delay does not tell how much of a guess was right.
    pub fn matches(&self, guess: &str) -> bool {
        let secret = self.0.as_bytes();
        let mut difference = u8::from(secret.len() != guess.len());
        for (index, byte) in guess.bytes().enumerate() {
            let other = secret
                .get(index % secret.len().max(1))
                .copied()
                .unwrap_or(0);
            difference |= std::hint::black_box(byte ^ other);
        }
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "hidden" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_matches() {
        let secret = Secret::new("abc");
        assert!(secret.matches("abc"));
        for guess in ["", "a", "abd", "abcabc", "ABC"] {
            assert!(!secret.matches(guess), "{guess}");
        }
        assert!(Secret::default().matches(""));
        assert!(!Secret::default().matches("a"));
    }

    #[test]
    fn debug_does_not_tell() {
        assert_eq!(format!("{:?}", Secret::new("abc")), "hidden");
    }
}

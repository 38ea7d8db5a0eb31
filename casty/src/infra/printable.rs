//! Text from outside, fit to be printed: on one line, and short.

use std::fmt;

/// The most characters that are printed.
const CHARACTERS_MAX: usize = 300;

/// A text that a stranger, or a user of the program, has chosen. What would break the line, or
/// steer a terminal, is escaped; what is too long is cut.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= CHARACTERS_MAX && !self.0.contains(is_harmful) {
            return f.write_str(self.0);
        }
        let mut left = CHARACTERS_MAX;
        for character in self.0.chars() {
            let escaped = is_harmful(character).then(|| character.escape_default());
            let printed = escaped.as_ref().map_or(1, ExactSizeIterator::len);
            let Some(rest) = left.checked_sub(printed) else {
                return write!(f, "… ({} bytes)", self.0.len());
            };
            left = rest;
            match escaped {
                Some(escaped) => write!(f, "{escaped}")?,
                None => write!(f, "{character}")?,
            }
        }
        Ok(())
    }
}

/// Controls, other ends of lines, and what changes the direction of the text.
fn is_harmful(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_text_is_one_short_line() {
        let printed = |text: &str| Printable(text).to_string();
        assert_eq!(printed("Jörg/7 ✓"), "Jörg/7 ✓");
        assert_eq!(
            printed("a\nERROR forged\u{1b}[2J\u{2028}"),
            r"a\nERROR forged\u{1b}[2J\u{2028}"
        );
        let long = printed(&"é".repeat(450_000));
        assert_eq!(long.chars().filter(|c| *c == 'é').count(), CHARACTERS_MAX);
        assert!(long.ends_with("… (900000 bytes)"), "{long}");
        let whole = "é".repeat(CHARACTERS_MAX);
        assert_eq!(printed(&whole), whole);
        // What is escaped takes more room, and counts with that.
        let escaped = printed(&"\u{1b}".repeat(200));
        assert!(escaped.chars().count() < CHARACTERS_MAX + 20, "{escaped}");
    }
}

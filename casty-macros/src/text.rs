//! Tokens as text, always the same.
//!
//! Nodes compare this text, and `TokenStream::to_string` may space tokens differently in another
//! version of the compiler.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

/// A type or an attribute as one would write it: `BTreeMap<String, Vec<u8>>`.
pub(crate) fn of(tokens: impl ToTokens) -> String {
    let mut text = Text {
        out: String::new(),
        last: Last::Nothing,
    };
    text.stream(tokens.to_token_stream());
    text.out
}

struct Text {
    out: String,
    last: Last,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Word,
    /// Half of an operator such as `::` or `->`.
    Joint,
    /// A token that is followed by a space.
    Spaced,
}

impl Text {
    fn stream(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.group(group.delimiter(), group.stream()),
                TokenTree::Ident(ident) => self.word(&ident.to_string()),
                TokenTree::Literal(literal) => self.word(&literal.to_string()),
                TokenTree::Punct(punct) => {
                    self.punct(punct.as_char(), punct.spacing() == Spacing::Joint);
                }
            }
        }
    }

    fn group(&mut self, delimiter: Delimiter, tokens: TokenStream) {
        let (open, close) = match delimiter {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            // Invisible: a type that a `macro_rules!` passed on.
            Delimiter::None => return self.stream(tokens),
        };
        if self.last == Last::Spaced {
            self.out.push(' ');
        }
        self.out.push_str(open);
        self.last = Last::Nothing;
        self.stream(tokens);
        self.out.push_str(close);
        self.last = Last::Nothing;
    }

    fn word(&mut self, word: &str) {
        if matches!(self.last, Last::Word | Last::Spaced) {
            self.out.push(' ');
        }
        self.out.push_str(word);
        self.last = Last::Word;
    }

    fn punct(&mut self, mark: char, joint: bool) {
        let closes_arrow =
            mark == '>' && self.last == Last::Joint && self.out.ends_with(['-', '=']);
        let opens_operator = matches!(mark, '+' | '=') || (mark == '-' && joint);
        let is_apart = match mark {
            ',' => false,
            '\'' => matches!(self.last, Last::Word | Last::Spaced),
            _ => opens_operator || self.last == Last::Spaced,
        };
        if is_apart {
            self.out.push(' ');
        }
        self.out.push(mark);
        self.last = match mark {
            '>' if closes_arrow => Last::Spaced,
            '-' | '=' if joint => Last::Joint,
            ',' | ';' | '+' | '=' => Last::Spaced,
            _ => Last::Nothing,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(source: &str) -> String {
        of(source.parse::<TokenStream>().expect("tokens"))
    }

    #[test]
    fn types_are_spaced_as_one_writes_them() {
        for source in [
            "i64",
            "()",
            "BTreeMap<String, Vec<u8>>",
            "(u8, Option<i64>)",
            "[u8; 32]",
            "::std::time::Duration",
            "Box<dyn Fn(u8) -> u8 + Send>",
            "<T as Iterator>::Item",
            "Cow<'static, str>",
            "#[serde(default, rename = \"n\")]",
        ] {
            assert_eq!(text_of(source), source);
            assert_eq!(text_of(&source.replace(", ", " ,")), source);
        }
    }
}

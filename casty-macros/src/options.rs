//! The options in an attribute's parentheses: `shards = 10, name = "counter", internal`.

use std::{fmt::Write, ops::RangeInclusive, time::Duration};

use proc_macro2::{Ident, Span, TokenStream};
use syn::{
    Expr, ExprLit, ExprPath, Lit, LitStr, Path, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    token,
};

use crate::{errors::Errors, names};

/// An option that an attribute takes.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// How it is written.
    pub(crate) example: &'static str,
}

/// What an attribute takes, and what it refuses with a reason of its own.
pub(crate) struct Grammar {
    /// As the user writes it: `#[entity]`.
    pub(crate) attribute: &'static str,
    pub(crate) known: &'static [Known],
    /// Options that exist elsewhere, or later, and what to say about them.
    pub(crate) refused: &'static [(&'static str, &'static str)],
}

/// The options of one attribute, each at most once and all of them known.
pub(crate) struct Options {
    grammar: &'static Grammar,
    written: Vec<Written>,
}

struct Written {
    key: Ident,
    value: Option<Expr>,
}

/// The crate to take generated paths from.
pub(crate) fn casty() -> Path {
    syn::parse_quote!(::casty)
}

impl Options {
    /// No options at all.
    pub(crate) fn none(grammar: &'static Grammar) -> Self {
        Self {
            grammar,
            written: Vec::new(),
        }
    }

    pub(crate) fn parse(
        grammar: &'static Grammar,
        tokens: TokenStream,
        errors: &mut Errors,
    ) -> Self {
        let mut options = Self::none(grammar);
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                let written = options.parse_one(input)?;
                options.add(written, errors);
                if !input.is_empty() {
                    input.parse::<Token![,]>().map_err(|error| {
                        syn::Error::new(error.span(), "expected `,` between two options")
                    })?;
                }
            }
            Ok(())
        };
        if let Err(error) = parser.parse2(tokens) {
            errors.syntax(error);
        }
        options
    }

    fn parse_one(&self, input: ParseStream<'_>) -> syn::Result<Written> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!(
                "expected an option of `{}`; {}",
                self.grammar.attribute,
                self.grammar.list()
            )));
        }
        let key = input.call(Ident::parse_any)?;
        if input.peek(token::Paren) {
            let example = self
                .grammar
                .example(&key.to_string())
                .unwrap_or("option = value");
            return Err(input.error(format!("an option has no parentheses: write `{example}`")));
        }
        let value = if input.parse::<Option<Token![=]>>()?.is_some() {
            Some(input.parse::<Expr>()?)
        } else {
            None
        };
        Ok(Written { key, value })
    }

    fn add(&mut self, written: Written, errors: &mut Errors) {
        let name = written.key.to_string();
        let attribute = self.grammar.attribute;
        if self.get(&name).is_some() {
            errors.at(
                &written.key,
                format!("`{name}` is given twice in one `{attribute}`: keep one of them"),
            );
        } else if self.grammar.example(&name).is_some() {
            self.written.push(written);
        } else if let Some((_, reason)) = self.grammar.refused.iter().find(|(key, _)| *key == name)
        {
            errors.at(&written.key, reason);
        } else {
            let mut message = format!("`{attribute}` has no option `{name}`");
            if let Some(meant) =
                names::nearest(&name, self.grammar.known.iter().map(|known| known.name))
            {
                // Writing to a string cannot fail.
                let _ = write!(message, "; did you mean `{meant}`?");
            }
            errors.at(&written.key, format!("{message}\n{}", self.grammar.list()));
        }
    }

    fn get(&self, name: &str) -> Option<&Written> {
        self.written.iter().find(|written| written.key == name)
    }

    /// Where an option is written.
    pub(crate) fn span(&self, name: &str) -> Option<Span> {
        self.get(name).map(|written| written.key.span())
    }

    fn wrong_value(&self, written: &Written, what: &str, errors: &mut Errors) {
        let key = &written.key;
        let example = self.grammar.example(&key.to_string()).unwrap_or_default();
        let message = format!("`{key}` takes {what}: write for example `{example}`");
        match &written.value {
            Some(value) => errors.at(value, message),
            None => errors.at(key, message),
        }
    }

    /// A whole number in `range`.
    pub(crate) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        errors: &mut Errors,
    ) -> Option<u32> {
        let written = self.get(name)?;
        let (least, most) = (range.start(), range.end());
        let Some(Lit::Int(number)) = literal(written) else {
            let what = format!("a whole number from {least} to {most}");
            self.wrong_value(written, &what, errors);
            return None;
        };
        match number.base10_parse::<u32>() {
            Ok(value) if range.contains(&value) => Some(value),
            Ok(0) => {
                errors.at(number, format!("`{name}` must be at least {least}"));
                None
            }
            _ => {
                errors.at(
                    number,
                    format!("`{name}` must be a whole number from {least} to {most}"),
                );
                None
            }
        }
    }

    fn string(&self, written: &Written, what: &str, errors: &mut Errors) -> Option<LitStr> {
        if let Some(Lit::Str(string)) = literal(written) {
            return Some(string.clone());
        }
        self.wrong_value(written, what, errors);
        None
    }

    /// A name that goes over the wire.
    pub(crate) fn wire_name(&self, name: &str, errors: &mut Errors) -> Option<String> {
        let literal = self.string(self.get(name)?, "a string", errors)?;
        let value = literal.value();
        if value.is_empty() {
            errors.at(
                literal,
                "a wire name cannot be empty: nodes find each other's types and messages by it",
            );
            None
        } else if value.len() > WIRE_NAME_BYTES_MAX {
            let bytes = value.len();
            errors.at(
                literal,
                format!(
                    "a wire name has at most {WIRE_NAME_BYTES_MAX} bytes, this one has {bytes}: \
                     it is sent with every message, keep it short"
                ),
            );
            None
        } else {
            Some(value)
        }
    }

    /// A time span such as `"250ms"`.
    pub(crate) fn duration(&self, name: &str, errors: &mut Errors) -> Option<Duration> {
        let literal = self.string(
            self.get(name)?,
            "a duration with its unit, as a string",
            errors,
        )?;
        match parse_duration(&literal.value()) {
            Ok(duration) => Some(duration),
            Err(reason) => {
                errors.at(literal, reason);
                None
            }
        }
    }

    /// A word without a value.
    pub(crate) fn flag(&self, name: &str, errors: &mut Errors) -> bool {
        let Some(written) = self.get(name) else {
            return false;
        };
        if let Some(value) = &written.value {
            errors.at(
                value,
                format!("`{name}` takes no value: write just `{name}`"),
            );
        }
        true
    }

    /// The `crate` option: where the user's crate sees casty.
    pub(crate) fn casty(&self, errors: &mut Errors) -> Path {
        let Some(written) = self.get("crate") else {
            return casty();
        };
        if let Some(Expr::Path(ExprPath {
            qself: None, path, ..
        })) = &written.value
        {
            return path.clone();
        }
        self.wrong_value(written, "a path, without quotes", errors);
        casty()
    }
}

impl Grammar {
    fn example(&self, name: &str) -> Option<&'static str> {
        self.known
            .iter()
            .find(|known| known.name == name)
            .map(|known| known.example)
    }

    fn list(&self) -> String {
        let examples: Vec<_> = self
            .known
            .iter()
            .map(|known| format!("`{}`", known.example))
            .collect();
        format!("its options are {}", examples.join(", "))
    }
}

/// A name is part of every message.
const WIRE_NAME_BYTES_MAX: usize = 255;

fn literal(written: &Written) -> Option<&Lit> {
    match &written.value {
        Some(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
        _ => None,
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    const HOW: &str = "write a whole number and a unit: \"250ms\", \"2s\", \"1m\" or \"1h\"";
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err(format!("this duration has no unit: {HOW}")),
        _ => return Err(format!("this is not a duration: {HOW}")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("this is not a duration: {HOW}"))?;
    match number.checked_mul(millis) {
        None => Err("this duration is too long".to_owned()),
        Some(0) => Err("a timeout of zero would fail every ask: \
            write how long an asker should wait, or leave `timeout` out for the system's default"
            .to_owned()),
        Some(millis) => Ok(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1m"), Ok(Duration::from_mins(1)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_hours(1)));
        for wrong in [
            "",
            "2",
            "s",
            "1.5s",
            "-1s",
            "2 s",
            "2d",
            "0s",
            "99999999999999999h",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}

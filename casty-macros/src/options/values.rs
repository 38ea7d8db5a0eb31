//! The values that an option may have.

use std::{ops::RangeInclusive, time::Duration};

use quote::ToTokens;
use syn::{Expr, ExprLit, ExprPath, Lit, LitStr, Path, Type};

use super::{Options, Written, casty};
use crate::{errors::Errors, names, text};

impl Options {
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

    /// The string that is an option's value.
    pub(crate) fn string_of(&self, name: &str, what: &str, errors: &mut Errors) -> Option<LitStr> {
        self.string(self.get(name)?, what, errors)
    }

    /// A time span that may also be in days, such as `"90d"`.
    pub(crate) fn days_or_duration(text: &str) -> Option<Duration> {
        let Some(days) = text.strip_suffix('d') else {
            return parse_duration(text).ok();
        };
        let is_number = !days.is_empty() && days.bytes().all(|digit| digit.is_ascii_digit());
        let days = days.parse::<u64>().ok().filter(|_| is_number)?;
        days.checked_mul(24 * 60 * 60).map(Duration::from_secs)
    }

    /// A name that goes over the wire.
    pub(crate) fn wire_name(&self, name: &str, errors: &mut Errors) -> Option<String> {
        let reasons = [
            "a wire name cannot be empty: nodes find each other's types and messages by it",
            "it is sent with every message",
        ];
        self.short_name(name, "wire", reasons, errors)
    }

    /// A name by which events are stored.
    pub(crate) fn stored_name(&self, name: &str, errors: &mut Errors) -> Option<String> {
        let reasons = [
            "a stored name cannot be empty: what is stored is read by it",
            "it is stored with every event",
        ];
        self.short_name(name, "stored", reasons, errors)
    }

    /// A name that is not empty, and at most so long. The reasons are those for each.
    fn short_name(
        &self,
        name: &str,
        kind: &str,
        [is_something, is_short]: [&str; 2],
        errors: &mut Errors,
    ) -> Option<String> {
        let literal = self.string(self.get(name)?, "a string", errors)?;
        let value = literal.value();
        if value.is_empty() {
            errors.at(literal, is_something);
            None
        } else if value.len() > WIRE_NAME_BYTES_MAX {
            let bytes = value.len();
            errors.at(
                literal,
                format!(
                    "a {kind} name has at most {WIRE_NAME_BYTES_MAX} bytes, this one has {bytes}: \
                     {is_short}, keep it short"
                ),
            );
            None
        } else {
            Some(value)
        }
    }

    /// The name of a role of nodes.
    pub(crate) fn role(&self, name: &str, errors: &mut Errors) -> Option<String> {
        let literal = self.string(self.get(name)?, "one role, as a string", errors)?;
        let value = literal.value();
        let bytes = value.len();
        if bytes == 0 {
            errors.at(
                literal,
                "a role cannot be empty: name the role of the nodes that are to host this type, \
                 or leave `role` out and all of them do",
            );
            None
        } else if bytes > ROLE_BYTES_MAX {
            errors.at(
                literal,
                format!(
                    "a role has at most {ROLE_BYTES_MAX} bytes, this one has {bytes}: no node could be started with it"
                ),
            );
            None
        } else {
            Some(value)
        }
    }

    /// A time span such as `"250ms"`. `no_zero` is the error for zero, unless zero is allowed.
    pub(crate) fn duration(
        &self,
        name: &str,
        no_zero: Option<&str>,
        errors: &mut Errors,
    ) -> Option<Duration> {
        let literal = self.string(
            self.get(name)?,
            "a duration with its unit, as a string",
            errors,
        )?;
        match parse_duration(&literal.value()) {
            Ok(duration) => {
                if let Some(reason) = no_zero.filter(|_| duration.is_zero()) {
                    errors.at(literal, reason);
                    return None;
                }
                Some(duration)
            }
            Err(reason) => {
                errors.at(literal, reason);
                None
            }
        }
    }

    /// One of some words, written without quotes; its position among them.
    pub(crate) fn word(&self, name: &str, words: &[&str], errors: &mut Errors) -> Option<usize> {
        let written = self.get(name)?;
        let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        let list = quoted.join(", ");
        let Some(Expr::Path(ExprPath {
            qself: None, path, ..
        })) = &written.value
        else {
            self.wrong_value(written, &format!("one of the words {list}"), errors);
            return None;
        };
        let found = text::of(path);
        let position = words.iter().position(|word| *word == found);
        if position.is_none() {
            let meant = names::nearest(&found, words.iter().copied())
                .map(|meant| format!("; did you mean `{meant}`?"))
                .unwrap_or_default();
            errors.at(
                path,
                format!("`{name}` cannot be `{found}`{meant}\nit is one of {list}"),
            );
        }
        position
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

    /// A type.
    pub(crate) fn ty(&self, name: &str, errors: &mut Errors) -> Option<Type> {
        let written = self.get(name)?;
        let ty = written
            .value
            .as_ref()
            .map(|value| syn::parse2(value.to_token_stream()));
        if let Some(Ok(ty)) = ty {
            return Some(ty);
        }
        self.wrong_value(written, "a type, without quotes", errors);
        None
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

/// A name is part of every message.
const WIRE_NAME_BYTES_MAX: usize = 255;

/// As `SystemBuilder::role` takes it.
const ROLE_BYTES_MAX: usize = 255;

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
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or_else(|| "this duration is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_in_days_where_that_is_usual() {
        let days = |text| Options::days_or_duration(text);
        assert_eq!(days("90d"), Some(Duration::from_hours(90 * 24)));
        assert_eq!(days("2h"), Some(Duration::from_hours(2)));
        for wrong in ["d", "+1d", "1.5d", "9999999999999999999d", "a while"] {
            assert_eq!(days(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1m"), Ok(Duration::from_mins(1)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_hours(1)));
        for wrong in [
            "",
            "2",
            "s",
            "1.5s",
            "-1s",
            "2 s",
            "2d",
            "99999999999999999h",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}

//! The options in an attribute's parentheses: `shards = 10, name = "counter", internal`.

mod values;

use std::fmt::Write;

use proc_macro2::{Ident, Span, TokenStream};
use syn::{
    Attribute, Expr, Meta, Path, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    spanned::Spanned,
    token,
};

use crate::{errors::Errors, names};

/// An option that an attribute takes.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// How it is written.
    pub(crate) example: &'static str,
    follows: Follows,
}

/// What is written after the name of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// `= value`, or nothing.
    Value,
    /// Names in parentheses.
    Names,
    /// Anything in parentheses.
    Tokens,
}

/// The options that an attribute takes, and those that it refuses with a reason of their own.
pub(crate) struct Grammar {
    /// As the user writes it: `#[entity]`.
    pub(crate) attribute: &'static str,
    pub(crate) known: &'static [Known],
    /// Options of other attributes or of later versions, each with the error for it.
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
    /// The names in its parentheses.
    list: Vec<Ident>,
    /// What else stands in them.
    tokens: TokenStream,
}

impl Known {
    pub(crate) const fn new(name: &'static str, example: &'static str) -> Self {
        Self {
            name,
            example,
            follows: Follows::Value,
        }
    }

    /// An option with names in parentheses.
    pub(crate) const fn list(name: &'static str, example: &'static str) -> Self {
        Self {
            name,
            example,
            follows: Follows::Names,
        }
    }

    /// An option with something else in parentheses.
    pub(crate) const fn tokens(name: &'static str, example: &'static str) -> Self {
        Self {
            name,
            example,
            follows: Follows::Tokens,
        }
    }
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

    /// What stands in the parentheses of a helper attribute.
    pub(crate) fn of(
        grammar: &'static Grammar,
        attribute: &Attribute,
        errors: &mut Errors,
    ) -> Self {
        let tokens = match &attribute.meta {
            Meta::Path(_) => TokenStream::new(),
            Meta::List(list) => list.tokens.clone(),
            Meta::NameValue(_) => {
                errors.at(
                    attribute,
                    "options stand in parentheses: write `#[message(name = \"..\")]`",
                );
                TokenStream::new()
            }
        };
        Self::parse(grammar, tokens, errors)
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
        let known = self.grammar.known(&key.to_string());
        let example = known.map_or("option = value", |known| known.example);
        let mut written = Written {
            key,
            value: None,
            list: Vec::new(),
            tokens: TokenStream::new(),
        };
        match known.map_or(Follows::Value, |known| known.follows) {
            Follows::Names => {
                written.list = names(input, example)?;
                return Ok(written);
            }
            Follows::Tokens => {
                written.tokens = parenthesized(input, example)?;
                return Ok(written);
            }
            Follows::Value => {}
        }
        if input.peek(token::Paren) {
            // What stands in them is not what is wrong with an option that is none.
            if known.is_none() {
                parenthesized(input, example)?;
                return Ok(written);
            }
            return Err(input.error(format!("an option has no parentheses: write `{example}`")));
        }
        if input.parse::<Option<Token![=]>>()?.is_some() {
            written.value = Some(input.parse::<Expr>()?);
        }
        Ok(written)
    }

    fn add(&mut self, written: Written, errors: &mut Errors) {
        let name = written.key.to_string();
        let attribute = self.grammar.attribute;
        if self.get(&name).is_some() {
            errors.at(
                &written.key,
                format!("`{name}` is given twice in one `{attribute}`: keep one of them"),
            );
        } else if self.grammar.known(&name).is_some() {
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

    /// Where its value is written.
    pub(crate) fn value_span(&self, name: &str) -> Option<Span> {
        self.value(name).map(Spanned::span)
    }

    /// The names in the parentheses of an option; none if it is not written.
    pub(crate) fn list(&self, name: &str) -> &[Ident] {
        self.get(name).map_or(&[], |written| &written.list)
    }

    /// What stands in the parentheses of an option.
    pub(crate) fn tokens(&self, name: &str) -> Option<&TokenStream> {
        self.get(name).map(|written| &written.tokens)
    }

    /// The value of an option, if it has one.
    pub(crate) fn value(&self, name: &str) -> Option<&Expr> {
        self.get(name)?.value.as_ref()
    }
}

/// `(B: Backend)`: anything.
fn parenthesized(input: ParseStream<'_>, example: &str) -> syn::Result<TokenStream> {
    if !input.peek(token::Paren) {
        return Err(input.error(format!("this option has parentheses: write `{example}`")));
    }
    let within;
    syn::parenthesized!(within in input);
    within.parse()
}

/// `(Draft, InReview)`: at least one name.
fn names(input: ParseStream<'_>, example: &str) -> syn::Result<Vec<Ident>> {
    if !input.peek(token::Paren) {
        return Err(input.error(format!("the names stand in parentheses: write `{example}`")));
    }
    let within;
    let place = syn::parenthesized!(within in input).span.join();
    let names = within
        .parse_terminated(Ident::parse_any, Token![,])
        .map_err(|error| {
            syn::Error::new(error.span(), format!("expected a name, as in `{example}`"))
        })?;
    if names.is_empty() {
        return Err(syn::Error::new(
            place,
            format!("nothing is named here: write for example `{example}`"),
        ));
    }
    Ok(names.into_iter().collect())
}

impl Grammar {
    fn known(&self, name: &str) -> Option<&'static Known> {
        self.known.iter().find(|known| known.name == name)
    }

    fn example(&self, name: &str) -> Option<&'static str> {
        self.known(name).map(|known| known.example)
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

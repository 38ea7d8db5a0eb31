//! Collects every independent error, so that one build shows them all.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// The errors met so far.
///
/// [`collect`] lends it to its closure and emits the errors afterwards, so that no error is lost.
pub(crate) struct Errors {
    met: Vec<syn::Error>,
}

/// The tokens that the closure of [`collect`] returned, and the errors it met. The only method
/// emits both.
#[must_use]
pub(crate) struct Collected {
    tokens: TokenStream,
    met: Vec<syn::Error>,
}

/// Runs `work`, which may report errors and go on.
pub(crate) fn collect(work: impl FnOnce(&mut Errors) -> TokenStream) -> Collected {
    let mut errors = Errors { met: Vec::new() };
    let tokens = work(&mut errors);
    Collected {
        tokens,
        met: errors.met,
    }
}

impl Errors {
    /// Reports an error that covers `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.met.push(syn::Error::new_spanned(tokens, message));
    }

    /// Reports an error at one place.
    pub(crate) fn at_span(&mut self, span: Span, message: impl Display) {
        self.met.push(syn::Error::new(span, message));
    }

    /// Reports what syn could not parse.
    pub(crate) fn syntax(&mut self, error: syn::Error) {
        self.met.push(error);
    }

    /// The number of errors so far. A step failed if the number is higher after it.
    pub(crate) fn count(&self) -> usize {
        self.met.len()
    }
}

impl Collected {
    /// The generated items, then all errors.
    pub(crate) fn into_tokens(self) -> TokenStream {
        let combined = self.met.into_iter().reduce(|mut all, next| {
            all.combine(next);
            all
        });
        let mut tokens = self.tokens;
        tokens.extend(combined.map(|error| error.to_compile_error()));
        tokens
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn every_error_is_emitted_after_the_items() {
        let collected = collect(|errors| {
            errors.at_span(Span::call_site(), "first");
            errors.at(quote!(token), "second");
            quote!(
                struct Kept;
            )
        });
        let text = collected.into_tokens().to_string();
        assert!(text.starts_with("struct Kept ;"), "{text}");
        assert!(
            text.contains("\"first\"") && text.contains("\"second\""),
            "{text}"
        );
    }

    #[test]
    fn without_errors_only_the_items_are_emitted() {
        let collected = collect(|_| {
            quote!(
                struct Kept;
            )
        });
        assert_eq!(collected.into_tokens().to_string(), "struct Kept ;");
    }
}

//! Names that the macros make, and where errors about them point.

use proc_macro2::{Group, Ident, Literal, Span, TokenStream, TokenTree};
use quote::format_ident;
use syn::ext::IdentExt;

/// A span that points at the user's token but resolves names as the macro does.
///
/// `self` and locals are hygienic: in a handler that came out of a `macro_rules!`, tokens with the
/// user's own span would not see those of the generated function.
pub(crate) fn at(user: Span) -> Span {
    Span::call_site().located_at(user)
}

/// The variant for a message function: `add_item` becomes `AddItem`, `r#type` becomes `Type`.
pub(crate) fn variant(function: &Ident) -> Ident {
    let mut name = upper_camel_case(&function.unraw().to_string());
    // `Self` cannot be a variant, not even as a raw identifier; digits cannot start one.
    if name == "Self" {
        name.push('_');
    } else if !name.starts_with(|first: char| first.is_alphabetic()) {
        name.insert(0, 'M');
    }
    Ident::new(&name, function.span())
}

fn upper_camel_case(snake_case: &str) -> String {
    let mut name = String::with_capacity(snake_case.len());
    for word in snake_case.split('_') {
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.extend(letters);
    }
    name
}

/// The type that a module of states makes: `shopping_cart` makes `ShoppingCart`. None if that is
/// the module's own name, or no name at all.
pub(crate) fn machine(module: &Ident) -> Option<Ident> {
    let plain = module.unraw().to_string();
    let name = upper_camel_case(&plain);
    let is_name = name != plain && name.starts_with(|first: char| first.is_alphabetic());
    (is_name && name != "Self").then(|| Ident::new(&name, module.span()))
}

/// The enum of messages.
pub(crate) fn message_enum(actor: &Ident) -> Ident {
    format_ident!("{}Msg", actor.unraw(), span = actor.span())
}

/// The enum of events.
pub(crate) fn event_enum(actor: &Ident) -> Ident {
    format_ident!("{}Event", actor.unraw(), span = actor.span())
}

/// The typed proxy.
pub(crate) fn proxy(actor: &Ident) -> Ident {
    format_ident!("{}Ref", actor.unraw(), span = actor.span())
}

/// A name as a number, where the compiler takes no texts: FNV-1a, of 64 bits. Two names of one type
/// with the same number would be an error of the compiler.
pub(crate) fn number(name: &Ident) -> Literal {
    let mut number = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.unraw().to_string().bytes() {
        number = (number ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    Literal::u64_suffixed(number)
}

/// The same tokens, all at one place.
///
/// The compiler reports some errors once for each part of an expression; at one place they are one
/// error.
pub(crate) fn all_at(span: Span, tokens: TokenStream) -> TokenStream {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => {
                let mut moved = Group::new(group.delimiter(), all_at(span, group.stream()));
                moved.set_span(span);
                TokenTree::Group(moved)
            }
            // The place of `$crate` says which crate it is.
            TokenTree::Ident(ident) if ident == "$crate" => TokenTree::Ident(ident),
            mut token => {
                token.set_span(span);
                token
            }
        })
        .collect()
}

/// Whether the tokens name it.
pub(crate) fn occurs(name: impl AsRef<str>, tokens: TokenStream) -> bool {
    let name = name.as_ref();
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => occurs(name, group.stream()),
        _ => false,
    })
}

/// The generated name of a handler's argument.
pub(crate) fn argument(index: usize) -> Ident {
    format_ident!("__arg{index}")
}

/// A question that names what the user probably meant, if one of the names is near.
pub(crate) fn did_you_mean(
    written: &str,
    known: impl IntoIterator<Item = impl ToString>,
) -> Option<String> {
    let known: Vec<_> = known.into_iter().map(|name| name.to_string()).collect();
    let meant = nearest(written, known.iter().map(String::as_str))?;
    Some(format!("did you mean `{meant}`?"))
}

/// The candidate that the user probably meant, if one is near.
pub(crate) fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const NEAR: f64 = 0.8;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(written, candidate), candidate))
        .filter(|(likeness, _)| *likeness > NEAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant_of(function: &str) -> String {
        let ident = syn::parse_str::<Ident>(function).expect("an identifier");
        variant(&ident).to_string()
    }

    #[test]
    fn variants_are_pascal_case() {
        assert_eq!(variant_of("increment"), "Increment");
        assert_eq!(variant_of("add_item"), "AddItem");
        assert_eq!(variant_of("_hidden__name_"), "HiddenName");
        assert_eq!(variant_of("already_Pascal"), "AlreadyPascal");
        assert_eq!(variant_of("über_uns"), "ÜberUns");
    }

    #[test]
    fn variants_are_never_keywords_or_numbers() {
        assert_eq!(variant_of("r#type"), "Type");
        assert_eq!(variant_of("self_"), "Self_");
        assert_eq!(variant_of("_1"), "M1");
        assert_eq!(variant_of("__"), "M");
    }

    #[test]
    fn modules_make_types() {
        let machine_of = |module: &str| {
            let ident = syn::parse_str::<Ident>(module).expect("an identifier");
            machine(&ident).map(|made| made.to_string())
        };
        assert_eq!(machine_of("cart").as_deref(), Some("Cart"));
        assert_eq!(machine_of("shopping_cart").as_deref(), Some("ShoppingCart"));
        assert_eq!(machine_of("r#type").as_deref(), Some("Type"));
        assert_eq!(machine_of("Cart"), None);
        assert_eq!(machine_of("__"), None);
        assert_eq!(machine_of("_1"), None);
        assert_eq!(machine_of("self_"), None);
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["shards", "name", "mailbox"];
        assert_eq!(nearest("shard", known), Some("shards"));
        assert_eq!(nearest("mail_box", known), Some("mailbox"));
        assert_eq!(nearest("persistence", known), None);
    }
}

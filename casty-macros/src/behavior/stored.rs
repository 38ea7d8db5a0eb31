//! How the state of an entity is stored: `event_sourced`, `durable`, and the options of these.

use std::time::Duration;

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote;

use crate::{errors::Errors, options::Options};

/// How the state is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// As it is, after each handler that has changed it.
    State,
    /// As the events that made it.
    Events,
}

/// The options of a stored type.
pub(super) struct Stored {
    pub(super) how: How,
    snapshot_every: Option<u32>,
    retain: Option<Retain>,
    copies: Copies,
}

/// How many nodes keep what is stored. What is not written is a setting of each node.
#[derive(Clone, Copy)]
struct Copies {
    all: Option<u32>,
    min: Option<u32>,
}

/// The most copies that casty keeps.
const COPIES_MAX: u32 = 7;

/// What is kept of records that a snapshot contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retain {
    All,
    Snapshot,
    For(Duration),
}

/// Reads the options. `resumes`: after a failure the entity is to go on with the state it had.
pub(super) fn parse(options: &Options, resumes: bool, errors: &mut Errors) -> Option<Stored> {
    let is_sourced = options.flag("event_sourced", errors);
    let is_durable = options.flag("durable", errors);
    let snapshot_every = options.number("snapshot_every", 1..=u32::MAX, errors);
    let retain = retain(options, errors);
    let copies = copies(options, errors);
    let how = match (is_sourced, is_durable) {
        (false, false) => {
            needs_a_store(options, errors);
            return None;
        }
        (true, true) => {
            errors.at_span(
                options.span("durable")?,
                "a state is stored as the events that made it, or as it is: \
                 keep one of `event_sourced` and `durable`",
            );
            How::Events
        }
        (true, false) => How::Events,
        (false, true) => How::State,
    };
    if let Some(span) = options.span("migrate") {
        errors.at_span(
            span,
            "what is stored moves anyway: the new owner of the shard reads it from the store. Leave `migrate` out",
        );
    }
    if resumes {
        errors.at(
            options.value("on_failure"),
            "what a failed handler has changed is not stored, so the entity goes on with what is: \
             write `restart`, which reads it from the store, or `stop`",
        );
    }
    Some(Stored {
        how,
        snapshot_every,
        retain,
        copies,
    })
}

fn copies(options: &Options, errors: &mut Errors) -> Copies {
    let copies = Copies {
        all: options.number("copies", 1..=COPIES_MAX, errors),
        min: options.number("copies_min", 1..=COPIES_MAX, errors),
    };
    if let (Some(all), Some(min)) = (copies.all, copies.min)
        && min > all
    {
        errors.at(
            options.value("copies_min"),
            format!(
                "{min} nodes are to have stored what gets out, and {all} keep it: \
                 write a `copies_min` of at most {all}, or more `copies`"
            ),
        );
    }
    copies
}

/// Reports options that only a stored type has.
fn needs_a_store(options: &Options, errors: &mut Errors) {
    for option in ["snapshot_every", "retain", "copies", "copies_min"] {
        if let Some(span) = options.span(option) {
            errors.at_span(
                span,
                format!(
                    "`{option}` says something of what is stored, and this type is not: \
                     write `event_sourced` or `durable` as well, or leave it out"
                ),
            );
        }
    }
}

/// `"all"`, `"snapshot"`, or a time.
fn retain(options: &Options, errors: &mut Errors) -> Option<Retain> {
    const HOW: &str = "`retain` says what is kept of the records that a snapshot contains: \
        write `\"all\"`, `\"snapshot\"` for the snapshot alone, or a time, such as `\"90d\"` or `\"12h\"`";
    let literal = options.string_of("retain", "a string", errors)?;
    match literal.value().as_str() {
        "all" => Some(Retain::All),
        "snapshot" => Some(Retain::Snapshot),
        time => match Options::days_or_duration(time) {
            Some(time) if !time.is_zero() => Some(Retain::For(time)),
            Some(_) => {
                errors.at(
                    literal,
                    "no record would be kept: write `\"snapshot\"`, or how long records are kept",
                );
                None
            }
            None => {
                errors.at(literal, HOW);
                None
            }
        },
    }
}

impl Stored {
    /// The constants of `impl Actor`.
    pub(super) fn constants(&self, private: &TokenStream) -> TokenStream {
        let how = match self.how {
            How::State => quote!(State),
            How::Events => quote!(Events),
        };
        let snapshot_every = self.snapshot_every.map(|every| {
            let every = Literal::u32_unsuffixed(every);
            quote!(const SNAPSHOT_EVERY: ::core::primitive::u64 = #every;)
        });
        let retain = self.retain.map(|retain| {
            let retain = match retain {
                Retain::All => quote!(All),
                Retain::Snapshot => quote!(Snapshot),
                Retain::For(time) => {
                    let secs = Literal::u64_unsuffixed(time.as_secs());
                    let nanos = Literal::u32_unsuffixed(time.subsec_nanos());
                    quote!(For(::core::time::Duration::new(#secs, #nanos)))
                }
            };
            quote!(const RETAIN: #private::Retain = #private::Retain::#retain;)
        });
        let copies = [("COPIES", self.copies.all), ("COPIES_MIN", self.copies.min)];
        let copies = copies.into_iter().filter_map(|(name, number)| {
            let (name, number) = (Ident::new(name, Span::call_site()), number?);
            let number = Literal::u32_unsuffixed(number);
            Some(quote! {
                const #name: ::core::option::Option<::core::primitive::u8> =
                    ::core::option::Option::Some(#number);
            })
        });
        quote! {
            const STORAGE: #private::Storage = #private::Storage::#how;
            #snapshot_every
            #retain
            #(#copies)*
        }
    }
}

//! The options of `#[entity]` and `#[actor]`.

use std::time::Duration;

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Generics, Path, Token, Type, parse::Parser, punctuated::Punctuated};

use super::{
    kind::Kind,
    stored::{self, How, Stored},
};
use crate::{
    errors::Errors,
    options::{Grammar, Known, Options},
};

static ENTITY: Grammar = Grammar {
    attribute: "#[entity]",
    known: &[
        Known::new("shards", "shards = 100"),
        Known::new("name", "name = \"counter\""),
        MAILBOX,
        OVERFLOW,
        STASH,
        Known::new("on_failure", "on_failure = restart"),
        MAX_RESTARTS,
        WITHIN,
        BACKOFF,
        BACKOFF_MAX,
        CHILDREN,
        Known::new("passivate_after", "passivate_after = \"10m\""),
        Known::new("max_active", "max_active = 10000"),
        Known::new("migrate", "migrate"),
        Known::new("record", "record = 256"),
        Known::new("role", "role = \"storage\""),
        Known::new("id", "id = AccountId"),
        Known::tokens("protocols", "protocols(Pausable)"),
        Known::new("event_sourced", "event_sourced"),
        Known::new("durable", "durable"),
        Known::new("snapshot_every", "snapshot_every = 100"),
        Known::new("retain", "retain = \"snapshot\""),
        Known::new("copies", "copies = 5"),
        Known::new("copies_min", "copies_min = 3"),
        GENERIC,
        CRATE,
    ],
    refused: &[],
};

static ACTOR: Grammar = Grammar {
    attribute: "#[actor]",
    known: &[
        Known::new("name", "name = \"greeter\""),
        MAILBOX,
        OVERFLOW,
        STASH,
        Known::new("on_failure", "on_failure = escalate"),
        MAX_RESTARTS,
        WITHIN,
        BACKOFF,
        BACKOFF_MAX,
        CHILDREN,
        GENERIC,
        CRATE,
    ],
    refused: &[
        (
            "shards",
            "`shards` is an option of `#[entity]`: an actor lives on the node that spawned it. \
             Leave it out, or write `#[entity(shards = ..)]`",
        ),
        ("passivate_after", NOT_PUT_TO_SLEEP),
        ("max_active", NOT_PUT_TO_SLEEP),
        (
            "record",
            "`record` is an option of `#[entity]`: the flight recorder finds what it has recorded by the id of an \
             entity. Leave it out",
        ),
        (
            "migrate",
            "`migrate` is an option of `#[entity]`: an actor lives and ends on the node that spawned it. Leave it out",
        ),
        ("event_sourced", NOT_STORED),
        ("durable", NOT_STORED),
        ("snapshot_every", NOT_STORED),
        ("retain", NOT_STORED),
        ("copies", NOT_STORED),
        ("copies_min", NOT_STORED),
        (
            "protocols",
            "`protocols` is an option of `#[entity]`: a reference of a protocol names an entity by its type and id. \
             Leave it out",
        ),
        (
            "id",
            "`id` is an option of `#[entity]`: an actor has no id but the number that casty gives it. Leave it out",
        ),
        (
            "role",
            "`role` is an option of `#[entity]`: an actor lives on the node that spawned it, whatever its roles. \
             Leave it out",
        ),
    ],
};

const MAILBOX: Known = Known::new("mailbox", "mailbox = 1024");
const OVERFLOW: Known = Known::new("overflow", "overflow = wait");
const STASH: Known = Known::new("stash", "stash = 1024");
const MAX_RESTARTS: Known = Known::new("max_restarts", "max_restarts = 10");
const WITHIN: Known = Known::new("within", "within = \"60s\"");
const BACKOFF: Known = Known::new("backoff", "backoff = \"100ms\"");
const BACKOFF_MAX: Known = Known::new("backoff_max", "backoff_max = \"10s\"");
const CHILDREN: Known = Known::new("children", "children = one_for_one");
const GENERIC: Known = Known::tokens("generic", "generic(B: Backend)");
const CRATE: Known = Known::new("crate", "crate = path::to::casty");

const NOT_PUT_TO_SLEEP: &str = "this is an option of `#[entity]`: an entity that was put to sleep comes back with its \
    next message, an actor would be gone. Leave it out; an actor ends itself with `ctx.stop()`";

const NOT_STORED: &str = "this is an option of `#[entity]`: an entity is found by its id after its node has ended, \
    an actor is not. Leave it out, or keep what has to last in an entity";

const SHARDS_DEFAULT: u32 = 100;

/// How many messages of an entity are recorded at most.
const RECORD_MAX: u32 = 65_536;

/// The defaults of casty, to compare the other option with if only one of the two is written.
const BACKOFF_DEFAULT: Duration = Duration::from_millis(100);
const BACKOFF_MAX_DEFAULT: Duration = Duration::from_secs(10);

/// A word of an option, and the variant that it means.
type Word = (&'static str, &'static str);

const OVERFLOWS: &[Word] = &[
    ("wait", "Wait"),
    ("reject", "Reject"),
    ("drop_newest", "DropNewest"),
    ("drop_oldest", "DropOldest"),
];
const FAILURES: &[Word] = &[
    ("restart", "Restart"),
    ("resume", "Resume"),
    ("stop", "Stop"),
    ("escalate", "Escalate"),
];
const STRATEGIES: &[Word] = &[("one_for_one", "OneForOne"), ("all_for_one", "AllForOne")];

/// The values of the options.
pub(super) struct Settings {
    pub(super) name: Option<String>,
    pub(super) shards: u32,
    /// Whether its state moves with its shard.
    pub(super) migrates: bool,
    /// Whether its messages are recorded.
    pub(super) records: bool,
    /// Whether and how its state is stored.
    pub(super) stored: Option<Stored>,
    /// The role of the nodes that host the type.
    pub(super) role: Option<String>,
    /// The type of the entity's ids.
    pub(super) id: Option<Type>,
    /// The parameters of a generic state machine, and where they are written.
    pub(super) generic: Option<(Generics, Span)>,
    /// The protocols that the entity speaks.
    pub(super) protocols: Vec<Path>,
    /// The path to casty.
    pub(super) casty: Path,
    /// The fields of the policy that are written, in their order.
    policy: Vec<(&'static str, Value)>,
    /// The position of `stash`.
    stash: Option<Span>,
}

enum Value {
    Number(u32),
    Time(Duration),
    /// A variant of an enum.
    Word(&'static str, &'static str),
    Some(Box<Self>),
}

impl Settings {
    pub(super) fn parse(kind: Kind, tokens: TokenStream, errors: &mut Errors) -> Self {
        let grammar = match kind {
            Kind::Entity => &ENTITY,
            Kind::Actor => &ACTOR,
        };
        let options = Options::parse(grammar, tokens, errors);
        let mut settings = Self {
            stored: None,
            name: options.wire_name("name", errors),
            shards: options
                .number("shards", 1..=u32::from(u16::MAX), errors)
                .unwrap_or(SHARDS_DEFAULT),
            migrates: options.flag("migrate", errors),
            records: options.span("record").is_some(),
            role: options.role("role", errors),
            id: options.ty("id", errors),
            generic: generic(&options, errors),
            protocols: protocols(&options, errors),
            casty: options.casty(errors),
            policy: policy(kind, &options, errors),
            stash: options.span("stash"),
        };
        settings.stored = stored::parse(&options, settings.resumes(), errors);
        settings
    }

    /// Whether a failed actor goes on with the state that it had.
    fn resumes(&self) -> bool {
        let mut policy = self.policy.iter();
        policy.any(|(_, value)| matches!(value, Value::Word("OnFailure", "Resume")))
    }

    /// Whether the state has to have a wire form.
    pub(super) fn is_frozen(&self) -> bool {
        self.migrates || self.records || self.stored.is_some()
    }

    /// How the state is stored, if it is.
    pub(super) fn how(&self) -> Option<How> {
        self.stored.as_ref().map(|stored| stored.how)
    }

    /// Whether the state changes by events alone.
    pub(super) fn is_event_sourced(&self) -> bool {
        self.how() == Some(How::Events)
    }

    /// Reports options that have no meaning for an actor with one state.
    pub(super) fn one_state(&self, errors: &mut Errors) {
        if let Some((_, span)) = &self.generic {
            errors.at_span(
                *span,
                "an impl block says itself what it is generic over, `impl<B: Backend> Breaker<B>`: \
                 leave `generic` out",
            );
        }
        if let Some(span) = self.stash {
            errors.at_span(
                span,
                "only a state machine stashes messages, for its next state: leave `stash` out. \
                 How many messages wait in all is for `mailbox` to say",
            );
        }
    }

    /// Reports `stash` on a machine that never stashes.
    pub(super) fn no_state_stashes(&self, errors: &mut Errors) {
        if let Some(span) = self.stash {
            errors.at_span(
                span,
                "no state stashes messages: write `#[behavior(otherwise = stash)]` above the block of one that should, \
                 or leave `stash` out",
            );
        }
    }

    /// `Policy { .. }`.
    pub(super) fn policy(&self, private: &TokenStream) -> TokenStream {
        if self.policy.is_empty() {
            return quote!(#private::Policy::DEFAULT);
        }
        let fields = self.policy.iter().map(|(field, value)| {
            let field = Ident::new(field, Span::call_site());
            let value = value.tokens(private);
            quote!(#field: #value,)
        });
        quote!(#private::Policy { #(#fields)* ..#private::Policy::DEFAULT })
    }
}

fn policy(kind: Kind, options: &Options, errors: &mut Errors) -> Vec<(&'static str, Value)> {
    let mut policy = Vec::new();
    let mut add = |field, value: Option<Value>| policy.extend(value.map(|value| (field, value)));
    let word = |name, words, variants_of, errors: &mut Errors| {
        word(options, name, words, errors).map(|variant| Value::Word(variants_of, variant))
    };
    let number = |name, least, errors: &mut Errors| {
        options
            .number(name, least..=u32::MAX, errors)
            .map(Value::Number)
    };

    add("mailbox", number("mailbox", 1, errors));
    add("overflow", word("overflow", OVERFLOWS, "Overflow", errors));
    add("stash", number("stash", 1, errors));
    let on_failure = word("on_failure", FAILURES, "OnFailure", errors);
    if let (Kind::Entity, Some(Value::Word(_, "Escalate"))) = (kind, &on_failure) {
        errors.at(
            options.value("on_failure"),
            "an entity has no parent that its failure could be handed to: write `restart`, `resume` or `stop`",
        );
    }
    add("on_failure", on_failure);
    add("max_restarts", number("max_restarts", 0, errors));
    let within = options.duration(
        "within",
        Some(
            "no two failures are within no time of each other: write how far back failures count, \
             or `max_restarts = 0` for no restart at all",
        ),
        errors,
    );
    add("within", within.map(Value::Time));
    let (backoff, backoff_max) = backoff(options, errors);
    add("backoff", backoff.map(Value::Time));
    add("backoff_max", backoff_max.map(Value::Time));
    add("children", word("children", STRATEGIES, "Children", errors));
    let passivate_after = options.duration(
        "passivate_after",
        Some(
            "an entity would be put to sleep as soon as it is idle: write how long it may be idle, \
             or leave `passivate_after` out to keep it awake",
        ),
        errors,
    );
    let some = |value| Value::Some(Box::new(value));
    add(
        "passivate_after",
        passivate_after.map(Value::Time).map(some),
    );
    add("max_active", number("max_active", 1, errors).map(some));
    let record = options.number("record", 1..=RECORD_MAX, errors);
    add("record", record.map(Value::Number));
    policy
}

/// `protocols(Pausable, other::Named)`.
fn protocols(options: &Options, errors: &mut Errors) -> Vec<Path> {
    let Some(tokens) = options.tokens("protocols") else {
        return Vec::new();
    };
    match Punctuated::<Path, Token![,]>::parse_terminated.parse2(tokens.clone()) {
        Ok(paths) => paths.into_iter().collect(),
        Err(error) => {
            errors.at_span(
                error.span(),
                "protocols are named by their traits: write `protocols(Pausable)`",
            );
            Vec::new()
        }
    }
}

/// `generic(B: Backend)`.
fn generic(options: &Options, errors: &mut Errors) -> Option<(Generics, Span)> {
    let (tokens, span) = (options.tokens("generic")?, options.span("generic")?);
    match syn::parse2::<Generics>(quote!(<#tokens>)) {
        Ok(generics) => {
            for lifetime in generics.lifetimes() {
                errors.at(
                    lifetime,
                    "an actor outlives the code that started it, so its states cannot borrow: \
                     drop this lifetime",
                );
            }
            (!generics.params.is_empty()).then_some((generics, span))
        }
        Err(error) => {
            errors.at_span(
                error.span(),
                "the parameters of the machine are written as after `impl`: `generic(B: Backend)`",
            );
            None
        }
    }
}

fn word(
    options: &Options,
    name: &str,
    words: &[Word],
    errors: &mut Errors,
) -> Option<&'static str> {
    let written: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let position = options.word(name, &written, errors)?;
    words.get(position).map(|(_, variant)| *variant)
}

/// The first pause and the longest pause, which must not be shorter.
fn backoff(options: &Options, errors: &mut Errors) -> (Option<Duration>, Option<Duration>) {
    let least = options.duration("backoff", None, errors);
    let most = options.duration("backoff_max", None, errors);
    let written = |name, value: Option<Duration>| match options.value(name) {
        // A value that is no duration has been reported.
        Some(_) => value,
        None if name == "backoff" => Some(BACKOFF_DEFAULT),
        None => Some(BACKOFF_MAX_DEFAULT),
    };
    if let (Some(first), Some(bound)) = (written("backoff", least), written("backoff_max", most))
        && first > bound
    {
        let place = options.value("backoff").or(options.value("backoff_max"));
        errors.at(
            place,
            format!(
                "the first pause, `backoff` ({first:?}), is longer than the longest, `backoff_max` ({bound:?}): \
                 lengthen `backoff_max` or shorten `backoff`"
            ),
        );
    }
    (least, most)
}

impl Value {
    fn tokens(&self, private: &TokenStream) -> TokenStream {
        match self {
            Self::Number(number) => Literal::u32_unsuffixed(*number).into_token_stream(),
            Self::Time(time) => {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                let millis = Literal::u64_unsuffixed(millis);
                quote!(::core::time::Duration::from_millis(#millis))
            }
            Self::Word(of, variant) => {
                let (of, variant) = (
                    Ident::new(of, Span::call_site()),
                    Ident::new(variant, Span::call_site()),
                );
                quote!(#private::#of::#variant)
            }
            Self::Some(value) => {
                let value = value.tokens(private);
                quote!(::core::option::Option::Some(#value))
            }
        }
    }
}

//! Snapshots of whole expansions. `ui-tests` checks what rustc makes of them.

use insta::assert_snapshot;
use proc_macro2::TokenStream;
use quote::quote;

use crate::behavior::{Kind, derive};

fn expanded(kind: Kind, options: TokenStream, item: TokenStream) -> String {
    let tokens = derive(kind, options, item);
    match syn::parse2(tokens.clone()) {
        Ok(file) => prettyplease::unparse(&file),
        Err(error) => format!("{error}\n{tokens}"),
    }
}

#[test]
fn a_counter() {
    assert_snapshot!(expanded(
        Kind::Entity,
        quote!(shards = 10),
        quote! {
            impl Counter {
                /// Adds `amount` and says so.
                #[message]
                fn increment(&mut self, amount: i64, ctx: &mut Context<Self>) {
                    self.value += amount;
                }

                /// The current value.
                #[message]
                async fn value(&self) -> i64 {
                    self.value
                }
            }
        },
    ));
}

#[test]
fn an_account_with_result_replies_and_an_internal_message() {
    assert_snapshot!(expanded(
        Kind::Entity,
        quote!(name = "bank/account", mailbox = 16),
        quote! {
            impl Account {
                #[init]
                async fn open(ctx: &mut Context<Self>) -> Result<Self, OpenError> {
                    Err(OpenError)
                }

                #[on_stop]
                fn closed(&mut self) {}

                #[message(timeout = "250ms")]
                pub(crate) fn withdraw(
                    &mut self,
                    amount: u64,
                    #[serde(default)] note: Option<String>,
                ) -> Result<u64, InsufficientFunds> {
                    Err(InsufficientFunds)
                }

                #[message(name = "save")]
                async fn flush(&mut self) -> io::Result<()> {
                    Ok(())
                }

                #[message(internal)]
                fn tick(&mut self, at: Instant) {}
            }
        },
    ));
}

#[test]
fn a_projection() {
    let tokens = crate::projection::derive(
        quote!(
            of = bank::Account,
            name = "balances",
            version = 2,
            ignore_others
        ),
        quote! {
            impl Balances {
                #[store]
                fn views(&self) -> &SqliteViews {
                    &self.views
                }

                #[on]
                async fn withdrawn(
                    &mut self,
                    of: &EntityId,
                    amount: u64,
                    _note: String,
                    tx: &mut SqliteTransaction<'_>,
                ) -> Result<(), sqlx::Error> {
                    Ok(())
                }

                #[on_erased]
                fn erased(&mut self, at: &Occurrence) {}
            }
        },
    );
    let file = syn::parse2(tokens).expect("a file");
    assert_snapshot!(prettyplease::unparse(&file));
}

#[test]
fn an_actor() {
    assert_snapshot!(expanded(
        Kind::Actor,
        quote!(crate = crate::framework),
        quote! {
            impl Greeter {
                #[message]
                fn greet(&self, name: String) -> String {
                    format!("hello, {name}")
                }
            }
        },
    ));
}

#[test]
fn a_cart_of_three_states() {
    assert_snapshot!(expanded(
        Kind::Entity,
        quote!(shards = 100, max_active = 1000),
        quote! {
            /// What a customer is about to buy.
            pub mod cart {
                use super::*;

                #[state(initial)]
                #[derive(Default)]
                pub struct Empty;

                #[state]
                pub struct Active {
                    items: Vec<Item>,
                }

                #[state]
                pub struct CheckedOut(Receipt);

                #[behavior(otherwise = reject)]
                impl Empty {
                    /// Puts an item into the cart.
                    #[message]
                    fn add_item(self, item: Item) -> Active {
                        Active { items: vec![item] }
                    }

                    #[message]
                    fn total(&self) -> u64 {
                        0
                    }
                }

                #[behavior]
                impl Active {
                    #[on_stop]
                    async fn started(&mut self) -> Result<(), String> {
                        Ok(())
                    }

                    #[message]
                    fn add_item(&mut self, item: Item) {
                        self.items.push(item);
                    }

                    #[message]
                    fn remove_item(
                        mut self,
                        name: String,
                        ctx: &mut Context<Cart>,
                    ) -> Result<OneOf<Self, Empty, Stop>, Stay<Self, NoSuchItem>> {
                        Err(Stay(self, NoSuchItem))
                    }

                    #[message]
                    async fn checkout(self) -> (CheckedOut, Receipt) {
                        (CheckedOut(receipt()), receipt())
                    }

                    #[message]
                    fn total(&self) -> u64 {
                        1
                    }
                }

                #[behavior(otherwise = ignore)]
                impl CheckedOut {
                    #[message]
                    fn total(&self) -> u64 {
                        0
                    }
                }
            }
        },
    ));
}

#[test]
fn a_door_that_keeps_messages() {
    assert_snapshot!(expanded(
        Kind::Actor,
        quote!(stash = 16),
        quote! {
            mod door {
                #[state]
                pub struct Open;

                #[state(initial)]
                pub struct Closed {
                    knocks: u32,
                }

                #[behavior(otherwise = stash)]
                impl Closed {
                    #[message(internal)]
                    fn unlocked(self) -> Open {
                        Open
                    }

                    #[message]
                    fn knock(&mut self) -> Later<u32> {
                        later()
                    }
                }

                #[behavior(otherwise = reject)]
                impl Open {
                    #[message]
                    fn close(self) -> Closed {
                        Closed { knocks: 0 }
                    }
                }
            }
        },
    ));
}

#[test]
fn a_generic_entity() {
    assert_snapshot!(expanded(
        Kind::Entity,
        quote!(),
        quote! {
            impl<T: Wire, U> Store<T, U>
            where
                U: Send + 'static,
            {
                #[message]
                fn put(&mut self, value: T) -> Option<T> {
                    self.value.replace(value)
                }
            }
        },
    ));
}

#[test]
fn after_an_error_the_block_and_the_valid_messages_are_still_there() {
    assert_snapshot!(expanded(
        Kind::Actor,
        quote!(shards = 10),
        quote! {
            impl Greeter {
                #[message]
                fn greet(&self, name: &str) -> String {
                    format!("hello, {name}")
                }

                #[message]
                fn count(&self) -> u64 {
                    self.count
                }
            }
        },
    ));
}

/// Without the items that every entity has, which the other snapshots show.
fn of_the_machine(options: TokenStream, item: TokenStream) -> String {
    let whole = expanded(Kind::Entity, options, item);
    let file = syn::parse_file(&whole).expect("an expansion without errors");
    let Some(syn::Item::Mod(module)) = file.items.first() else {
        panic!("no module in {whole}");
    };
    let (_, items) = module.content.as_ref().expect("a module with a body");
    let mut shown = Vec::new();
    for item in items {
        match item {
            syn::Item::Const(hidden) => {
                let syn::Expr::Block(block) = &*hidden.expr else {
                    continue;
                };
                shown.extend(
                    block
                        .block
                        .stmts
                        .iter()
                        .filter_map(|statement| match statement {
                            syn::Stmt::Item(syn::Item::Impl(item)) if is_of_a_machine(item) => {
                                Some(syn::Item::Impl(item.clone()))
                            }
                            syn::Stmt::Item(syn::Item::Macro(item))
                                if is_called_by_a_machine(item) =>
                            {
                                Some(syn::Item::Macro(item.clone()))
                            }
                            _ => None,
                        }),
                );
            }
            syn::Item::Impl(item) => shown.push(syn::Item::Impl(item.clone())),
            syn::Item::Struct(item) if item.ident == "Auction" => {
                shown.push(syn::Item::Struct(item.clone()));
            }
            _ => {}
        }
    }
    prettyplease::unparse(&syn::File {
        items: shown,
        ..file.clone()
    })
}

/// What is generated from states: dispatch, what happens on entry, conversions, first state, move.
fn is_of_a_machine(item: &syn::ItemImpl) -> bool {
    let of = item
        .trait_
        .as_ref()
        .and_then(|(path, _)| path.segments.last());
    let of = of.map(|last| last.ident.to_string());
    let this = crate::text::of(&item.self_ty);
    match of.as_deref() {
        None => this == "Auction",
        Some("Actor" | "Init" | "Entity" | "OrStay" | "StateName" | "Widen" | "From") => {
            !this.ends_with("Ref")
        }
        Some(_) => false,
    }
}

/// The same, of what the macros of casty's `private/items.rs` generate.
fn is_called_by_a_machine(item: &syn::ItemMacro) -> bool {
    let called = item.mac.path.segments.last();
    called.is_some_and(|last| {
        ["states", "state_name", "into_one_of"]
            .iter()
            .any(|it| last.ident == it)
    })
}

#[test]
fn an_auction_with_all_that_states_share() {
    assert_snapshot!(of_the_machine(
        quote!(migrate),
        quote! {
            #[states(Live = Open, Extended)]
            mod auction {
                #[state(common, survives)]
                pub struct Lot {
                    bids: Vec<u64>,
                }

                #[state(initial)]
                pub struct Draft;

                #[state]
                pub struct Open;

                #[state]
                pub struct Extended;

                type Live = OneOf<Open, Extended>;

                #[behavior(of(all), otherwise = reject)]
                impl _ {
                    #[message]
                    fn best(&self, lot: &Lot) -> u64 {
                        lot.best()
                    }
                }

                #[behavior(ignore(bid))]
                impl Draft {
                    #[message]
                    fn open(self, long: bool) -> Live {
                        if long { Extended.into() } else { Open.into() }
                    }
                }

                #[behavior(of(Live))]
                impl _ {
                    fn may_bid(&self, cents: &u64, lot: &Lot) -> Result<(), BidError> {
                        lot.check(*cents)
                    }

                    fn left(&self, lot: &Lot) -> Duration {
                        lot.left()
                    }

                    #[on_enter]
                    async fn entered(&mut self, ctx: &mut Context<Auction>) {
                        ctx.emit("live").await
                    }

                    #[on_exit]
                    fn ended(lot: &mut Lot) {
                        lot.close();
                    }

                    #[message(guard = may_bid)]
                    fn bid(self, cents: u64, lot: &mut Lot) -> (Extended, u64) {
                        lot.bid(cents);
                        (Extended, cents)
                    }

                    #[message(internal, after = Self::left)]
                    fn hammer(self) -> Stop {
                        Stop
                    }
                }
            }
        },
    ));
}

/// The hidden and visible items that only a stored type has, and its dispatch.
fn of_the_stored(options: TokenStream, item: TokenStream) -> String {
    fn is_stored(item: &syn::Item) -> bool {
        match item {
            syn::Item::Impl(item) => {
                let of = item.trait_.as_ref();
                let of = of.and_then(|(path, _)| path.segments.last());
                let of = of.map(|last| last.ident.to_string());
                let this = crate::text::of(&item.self_ty);
                match of.as_deref() {
                    Some("Actor" | "Entity" | "Events" | "EventOf" | "EventSourced") => true,
                    Some("MessageForm") => !this.ends_with("Msg"),
                    None => this == "__Old",
                    Some(_) => false,
                }
            }
            syn::Item::Enum(item) => {
                let name = item.ident.to_string();
                name.ends_with("Event") || name == "__Old"
            }
            _ => false,
        }
    }
    fn shown(items: Vec<syn::Item>) -> Vec<syn::Item> {
        let mut found = Vec::new();
        for item in items {
            match item {
                syn::Item::Const(hidden) => {
                    let syn::Expr::Block(block) = *hidden.expr else {
                        continue;
                    };
                    let statements = block.block.stmts.into_iter();
                    found.extend(shown(
                        statements
                            .filter_map(|statement| match statement {
                                syn::Stmt::Item(item) => Some(item),
                                _ => None,
                            })
                            .collect(),
                    ));
                }
                syn::Item::Mod(module) => {
                    let (_, items) = module.content.expect("a module with a body");
                    found.extend(shown(items));
                }
                item if is_stored(&item) => found.push(item),
                _ => {}
            }
        }
        found
    }
    let whole = expanded(Kind::Entity, options, item);
    let file = syn::parse_file(&whole).expect("an expansion without errors");
    prettyplease::unparse(&syn::File {
        shebang: None,
        frontmatter: None,
        attrs: Vec::new(),
        items: shown(file.items),
    })
}

#[test]
fn an_event_sourced_account() {
    assert_snapshot!(of_the_stored(
        quote!(event_sourced, snapshot_every = 100, retain = "90d"),
        quote! {
            impl Account {
                /// Takes `amount` out.
                #[message]
                fn withdraw(&self, amount: u64) -> Result<Effect<Self, u64>, InsufficientFunds> {
                    Ok(Effect::persist(AccountEvent::Withdrawn { amount }).reply(|account| account.balance))
                }

                #[message]
                async fn close(&self) -> Effect<Self> {
                    Effect::none()
                }

                #[message]
                fn balance(&self) -> u64 {
                    self.balance
                }

                /// It went out.
                #[event(version = 2)]
                fn withdrawn(&mut self, amount: u64, #[serde(default)] note: Option<String>) {
                    self.balance -= amount;
                }

                #[upcast(from = 1)]
                fn withdrawn_v1(cents: u64) -> AccountEvent {
                    AccountEvent::Withdrawn { amount: cents, note: None }
                }

                #[upcast(removed = "checked", from = 1)]
                fn checked() {}
            }
        },
    ));
}

#[test]
fn an_event_sourced_cart() {
    assert_snapshot!(of_the_stored(
        quote!(event_sourced),
        quote! {
            mod cart {
                #[state(common)]
                pub struct Customer {
                    visits: u32,
                }

                #[state(initial)]
                pub struct Empty;

                #[state]
                pub struct Active {
                    items: Vec<Item>,
                }

                #[behavior(otherwise = reject)]
                impl Empty {
                    #[message]
                    fn add_item(&self, item: Item) -> Effect<Cart> {
                        Effect::persist(CartEvent::ItemAdded { item })
                    }

                    #[event]
                    fn item_added(self, item: Item, customer: &mut Customer) -> Active {
                        Active { items: vec![item] }
                    }
                }

                #[behavior(otherwise = reject)]
                impl Active {
                    #[on_enter]
                    async fn entered(&self) {}

                    #[on_exit]
                    fn left(customer: &Customer) {}

                    #[message(internal, after = "30m")]
                    fn forgotten(&self) -> Effect<Cart> {
                        Effect::persist(CartEvent::Cleared {})
                    }

                    #[event]
                    fn item_added(&mut self, item: Item) {
                        self.items.push(item);
                    }

                    #[event]
                    fn cleared(self) -> OneOf<Self, Empty> {
                        Empty.into()
                    }
                }
            }
        },
    ));
}

#[test]
fn a_durable_counter() {
    assert_snapshot!(of_the_stored(
        quote!(durable, copies = 5),
        quote! {
            impl Counter {
                #[on_start]
                fn started(&mut self) {}

                #[message]
                fn increment(&mut self, amount: i64) {
                    self.value += amount;
                }

                #[message]
                fn value(&self) -> i64 {
                    self.value
                }
            }
        },
    ));
}

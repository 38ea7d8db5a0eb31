//! A state machine in a crate with strict lints: every way to leave a state and to stay in one.
#![deny(
    missing_docs,
    missing_debug_implementations,
    trivial_casts,
    trivial_numeric_casts,
    unreachable_pub,
    unused,
    unused_qualifications,
    unused_results,
    single_use_lifetimes,
    elided_lifetimes_in_paths,
    rust_2018_idioms,
    non_local_definitions,
    let_underscore_drop,
    clippy::all,
    clippy::pedantic
)]
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use casty::{
    prelude::*,
    reply::{Later, Promise},
};

/// What one may buy.
#[message]
#[derive(Debug, Clone)]
pub struct Item {
    /// In cents.
    pub price: u64,
}

/// What one has bought.
#[message]
#[derive(Debug, Clone)]
pub struct Receipt {
    /// In cents.
    pub total: u64,
}

/// What is about to be bought.
#[entity(shards = 100, name = "shop/cart", stash = 16, passivate_after = "10m")]
pub mod shopping_cart {
    use super::*;

    /// Nothing yet.
    #[state(initial)]
    #[derive(Debug, Default)]
    pub struct Empty;

    /// Something.
    #[state]
    #[derive(Debug)]
    pub struct Active {
        items: BTreeMap<String, Item>,
        told: Vec<Promise<Receipt>>,
    }

    /// All of it.
    #[state]
    #[derive(Debug)]
    pub enum CheckedOut {
        /// With a receipt.
        Paid(Receipt),
    }

    #[behavior(otherwise = reject)]
    impl Empty {
        /// Puts something in.
        #[message]
        fn add_item(self, name: String, item: Item, ctx: &mut Context<ShoppingCart>) -> Active {
            drop(ctx.entity_id());
            let _ = self;
            Active {
                items: BTreeMap::from([(name, item)]),
                told: Vec::new(),
            }
        }

        #[message]
        fn total(&self) -> u64 {
            0
        }

        #[message(internal)]
        fn expire(self) -> Stop {
            let Self = self;
            Stop
        }
    }

    #[behavior(otherwise = ignore)]
    impl Active {
        #[message]
        fn add_item(&mut self, name: String, item: Item) {
            let _ = self.items.insert(name, item);
        }

        #[message]
        fn total(&self) -> u64 {
            self.items.values().map(|item| item.price).sum()
        }

        /// Takes something out.
        #[message(timeout = "2s")]
        async fn remove_item(
            mut self,
            ctx: &mut Context<ShoppingCart>,
            name: String,
        ) -> Result<(OneOf<Self, Empty>, Item), Stay<Self, String>> {
            let _ = ctx.node_id();
            match self.items.remove(&name) {
                None => Err(Stay(self, name)),
                Some(item) if self.items.is_empty() => Ok((Empty.into(), item)),
                Some(item) => Ok((self.into(), item)),
            }
        }

        /// Handles nothing, and yet its return type is one that states convert into.
        fn emptied(self) -> OneOf<Empty, Self> {
            if self.items.is_empty() {
                Empty.into()
            } else {
                self.into()
            }
        }

        #[message]
        fn clean(mut self) -> OneOf<Empty, Active> {
            self.items.retain(|_, item| item.price > 0);
            self.emptied()
        }

        #[message]
        fn checkout(self) -> (CheckedOut, Receipt) {
            let receipt = Receipt {
                total: self.total(),
            };
            for promise in self.told {
                promise.reply(receipt.clone());
            }
            (CheckedOut::Paid(receipt.clone()), receipt)
        }

        #[message]
        fn tell_me(&mut self) -> Later<Receipt> {
            let (promise, later) = Promise::new();
            self.told.push(promise);
            later
        }

        #[message]
        fn abandon(self) -> Result<OneOf<Empty, Stop>, Stay<Self, String>> {
            match self.items.len() {
                0 => Ok(Empty.into()),
                1 => Ok(Stop.into()),
                _ => Err(Stay(self, "too much".to_owned())),
            }
        }

        #[message(internal)]
        fn expire(self) -> OneOf<Empty, CheckedOut, Stop> {
            if self.told.is_empty() {
                Stop.into()
            } else {
                CheckedOut::Paid(Receipt { total: 0 }).into()
            }
        }
    }

    #[behavior(otherwise = stash)]
    impl CheckedOut {
        #[on_restart]
        fn started(&self) {}

        #[message]
        fn total(&self) -> u64 {
            let Self::Paid(receipt) = self;
            receipt.total
        }

        /// The receipt, later.
        #[message]
        fn again(self) -> (Empty, Later<Result<Receipt, String>>) {
            let Self::Paid(receipt) = self;
            let (promise, later) = Promise::new();
            promise.reply(Ok(receipt));
            (Empty, later)
        }

        #[message]
        fn refresh(self) -> (Self, bool) {
            (self, true)
        }
    }
}

/// What a cart can be asked that may fail.
///
/// # Errors
/// Those of the cart.
pub async fn asks(cart: ShoppingCartRef) -> Result<u64, AskError<String>> {
    let Item { price } = cart.remove_item("tea".to_owned()).await?;
    cart.abandon().await?;
    let Receipt { total } = cart.again().await?;
    Ok(price + total)
}

/// And what else.
///
/// # Errors
/// Those of asks.
pub async fn others(cart: ShoppingCartRef) -> Result<u64, AskError> {
    cart.add_item("tea".to_owned(), Item { price: 1 }).await?;
    let Receipt { total } = cart.checkout().await?;
    let _: Receipt = cart.tell_me().await?;
    let _: bool = cart.refresh().await?;
    Ok(total + cart.total().await?)
}

/// Its table.
pub const TABLE: casty::behavior::Behavior = ShoppingCart::behavior();

#[test]
fn works() {
    assert_eq!(TABLE.name, "ShoppingCart");
    assert_eq!(TABLE.states.len(), 3);
    assert_eq!(
        format!("{:?}", ShoppingCart::from(shopping_cart::Empty)),
        "ShoppingCart(Empty)"
    );
    drop(ShoppingCartMsg::Expire {});
}

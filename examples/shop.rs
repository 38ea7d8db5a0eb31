//! A shopping cart: empty, active, checked out.

#![expect(unreachable_pub, reason = "written as a library would write it")]

use std::{collections::BTreeMap, error::Error, fmt};

use casty::prelude::*;

/// Something to buy.
#[message]
#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    pub cents: u64,
}

/// What was paid for.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub names: Vec<String>,
    pub cents: u64,
}

/// Why an item was not taken out.
#[message]
#[derive(Debug)]
pub struct NoSuchItem {
    pub name: String,
}

impl fmt::Display for NoSuchItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no {} in the cart", self.name)
    }
}

impl Error for NoSuchItem {}

/// What one customer is about to buy.
#[entity(shards = 100)]
pub mod cart {
    use super::*;

    /// A cart without items.
    #[state(initial)]
    #[derive(Default)]
    pub struct Empty;

    /// A cart with items.
    #[state]
    pub struct Active {
        items: BTreeMap<String, Item>,
    }

    /// A cart that is paid for.
    #[state]
    pub struct CheckedOut {
        receipt: Receipt,
    }

    #[behavior(otherwise = reject)]
    impl Empty {
        /// Puts an item into the cart. `self` by value leaves the state; the return type names the
        /// next one.
        #[message]
        fn add_item(self, item: Item, ctx: &mut Context<Cart>) -> Active {
            println!("  [{}] {} is the first item", ctx.entity_id(), item.name);
            Active {
                items: BTreeMap::from([(item.name.clone(), item)]),
            }
        }

        /// What all items cost, in cents.
        #[message]
        fn total(&self) -> u64 {
            0
        }
    }

    #[behavior(otherwise = reject)]
    impl Active {
        #[message]
        fn add_item(&mut self, item: Item, ctx: &mut Context<Cart>) {
            println!("  [{}] {} joins it", ctx.entity_id(), item.name);
            self.items.insert(item.name.clone(), item);
        }

        /// Takes an item out again, perhaps the last one. Without such an item, the cart does not
        /// change.
        #[message]
        fn remove_item(
            mut self,
            name: String,
        ) -> Result<(OneOf<Active, Empty>, Item), Stay<Self, NoSuchItem>> {
            match self.items.remove(&name) {
                None => Err(Stay(self, NoSuchItem { name })),
                Some(item) if self.items.is_empty() => Ok((Empty.into(), item)),
                Some(item) => Ok((self.into(), item)),
            }
        }

        /// Pays. The function returns the next state and the reply.
        #[message]
        fn checkout(self) -> (CheckedOut, Receipt) {
            let receipt = Receipt {
                cents: self.total(),
                names: self.items.into_keys().collect(),
            };
            let reply = receipt.clone();
            (CheckedOut { receipt }, reply)
        }

        #[message]
        fn total(&self) -> u64 {
            self.items.values().map(|item| item.cents).sum()
        }
    }

    #[behavior(otherwise = reject)]
    impl CheckedOut {
        #[message]
        fn total(&self) -> u64 {
            self.receipt.cents
        }

        /// Forgets the cart: the next message finds an empty one.
        #[message]
        fn forget(self) -> Stop {
            Stop
        }
    }
}

//! The cart of the design, as it is written there.

use std::collections::BTreeMap;

use casty::prelude::*;

#[message]
#[derive(Clone)]
pub struct Item {
    pub name: String,
    pub price: f64,
}

#[message]
#[derive(Clone)]
pub struct Receipt {
    pub total: f64,
}

#[entity(shards = 100)]
pub mod cart {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub struct Empty;

    #[state]
    pub struct Active {
        items: BTreeMap<String, Item>,
    }

    #[state]
    pub struct CheckedOut {
        receipt: Receipt,
    }

    #[behavior(otherwise = reject)]
    impl Empty {
        /// By-value `self` leaves this state; the return type says for which one.
        #[message]
        fn add_item(self, item: Item) -> Active {
            Active {
                items: BTreeMap::from([(item.name.clone(), item)]),
            }
        }

        #[message]
        fn total(&self) -> f64 {
            0.0
        }
    }

    #[behavior]
    impl Active {
        #[message]
        fn add_item(&mut self, item: Item) {
            self.items.insert(item.name.clone(), item);
        }

        /// Next state and reply.
        #[message]
        fn checkout(self) -> (CheckedOut, Receipt) {
            let receipt = Receipt {
                total: self.total(),
            };
            (
                CheckedOut {
                    receipt: receipt.clone(),
                },
                receipt,
            )
        }

        #[message]
        fn total(&self) -> f64 {
            self.items.values().map(|item| item.price).sum()
        }
    }

    #[behavior(otherwise = ignore)]
    impl CheckedOut {
        #[message]
        fn total(&self) -> f64 {
            self.receipt.total - self.receipt.total
        }
    }
}

pub async fn fill(node: ActorSystem) -> Result<(), AskError> {
    let c = node.entity::<Cart>("c-1");
    c.add_item(Item {
        name: "tea".to_owned(),
        price: 4.5,
    })
    .await?;
    let Receipt { total: 4.5 } = c.checkout().await? else {
        return Ok(());
    };
    let _: f64 = c.total().await?;
    Ok(())
}

#[test]
fn works() {
    let _ = CartMsg::Total {};
    println!("{}", Cart::behavior().mermaid());
}

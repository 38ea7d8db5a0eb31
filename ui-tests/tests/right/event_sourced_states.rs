//! Event-sourced state machines: transitions happen in events.

use casty::{
    __private::{EventSourced, Storage},
    prelude::*,
};

#[message]
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    name: String,
    cents: u64,
}

#[message]
#[derive(Debug)]
pub struct Empty_;

#[entity(shards = 10, event_sourced, snapshot_every = 20)]
#[states(Unpaid = Empty, Active)]
pub mod cart {
    use super::*;

    #[state(common)]
    #[message]
    #[derive(Default)]
    pub struct Customer {
        name: String,
        visits: u32,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Empty;

    #[state]
    #[message]
    pub struct Active {
        items: Vec<Item>,
    }

    #[state]
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct CheckedOut {
        cents: u64,
    }

    #[behavior(of(Unpaid))]
    impl _ {
        #[message]
        fn add_item(&self, item: Item) -> Effect<Cart> {
            Effect::persist(CartEvent::ItemAdded { item })
        }
    }

    #[behavior(of(all), otherwise = reject)]
    impl _ {
        #[message]
        fn rename(&self, name: String, customer: &Customer) -> Effect<Cart, bool> {
            let is_new = customer.name != name;
            let events = is_new.then_some(CartEvent::Renamed { name });
            Effect::persist_all(events).reply(move |_| is_new)
        }

        #[event]
        fn renamed(&mut self, name: String, customer: &mut Customer) {
            customer.name = name;
        }

        #[upcast(from = 1)]
        fn item_added_v1(name: String) -> CartEvent {
            CartEvent::ItemAdded {
                item: Item { name, cents: 0 },
            }
        }
    }

    #[behavior]
    impl Empty {
        #[event(version = 2)]
        fn item_added(self, item: Item) -> Active {
            Active { items: vec![item] }
        }
    }

    #[behavior]
    impl Active {
        #[message]
        async fn checkout(
            &self,
            coupon: u64,
            ctx: &mut Context<Cart>,
        ) -> Result<Effect<Cart, u64>, Empty_> {
            let _ = ctx;
            let cents = self.items.iter().map(|item| item.cents).sum::<u64>();
            if cents < coupon {
                return Err(Empty_);
            }
            Ok(Effect::persist(CartEvent::CheckedOut {
                cents: cents - coupon,
            })
            .reply(|_| 1))
        }

        #[message(internal, after = "30m")]
        fn forgotten(&self) -> Effect<Cart> {
            Effect::persist(CartEvent::Abandoned {})
        }

        #[on_exit]
        async fn left(_customer: &Customer) {}

        #[event(version = 2)]
        fn item_added(&mut self, item: Item) {
            self.items.push(item);
        }

        #[event]
        fn checked_out(self, cents: u64) -> CheckedOut {
            CheckedOut { cents }
        }

        /// Nothing came of it.
        #[event]
        fn abandoned(self, customer: &mut Customer) -> OneOf<Empty, CheckedOut> {
            customer.visits += 1;
            if self.items.len() == 1 {
                Empty.into()
            } else {
                CheckedOut { cents: 0 }.into()
            }
        }
    }

    #[behavior]
    impl CheckedOut {
        #[on_enter]
        fn entered(&self, ctx: &mut Context<Cart>) {
            let _ = (self.cents, ctx.path());
        }
    }

    /// A name that changed its place.
    #[upcast(removed = "baptized", from = 1)]
    fn baptized(name: String) -> CartEvent {
        CartEvent::Renamed { name }
    }
}

fn item(name: &str) -> Item {
    Item {
        name: name.to_owned(),
        cents: 100,
    }
}

#[test]
fn events_lead_from_state_to_state() {
    assert_eq!(Cart::STORAGE, Storage::Events);
    let mut cart = Cart::from((cart::Empty, cart::Customer::default()));
    let name = || "x".to_owned();
    assert!(!cart.apply(CartEvent::Renamed { name: name() }).unwrap());
    assert!(
        cart.apply(CartEvent::ItemAdded { item: item("a") })
            .unwrap()
    );
    assert!(
        !cart
            .apply(CartEvent::ItemAdded { item: item("b") })
            .unwrap()
    );
    assert_eq!(cart.state_name(), "Active");
    assert!(cart.apply(CartEvent::Abandoned {}).unwrap());
    assert_eq!(cart.state_name(), "CheckedOut");
    let wrong = cart.apply(CartEvent::CheckedOut { cents: 1 }).unwrap_err();
    assert!(
        wrong.to_string().contains("`CheckedOut`") && wrong.to_string().contains("`checked_out`")
    );

    let mut bytes = Vec::new();
    let name = cart.freeze(&mut bytes).unwrap();
    assert_eq!(Cart::thaw(name, &bytes).unwrap().state_name(), "CheckedOut");
}

#[test]
fn the_table_shows_the_transitions_of_events() {
    let table = Cart::behavior();
    let diagram = table.mermaid();
    assert!(
        diagram.contains("Active --> CheckedOut: checked_out (event)"),
        "{diagram}"
    );
    assert!(
        diagram.contains("stays: checkout, forgotten (after 30m), add_item, rename"),
        "{diagram}"
    );
}

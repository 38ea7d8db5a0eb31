//! A library that re-exports casty under another name.

mod framework {
    pub mod actors {
        pub use ::casty::*;
    }
}

mod casty {}

use framework::actors::{self, Context};

#[actors::message(crate = crate::framework::actors)]
pub struct Item(u8);

#[derive(Default)]
pub struct Counter(u8);

#[actors::entity(crate = crate::framework::actors)]
impl Counter {
    #[message]
    fn add(&mut self, item: Item, _: &mut Context<Self>) -> Result<u8, String> {
        self.0 += item.0;
        Ok(self.0)
    }
}

pub struct Greeter;

#[actors::actor(crate = framework::actors)]
impl Greeter {
    #[actors::message]
    fn greet(&self) {}
}

#[actors::entity(crate = crate::framework::actors)]
pub mod lamp {
    use crate::framework::actors;

    #[actors::state(initial)]
    #[derive(Default)]
    pub struct Off;

    #[state]
    pub struct On;

    #[actors::behavior]
    impl Off {
        #[actors::message]
        fn switch(
            self,
        ) -> Result<actors::behavior::OneOf<On, Off>, actors::behavior::Stay<Self, String>>
        {
            Ok(On.into())
        }
    }

    #[behavior]
    impl On {
        #[message]
        fn switch(self) -> Result<Off, actors::behavior::Stay<On, String>> {
            Ok(Off)
        }
    }
}

#[actors::message(crate = crate::framework::actors)]
#[derive(Default)]
pub struct Account {
    balance: u64,
    #[transient]
    cache: Option<u8>,
}

#[actors::entity(event_sourced, crate = crate::framework::actors)]
impl Account {
    #[message]
    fn deposit(&self, item: Item) -> actors::Effect<Self, u64> {
        actors::Effect::persist(AccountEvent::Deposited { item }).reply(|it| it.balance)
    }

    #[event]
    fn deposited(&mut self, #[serde(rename = "what")] item: Item) {
        self.balance += u64::from(item.0);
        self.cache = None;
    }
}

#[actors::entity(durable, crate = crate::framework::actors)]
impl Item {
    #[message]
    fn set(&mut self, to: u8) {
        self.0 = to;
    }

    #[init]
    fn made() -> Self {
        Self(1)
    }
}

#[test]
fn works() {
    let _ = AccountRef::deposit;
    let _ = LampRef::switch;
    let _ = CounterRef::add;
    let _ = GreeterRef::greet;
}

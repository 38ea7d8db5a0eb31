//! A crate with strict lints of its own: generated code adds no warning.
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

use casty::prelude::*;

/// Something to count.
#[message]
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name.
    pub name: String,
}

/// A counter.
#[derive(Debug, Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 10)]
impl Counter {
    #[message]
    fn increment(&mut self, amount: i64) {
        self.value += amount;
    }

    /// The current value.
    #[message(name = "get")]
    async fn value(&self) -> i64 {
        self.value
    }

    #[message]
    fn item(&mut self, item: Item, #[serde(default)] more: Vec<Item>) -> Result<Item, String> {
        if more.is_empty() {
            Ok(item)
        } else {
            Err(item.name)
        }
    }

    #[message]
    #[deprecated = "ask `value`"]
    fn old_value(&self) -> i64 {
        self.value
    }
}

/// An account.
#[message]
#[derive(Debug, Default)]
pub struct Account {
    balance: u64,
    #[transient]
    cache: Option<u64>,
}

#[entity(event_sourced)]
impl Account {
    #[message]
    fn deposit(&self, amount: u64) -> Result<Effect<Self, u64>, String> {
        Ok(Effect::persist(AccountEvent::Deposited { amount }).reply(|account| account.balance))
    }

    #[message]
    async fn note(&self, text: String) -> Effect<Self> {
        Effect::persist(AccountEvent::Noted { text })
    }

    /// Money came in.
    #[event(version = 2)]
    fn deposited(&mut self, amount: u64) {
        self.balance += amount;
        self.cache = None;
    }

    #[event]
    fn noted(&mut self, _text: String) {}

    #[upcast(from = 1)]
    fn deposited_v1(amount: u64) -> Option<AccountEvent> {
        Some(AccountEvent::Deposited { amount })
    }
}

/// A gate.
#[entity(event_sourced)]
pub mod gate {
    use super::*;

    /// What all states have.
    #[state(common)]
    #[message]
    #[derive(Debug, Default)]
    pub struct Log {
        uses: u32,
    }

    /// It is shut.
    #[state(initial)]
    #[message]
    #[derive(Debug, Default)]
    pub struct Shut;

    /// It is open.
    #[state]
    #[message]
    #[derive(Debug)]
    pub struct Open;

    #[upcast(removed = "kicked", from = 1)]
    fn kicked(by: String) -> GateEvent {
        assert!(!by.is_empty(), "somebody has kicked it");
        GateEvent::Pushed {}
    }

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn push(&self) -> Effect<Gate> {
            Effect::persist(GateEvent::Pushed {})
        }
    }

    #[behavior]
    impl Shut {
        #[event]
        fn pushed(self, log: &mut Log) -> Open {
            log.uses += 1;
            Open
        }
    }

    #[behavior]
    impl Open {
        #[on_enter]
        fn entered(&self, _: &Log) {}

        #[event]
        fn pushed(self) -> Shut {
            Shut
        }
    }
}

/// A lamp.
#[message]
#[derive(Debug, Default)]
pub struct Lamp {
    is_on: bool,
}

#[entity(durable)]
impl Lamp {
    #[message]
    fn flip(&mut self) -> bool {
        self.is_on = !self.is_on;
        self.is_on
    }
}

/// Greets.
#[derive(Debug)]
pub struct Greeter;

#[actor]
impl Greeter {
    #[message]
    fn greet(&mut self, name: String) -> String {
        format!("hello, {name}")
    }

    #[message(internal)]
    fn tick(&mut self) {}
}

/// Starts the two.
pub fn start(ctx: &mut Context<Counter>) -> (GreeterRef, CounterRef, GreeterMsg) {
    (ctx.spawn(Greeter), ctx.myself(), GreeterMsg::Tick {})
}

#[test]
fn works() {}

/// The lints of a whole function are off where a handler needs that, and on inside of it.
mod bodies {
    // Each has to fire in the body of a handler that has the other shape: clippy warns of an
    // expectation that nothing meets.
    #![expect(
        clippy::unnecessary_wraps,
        clippy::unused_async,
        clippy::needless_pass_by_value,
        reason = "the functions inside of the handlers are written to set these off"
    )]

    use casty::prelude::*;

    #[derive(Debug, Default)]
    struct Linted;

    #[actor]
    impl Linted {
        #[message]
        fn wraps(&self) -> u8 {
            fn always() -> Option<u8> {
                Some(1)
            }
            async fn at_once() {}
            drop(at_once());
            always().unwrap_or_default()
        }

        #[message]
        fn length(&self) -> usize {
            fn length(text: String) -> usize {
                text.len()
            }
            length(String::from("four"))
        }
    }
}

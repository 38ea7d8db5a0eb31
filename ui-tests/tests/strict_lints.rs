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

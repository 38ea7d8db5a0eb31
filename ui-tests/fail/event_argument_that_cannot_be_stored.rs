#![allow(unused)]

use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(event_sourced)]
impl Account {
    #[message]
    fn note(&self) -> Effect<Self> {
        Effect::persist(AccountEvent::Failed { error: "none".into() })
    }

    #[event]
    fn failed(&mut self, error: Box<dyn std::error::Error>) {}

    #[event]
    fn computed(&mut self, by: fn() -> u64) {}

    #[event]
    fn planned(&mut self, timer: Option<casty::schedule::Cancellable>) {}

    #[event]
    fn renamed(&mut self, name: impl Into<String>) {}

    #[event]
    fn swapped(&mut self, other: &mut u64) {}
}

fn main() {}

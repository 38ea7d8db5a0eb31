#![allow(unused)]

use casty::{
    id::EntityId,
    prelude::*,
    projection::{MemoryTransaction, MemoryView, projection},
};

#[message]
#[derive(Default)]
struct Account {
    cents: u64,
}

#[entity(event_sourced)]
impl Account {
    #[message]
    fn deposit(&self, cents: u64) -> Effect<Self> {
        Effect::persist(AccountEvent::Deposited { cents })
    }

    #[event]
    fn deposited(&mut self, cents: u64) {
        self.cents += cents;
    }

    #[event]
    fn closed(&mut self) {}
}

#[derive(Clone)]
struct Sums {
    view: MemoryView<u64>,
}

#[derive(Clone)]
struct Of<T> {
    view: MemoryView<T>,
}

#[projection(of = Account)]
impl<T: Clone + Send + Sync + 'static> Of<T> {
    #[store]
    fn view(&self) -> &MemoryView<T> {
        &self.view
    }

    #[on]
    fn deposited(&mut self, _cents: u64) {}

    #[on]
    fn closed(&mut self) {}
}

fn main() {}

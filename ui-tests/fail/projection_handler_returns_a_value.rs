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

#[projection(of = Account)]
impl Sums {
    #[store]
    fn view(&self) -> &MemoryView<u64> {
        &self.view
    }

    #[on]
    fn deposited(&mut self, cents: u64, tx: &mut MemoryTransaction<u64>) {
        **tx += cents;
    }

    #[on]
    fn closed(&mut self) -> u64 {
        7
    }
}

fn main() {}

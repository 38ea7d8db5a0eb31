#![deny(unused_must_use)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn increment(&mut self, amount: i64) {
        self.value += amount;
    }
}

fn call(counter: CounterRef) {
    counter.increment(1);
}

fn main() {}

//! The flight recorder would keep nothing.

use casty::prelude::*;

#[message]
#[derive(Default)]
struct Counter {
    value: i64,
}

#[entity(record = 0)]
impl Counter {
    #[message]
    fn add(&mut self, amount: i64) {
        self.value += amount;
    }
}

#[message]
#[derive(Default)]
struct Endless {
    value: i64,
}

#[entity(record = 1000000)]
impl Endless {
    #[message]
    fn add(&mut self, amount: i64) {
        self.value += amount;
    }
}

fn main() {}

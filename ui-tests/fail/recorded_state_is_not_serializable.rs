//! The flight recorder keeps the state, which has no wire form.

use casty::prelude::*;

#[derive(Default)]
struct Counter {
    value: i64,
}

#[entity(record = 256)]
impl Counter {
    #[message]
    fn add(&mut self, amount: i64) {
        self.value += amount;
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 0)]
impl Counter {
    #[message]
    fn one(&mut self, name: &str) {}

    #[message(timeout = "soon")]
    fn two(self) {}

    #[init]
    fn three(&self) {}

    #[message]
    fn four(&self) -> i64 {
        self.value
    }
}

fn call(counter: CounterRef) -> casty::call::Call<Counter, i64> {
    counter.four()
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message(internal)]
    fn tick(&mut self) {}

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

async fn call(counter: CounterRef) {
    counter.tick().tell().await;
}

fn main() {}

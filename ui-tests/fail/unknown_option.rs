#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shard = 10)]
impl Counter {
    #[message(timout = "2s")]
    fn increment(&mut self) {}

    #[message(persist = true)]
    fn decrement(&mut self) {}
}

fn main() {}

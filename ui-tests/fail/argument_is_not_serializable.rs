#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

pub struct Price {
    cents: u64,
}

#[entity]
impl Counter {
    #[message]
    fn sell(&mut self, price: Price) {}
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn increment(&mut self) {}

    #[message(name = "increment")]
    fn add(&mut self, amount: i64) {}
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message(internal, name = "t", timeout = "1s")]
    fn tick(&mut self) {}

    #[message(internal = true)]
    fn tock(&mut self) {}
}

fn main() {}

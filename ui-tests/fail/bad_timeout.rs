#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message(timeout = "2")]
    fn without_unit(&mut self) {}

    #[message(timeout = "0s")]
    fn zero(&mut self) {}

    #[message(timeout = 2)]
    fn number(&mut self) {}

    #[message(timeout = "1.5s")]
    fn fraction(&mut self) {}

    #[message(timeout = "2 days")]
    fn days(&mut self) {}
}

fn main() {}

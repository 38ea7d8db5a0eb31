#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[on_restart]
    fn restarted(&mut self) {}

    #[on_restart]
    fn again(&mut self) {}

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

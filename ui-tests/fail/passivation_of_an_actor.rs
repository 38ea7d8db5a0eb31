#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[actor(passivate_after = "10m", max_active = 100)]
impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

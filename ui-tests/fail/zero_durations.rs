#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(within = "0s", passivate_after = "0ms", max_active = 0, mailbox = 0)]
impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

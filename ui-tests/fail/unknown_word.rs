#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(overflow = drop_new, on_failure = panic, children = one)]
impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(overflow = "wait", on_failure)]
impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

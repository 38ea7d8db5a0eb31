#![allow(unused)]

use casty::prelude::*;

pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[init]
    fn open(value: i64) -> Self {
        Self { value }
    }

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

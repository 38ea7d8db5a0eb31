#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    #[init]
    fn open() -> Self {
        Self { value: 1 }
    }

    #[message]
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

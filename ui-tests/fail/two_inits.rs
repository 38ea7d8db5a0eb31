#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[init]
    fn one() -> Self {
        Self { value: 1 }
    }

    #[init]
    fn two() -> Self {
        Self { value: 2 }
    }

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

pub struct Counter {
    value: i64,
}

pub struct Closed;

#[entity]
impl Counter {
    #[init]
    fn open() -> Result<Self, Closed> {
        Err(Closed)
    }

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

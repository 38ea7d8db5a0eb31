#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[init]
    fn open(&mut self) {
        self.value = 1;
    }

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

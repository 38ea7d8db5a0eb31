#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    pub fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

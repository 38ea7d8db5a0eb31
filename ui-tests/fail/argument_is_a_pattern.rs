#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn put(&mut self, (x, y): (i64, i64)) {
        self.value = x + y;
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: std::cell::Cell<i64>,
}

#[entity]
impl Counter {
    #[message]
    async fn value(&self) -> i64 {
        self.value.get()
    }
}

fn main() {}

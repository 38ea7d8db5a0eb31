#![allow(unused)]

use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(migrate = true)]
impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

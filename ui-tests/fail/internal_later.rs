#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message(internal)]
    fn tick(&mut self) -> casty::reply::Later<u8> {
        casty::reply::Promise::new().1
    }

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

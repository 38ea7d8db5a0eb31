#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn tick(&mut self) -> casty::reply::Later {
        casty::reply::Promise::new().1
    }

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

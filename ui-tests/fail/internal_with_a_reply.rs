#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message(internal)]
    fn tick(&mut self) -> i64 {
        1
    }
}

fn main() {}

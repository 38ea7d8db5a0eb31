#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(name = "")]
impl Counter {
    #[message(name = "")]
    fn increment(&mut self) {}
}

fn main() {}

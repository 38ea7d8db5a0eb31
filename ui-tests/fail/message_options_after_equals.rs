#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message = "inc"]
    fn increment(&mut self) {}
}

fn main() {}

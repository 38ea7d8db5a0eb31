#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message(internal)]
    fn tick(&mut self, label: &str) {}
}

fn main() {}

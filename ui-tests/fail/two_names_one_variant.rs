#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn add_item(&mut self) {}

    #[message]
    fn add__item(&mut self) {}
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 10, shards = 20)]
impl Counter {
    #[message(timeout = "2s", timeout = "3s")]
    fn increment(&mut self) {}
}

fn main() {}

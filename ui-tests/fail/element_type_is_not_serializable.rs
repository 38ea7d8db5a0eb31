#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Shop;

pub struct Price {
    cents: u64,
}

#[entity]
impl Shop {
    #[message]
    fn sell(&mut self, prices: Vec<Option<Price>>) {}

    #[message]
    fn prices(&self) -> Vec<Price> {
        Vec::new()
    }
}

fn main() {}

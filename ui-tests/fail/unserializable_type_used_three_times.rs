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
    fn sell(&mut self, price: Price, name: String) {}

    #[message]
    fn buy(&mut self, prices: Vec<Price>) -> Price {
        Price { cents: 1 }
    }
}

fn main() {}

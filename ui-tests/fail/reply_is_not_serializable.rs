#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

pub struct Price {
    cents: u64,
}

pub struct SoldOut;

#[entity]
impl Counter {
    #[message]
    fn price(&self) -> Price {
        Price { cents: 1 }
    }

    #[message]
    fn prices(&self) -> Vec<Price> {
        Vec::new()
    }

    #[message]
    fn sell(&mut self, cents: u64) -> Result<u64, SoldOut> {
        Err(SoldOut)
    }
}

fn main() {}

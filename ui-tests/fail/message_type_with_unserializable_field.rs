use casty::prelude::*;

pub struct Price {
    cents: u64,
}

#[message]
pub struct Item {
    price: Price,
}

fn main() {}

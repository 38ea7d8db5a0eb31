use casty::prelude::*;

#[entity(shards = 100)]
pub mod cart {
    pub struct Empty;
}

fn main() {}

use casty::prelude::*;

pub struct Cache;

#[message]
pub struct Account {
    balance: u64,
    #[transient]
    cache: Cache,
}

fn main() {}

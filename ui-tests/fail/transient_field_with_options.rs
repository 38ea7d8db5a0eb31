use casty::prelude::*;

#[message]
pub struct Account {
    #[transient(default)]
    cache: u8,
}

fn main() {}

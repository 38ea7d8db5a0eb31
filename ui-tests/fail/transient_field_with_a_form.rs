use casty::prelude::*;

#[message]
pub struct Account {
    balance: u64,
    #[transient]
    #[serde(rename = "c")]
    cache: u8,
}

fn main() {}

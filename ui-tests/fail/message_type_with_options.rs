use casty::prelude::*;

#[message(name = "item")]
pub struct Item {
    name: String,
}

#[message(nam = "item")]
pub struct Other {
    name: String,
}

fn main() {}

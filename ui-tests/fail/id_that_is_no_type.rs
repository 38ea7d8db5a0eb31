use casty::prelude::*;

#[derive(Default)]
struct Account;

#[entity(id = "u64")]
impl Account {
    #[message]
    fn close(&mut self) {}
}

fn main() {}

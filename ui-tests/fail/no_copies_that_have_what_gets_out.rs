use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(durable, copies_min = 0)]
impl Account {
    #[message]
    fn balance(&self) -> u64 {
        self.balance
    }
}

fn main() {}

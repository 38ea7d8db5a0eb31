use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(durable, copies = 0)]
impl Account {
    #[message]
    fn balance(&self) -> u64 {
        self.balance
    }
}

fn main() {}

use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(copies = 3, copies_min = 2)]
impl Account {
    #[message]
    fn balance(&self) -> u64 {
        self.balance
    }
}

fn main() {}

use casty::prelude::*;

#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity]
impl Account {
    #[message]
    fn balance(&self) -> u64 {
        self.balance
    }

    #[event]
    fn deposited(&mut self, amount: u64) {
        self.balance += amount;
    }
}

fn main() {}

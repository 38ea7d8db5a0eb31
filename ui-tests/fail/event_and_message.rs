use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(event_sourced)]
impl Account {
    #[message]
    fn balance(&self) -> u64 {
        self.balance
    }

    #[event]
    #[message]
    fn deposited(&mut self, amount: u64) {
        self.balance += amount;
    }
}

fn main() {}

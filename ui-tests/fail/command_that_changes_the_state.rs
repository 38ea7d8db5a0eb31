use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(event_sourced)]
impl Account {
    #[message]
    fn withdraw(&mut self, amount: u64) -> u64 {
        self.balance -= amount;
        self.balance
    }

    #[event]
    fn withdrawn(&mut self, amount: u64) {
        self.balance -= amount;
    }
}

fn main() {}

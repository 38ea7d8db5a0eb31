use casty::{prelude::*, reply::Later};

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(event_sourced)]
impl Account {
    #[message]
    fn deposit(&self, amount: u64) -> Result<Effect<Self, Later<u64>>, String> {
        todo!()
    }

    #[event]
    fn deposited(&mut self, amount: u64) {
        self.balance += amount;
    }
}

fn main() {}

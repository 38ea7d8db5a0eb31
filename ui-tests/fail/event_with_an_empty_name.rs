use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(event_sourced)]
impl Account {
    #[message]
    fn deposit(&self, amount: u64) -> Effect<Self> {
        Effect::persist(AccountEvent::Deposited { amount })
    }

    #[event(name = "")]
    fn deposited(&mut self, amount: u64) {
        self.balance += amount;
    }
}

fn main() {}

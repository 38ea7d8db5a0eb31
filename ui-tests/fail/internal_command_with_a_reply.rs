use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(event_sourced)]
impl Account {
    #[message(internal)]
    fn tick(&self) -> Effect<Self, u64> {
        Effect::persist(AccountEvent::Deposited { amount: 1 }).reply(|account| account.balance)
    }

    #[event]
    fn deposited(&mut self, amount: u64) {
        self.balance += amount;
    }
}

fn main() {}

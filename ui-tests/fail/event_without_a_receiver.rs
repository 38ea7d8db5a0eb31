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

    #[event]
    fn deposited(amount: u64) {}
}

fn main() {}

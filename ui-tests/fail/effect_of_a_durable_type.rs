use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(durable)]
impl Account {
    #[message]
    fn deposit(&self, amount: u64) -> Effect<Self> {
        Effect::none()
    }
}

fn main() {}

use casty::prelude::*;

#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity]
impl Account {
    #[message]
    fn deposit(&self, amount: u64) -> Effect<Self> {
        Effect::none()
    }
}

fn main() {}

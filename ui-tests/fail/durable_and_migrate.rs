use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Counter {
    value: u64,
}

#[entity(durable, migrate)]
impl Counter {
    #[message]
    fn increment(&mut self) {
        self.value += 1;
    }
}

fn main() {}

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: u64,
}

#[entity(durable)]
impl Counter {
    #[message]
    fn increment(&mut self) {
        self.value += 1;
    }
}

fn main() {}

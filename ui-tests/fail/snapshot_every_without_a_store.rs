use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Counter {
    value: u64,
}

#[entity(snapshot_every = 10)]
impl Counter {
    #[message]
    fn increment(&mut self) {
        self.value += 1;
    }
}

fn main() {}

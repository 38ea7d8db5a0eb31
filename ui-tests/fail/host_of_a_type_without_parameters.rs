use casty::prelude::*;

#[derive(Default)]
struct Counter;

#[entity]
impl Counter {
    #[message]
    fn count(&mut self) {}
}

casty::host!(Counter as "counter");

fn main() {}

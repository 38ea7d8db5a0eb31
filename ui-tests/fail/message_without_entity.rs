use casty::prelude::*;

pub struct Counter {
    value: i64,
}

impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

#[message]
fn free(_amount: i64) {}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[on_start]
    fn started(&mut self, now: u64) -> i64 {
        1
    }

    #[on_stop(late)]
    fn stopped() {}

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[on_terminated]
    fn ended(&mut self, who: Terminated, again: Terminated) {}

    #[on_start]
    fn started(&self, who: Terminated) {}

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

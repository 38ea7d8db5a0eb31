#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[on_terminated]
    fn ended(&mut self, who: String, ctx: &mut Context<Self>) {}

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

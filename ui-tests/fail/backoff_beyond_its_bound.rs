#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(backoff = "2s", backoff_max = "1s")]
impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

#[derive(Default)]
pub struct Slow;

#[actor(backoff = "1m")]
impl Slow {
    #[message]
    fn value(&self) {}
}

#[derive(Default)]
pub struct Hasty;

#[actor(backoff_max = "50ms")]
impl Hasty {
    #[message]
    fn value(&self) {}
}

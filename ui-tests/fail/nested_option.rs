#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn set(&mut self, value: Option<Option<i64>>) {}

    #[message]
    fn unset(&mut self) -> Vec<Option<()>> {
        Vec::new()
    }
}

fn main() {}

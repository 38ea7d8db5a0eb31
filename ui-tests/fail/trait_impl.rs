#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Clone for Counter {
    #[message]
    fn clone(&self) -> Self {
        Self { value: self.value }
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn put(&mut self, value: impl Into<i64>) {
        self.value = value.into();
    }

    #[message]
    fn all(&self) -> impl Iterator<Item = i64> {
        [1, 2].into_iter()
    }
}

fn main() {}

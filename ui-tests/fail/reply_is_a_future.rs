#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn value(&self) -> impl Future<Output = i64> {
        std::future::ready(1)
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

pub struct Counter {
    value: i64,
}

#[actor(role = "storage")]
impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    unsafe fn peek(&self) -> i64 {
        self.value
    }

    #[message]
    extern "C" fn call(&self) -> i64 {
        self.value
    }

    #[message]
    const fn fixed(&self) -> i64 {
        1
    }
}

fn main() {}

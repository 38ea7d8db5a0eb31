#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[message]
pub struct Result;

#[entity]
impl Counter {
    #[message]
    fn roll(&self) -> Result {
        Result
    }
}

fn main() {}

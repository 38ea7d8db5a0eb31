#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn parse(&self, text: String) -> Result<i64, Box<dyn std::error::Error>> {
        Ok(text.parse()?)
    }
}

fn main() {}

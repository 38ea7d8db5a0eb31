#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn rename(&mut self, name: &str, tags: Vec<&'static str>, all: &[u8], other: &mut u8) {}
}

fn main() {}

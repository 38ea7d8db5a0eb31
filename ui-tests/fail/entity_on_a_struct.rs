use casty::prelude::*;

#[entity]
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[actor]
fn greet() {}

fn main() {}

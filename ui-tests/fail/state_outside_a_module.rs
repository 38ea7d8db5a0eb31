#![allow(unused)]

use casty::prelude::*;

#[state(initial)]
pub struct Closed;

#[behavior(otherwise = reject)]
impl Closed {
    #[message]
    fn push(&self, #[serde(default)] hard: bool) {}
}

fn main() {}

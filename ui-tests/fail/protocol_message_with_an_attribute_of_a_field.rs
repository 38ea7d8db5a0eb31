#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Pausable {
    #[message]
    fn pause(&self, #[serde(default)] seconds: u64) -> bool;
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait More: Clone {
    #[message]
    fn more(&self);
}

fn main() {}

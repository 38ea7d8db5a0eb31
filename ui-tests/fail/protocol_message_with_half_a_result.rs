#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Half {
    #[message]
    fn half(&self) -> Result<u32>;
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Counted {
    const N: u32;

    #[message]
    fn count(&self);
}

fn main() {}

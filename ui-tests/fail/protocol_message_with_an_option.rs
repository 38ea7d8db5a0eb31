#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Timed {
    #[message(timeout = "2s")]
    fn with_an_option(&self);
}

fn main() {}

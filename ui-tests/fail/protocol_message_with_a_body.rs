#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Bodily {
    #[message]
    fn with_a_body(&self) {}
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Free {
    #[message]
    fn without_a_receiver();
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[actor]
pub mod door {
    #[state(initial)]
    pub struct Closed;

    #[behavior(otherwise = reject)]
    impl Closed {
        fn push(&self) {}
    }
}

fn main() {}

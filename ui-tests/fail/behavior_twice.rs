#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    #[behavior(otherwise = reject)]
    impl Closed {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}

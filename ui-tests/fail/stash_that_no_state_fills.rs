#![allow(unused)]

use casty::prelude::*;

#[entity(stash = 10)]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}

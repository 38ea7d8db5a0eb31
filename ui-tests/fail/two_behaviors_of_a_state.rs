#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }

    #[behavior]
    impl Closed {
        #[message]
        fn pull(&self) {}
    }
}

fn main() {}

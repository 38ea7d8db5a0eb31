#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    pub trait Push {
        fn push(&self);
    }

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Push for Closed {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}

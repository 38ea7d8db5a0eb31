#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod Door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }
}

#[entity]
pub mod _1 {
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

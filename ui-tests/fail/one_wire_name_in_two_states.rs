#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior(otherwise = reject)]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {
        #[message(name = "push")]
        fn pull(&self) {}
    }
}

fn main() {}

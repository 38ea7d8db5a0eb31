#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior(internal = ignore)]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open
        }

        #[message(internal)]
        fn creak(&self) {}
    }

    #[state]
    pub struct Open;

    #[behavior(internal = ignore)]
    impl Open {}
}

fn main() {}

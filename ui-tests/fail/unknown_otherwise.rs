#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior(otherwise = refuse)]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior(other = reject)]
    impl Open {
        #[message]
        fn push(&self) {}

        #[message]
        fn count(&self) {}
    }
}

fn main() {}

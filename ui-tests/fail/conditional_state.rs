#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    #[cfg(not(test))]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior]
    #[cfg(not(test))]
    impl Open {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}

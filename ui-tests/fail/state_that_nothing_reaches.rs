#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Locked;

    #[state]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }

    #[behavior]
    impl Locked {
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}

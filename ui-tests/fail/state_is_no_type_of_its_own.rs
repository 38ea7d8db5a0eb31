#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    pub struct Shut;

    #[state]
    pub type Closed = Shut;

    #[state(initial)]
    #[derive(Default)]
    pub struct Stop;

    #[state(first)]
    #[state]
    pub struct Open;

    #[behavior]
    impl Stop {
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

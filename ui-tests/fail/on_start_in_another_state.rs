#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[on_start]
        fn opened(&mut self) {}

        #[message]
        fn push(self) -> Closed {
            Closed
        }
    }
}

fn main() {}

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
        #[init]
        fn built() -> u8 {
            1
        }

        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[init]
        fn opened() -> Self {
            Open
        }

        #[message]
        fn push(self) -> Closed {
            Closed
        }
    }
}

fn main() {}

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
        fn push(self) {}

        #[message]
        fn count(self) -> u64 {
            1
        }

        #[message]
        fn name(self) -> (String, u8) {
            (String::new(), 1)
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(self, hard: bool) -> (Closed, u8, u8) {
            (Closed, 1, 1)
        }
    }
}

fn main() {}

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
        fn push(self, hard: bool) -> Open {
            Open
        }

        #[message]
        fn count(&self) -> u64 {
            1
        }

        #[message(name = "c")]
        fn creak(&self) {}

        #[message(timeout = "2s")]
        fn wait(&self) {}

        #[message]
        fn tick(&self) {}

        #[message]
        fn swap(&self, a: u8, b: u8) {}
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self, strength: u8) {}

        #[message]
        fn count(&self) -> Result<u64, String> {
            Ok(1)
        }

        #[message]
        fn creak(&self) {}

        #[message]
        fn wait(&self) {}

        #[message(internal)]
        fn tick(&self) {}

        #[message]
        fn swap(&self, b: u8, a: u8) {}
    }
}

fn main() {}

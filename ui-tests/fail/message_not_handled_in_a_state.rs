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

        #[message(internal)]
        fn tick(&self, at: u8) {}
    }

    #[behavior]
    impl Open {
        #[message]
        fn count(&self) -> Result<u64, String> {
            Ok(1)
        }
    }
}

fn main() {}

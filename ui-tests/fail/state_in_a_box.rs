#![allow(unused)]

use casty::prelude::*;

#[actor]
pub mod door {
    #[state(initial)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self: Box<Self>) -> Closed {
            *self
        }

        #[message]
        fn pull() {}

        #[on_start]
        fn started(self) {}

        #[init]
        fn made(count: u8) -> Self {
            Closed
        }
    }
}

fn main() {}

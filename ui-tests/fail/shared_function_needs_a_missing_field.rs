#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open {
        times: u8,
    }

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open { times: 1 }
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self) {}
    }

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn status(&self) -> u8 {
            self.times
        }
    }
}

fn main() {}

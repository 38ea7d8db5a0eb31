#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use super::*;

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

    #[behavior(ignore(push))]
    impl Open {
        #[message]
        fn push(&self) {}

        #[message]
        fn status(&self) -> u8 {
            1
        }
    }

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn status(&self) -> u8 {
            1
        }
    }
}

fn main() {}

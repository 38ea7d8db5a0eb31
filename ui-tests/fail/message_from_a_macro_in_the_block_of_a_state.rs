#![allow(unused)]

use casty::prelude::*;

macro_rules! status {
    () => {
        #[message]
        fn status(&self) -> u8 {
            1
        }
    };
}

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
        status!();

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

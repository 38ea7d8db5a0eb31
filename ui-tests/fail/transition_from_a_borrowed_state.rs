#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use casty::behavior::{OneOf, Stop};

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&mut self) -> Open {
            Open
        }

        #[message]
        fn pull(&self) -> (Open, u8) {
            (Open, 1)
        }

        #[message(internal)]
        fn lift(&self) -> OneOf<Open, Stop> {
            Open.into()
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {
        #[message]
        fn end(&self) -> Result<Stop, String> {
            Ok(Stop)
        }
    }
}

fn main() {}

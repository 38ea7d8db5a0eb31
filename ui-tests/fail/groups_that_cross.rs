#![allow(unused)]

use casty::prelude::*;

#[entity]
#[states(Whole = Closed, Open)]
#[states(Still = Closed, Broken)]
pub mod door {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[state]
    pub struct Broken;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> OneOf<Open, Broken> {
            Open.into()
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self) {}
    }

    #[behavior(otherwise = reject)]
    impl Broken {}
}

fn main() {}

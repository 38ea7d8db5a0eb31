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

        fn may_tick(&self) -> Result<(), String> {
            Ok(())
        }

        #[message(internal, guard = may_tick)]
        fn tick(&mut self) {}
    }

    #[behavior(otherwise = ignore)]
    impl Open {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}

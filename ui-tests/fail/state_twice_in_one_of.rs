#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use casty::behavior::{OneOf, Stop};

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> OneOf<Self, Closed> {
            OneOf::First(self)
        }

        #[message]
        fn pull(self) -> OneOf<Closed, Stop, Stop> {
            OneOf::First(self)
        }
    }
}

fn main() {}

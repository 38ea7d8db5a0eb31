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
        fn push(self) -> OneOf<Stop, Closed> {
            OneOf::First(Stop)
        }
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use casty::behavior::OneOf;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> OneOf<Self> {
            OneOf::First(self)
        }
    }
}

fn main() {}

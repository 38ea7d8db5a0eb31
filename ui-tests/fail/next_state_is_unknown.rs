#![allow(unused)]

use casty::prelude::*;

pub struct Elsewhere;

#[entity]
pub mod door {
    use super::Elsewhere;
    use casty::behavior::{OneOf, Stay};

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Opened;

    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open
        }

        #[message]
        fn pull(self) -> OneOf<Opened, Elsewhere> {
            OneOf::First(Opened)
        }

        #[message]
        fn lift(self) -> Result<(OneOf<OneOf<Opened, Closed>, Closed>, u8), Stay<Self, u8>> {
            Err(Stay(self, 1))
        }
    }

    #[behavior]
    impl Opened {
        #[message]
        fn push(&self) {}

        #[message]
        fn pull(&self) {}

        #[message]
        fn lift(&self) -> Result<u8, u8> {
            Ok(1)
        }
    }
}

fn main() {}

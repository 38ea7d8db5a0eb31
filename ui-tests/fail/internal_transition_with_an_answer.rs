#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use casty::{behavior::Stay, reply::{Later, Promise}};

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message(internal)]
        fn push(self) -> (Self, u8) {
            (self, 1)
        }

        #[message(internal)]
        fn pull(self) -> Result<Self, Stay<Self, u8>> {
            Ok(self)
        }

        #[message]
        fn lift(self) -> Later<u8> {
            Promise::new().1
        }

        #[message]
        fn drop(self) -> Result<(Self, Later<u8>), Stay<Self, u8>> {
            Err(Stay(self, 1))
        }
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use casty::behavior::Stay;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Stay<Self, String> {
            Stay(self, String::new())
        }

        #[message]
        fn pull(&self) -> Result<u8, Stay<Self, String>> {
            Ok(1)
        }
    }
}

fn main() {}

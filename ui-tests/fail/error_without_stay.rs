#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use casty::behavior::Stay;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Result<Open, String> {
            Ok(Open)
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(self) -> Result<Closed, Stay<Closed, String>> {
            Ok(Closed)
        }
    }
}

fn main() {}

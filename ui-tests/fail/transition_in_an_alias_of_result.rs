#![allow(unused)]

use casty::prelude::*;

// casty reads the aliases of the module itself.
type Result<T> = std::result::Result<T, casty::behavior::Stay<door::Closed, String>>;

#[entity]
pub mod door {
    use super::Result;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Result<Closed> {
            Ok(self)
        }
    }
}

fn main() {}

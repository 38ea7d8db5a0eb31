#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use casty::behavior::Stay;

    pub type Result<T> = std::result::Result<T, Stay<Closed, String>>;

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

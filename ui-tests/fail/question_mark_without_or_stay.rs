#![allow(unused)]

use casty::prelude::*;

fn check(cents: u64) -> Result<u64, String> {
    if cents == 0 { Err("nothing".into()) } else { Ok(cents) }
}

#[entity]
mod purse {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub struct Full;

    #[state]
    pub struct Empty;

    #[behavior]
    impl Full {
        #[message]
        fn spend(self, cents: u64) -> Result<Empty, Stay<Self, String>> {
            check(cents)?;
            Ok(Empty)
        }
    }

    #[behavior(otherwise = reject)]
    impl Empty {}
}

fn main() {}

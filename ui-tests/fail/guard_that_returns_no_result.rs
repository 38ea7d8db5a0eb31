#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior]
    impl Closed {
        fn may_push(&self) -> bool {
            true
        }

        #[message(guard = may_push)]
        fn push(self, force: u8) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self, force: u8) -> Result<(), String> {
            Ok(())
        }
    }
}

fn main() {}

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
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self) {}

        async fn left(&self) -> Duration {
            Duration::from_secs(1)
        }

        #[message(internal, after = Self::left)]
        fn shut(self) -> Closed {
            Closed
        }
    }
}

fn main() {}

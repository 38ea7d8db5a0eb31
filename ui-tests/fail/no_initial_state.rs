#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }
}

#[entity]
pub mod shopping_cart {
    pub struct Empty;
}

fn main() {}

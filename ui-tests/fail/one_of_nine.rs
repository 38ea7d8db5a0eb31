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

    #[state]
    pub struct Broken;

    #[state]
    pub struct S1;

    #[state]
    pub struct S2;

    #[state]
    pub struct S3;

    #[state]
    pub struct S4;

    #[state]
    pub struct S5;

    #[state]
    pub struct S6;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> OneOf<Closed, Open, Broken, S1, S2, S3, S4, S5, S6> {
            Open.into()
        }
    }

    #[behavior(of(Open, Broken, S1, S2, S3, S4, S5, S6))]
    impl _ {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}

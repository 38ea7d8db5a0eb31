#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use casty::Context;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self, ctx: &mut Context<Self>) {}

        #[message]
        fn pull(&self, ctx: &mut Context<Closed>) {}

        #[message]
        fn lift(&self, ctx: &Context<Door>) {}

        #[on_start]
        fn started(&self, ctx: &mut Context<Self>, now: u64) {}
    }
}

fn main() {}

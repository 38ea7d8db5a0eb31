#![allow(unused)]

use casty::prelude::*;

macro_rules! common {
    () => {
        #[message]
        fn ping(&self) {}
    };
}

#[derive(Default)]
pub struct Counter;

#[entity]
impl Counter {
    common!();

    #[message]
    fn increment(&mut self) {}
}

fn main() {}

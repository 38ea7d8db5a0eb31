#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter;

#[entity]
#[states(Live = Closed, Open)]
impl Counter {
    #[message]
    fn increment(&mut self) {}
}

fn main() {}

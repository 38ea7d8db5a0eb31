#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter;

#[entity]
impl Counter {
    #[on_enter]
    fn entered(&mut self) {}

    #[on_exit]
    fn left() {}

    #[message]
    fn increment(&mut self) {}
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

struct Clerk;

#[actor(protocols(Pausable))]
impl Clerk {
    #[message]
    fn pause(&mut self) {}
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

struct Clerk;

#[actor(id = u64)]
impl Clerk {
    #[message]
    fn pause(&mut self) {}
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Pausable {
    #[message]
    fn pause(&self) -> bool;

    #[message]
    fn go_on(&self, seconds: u64);
}

#[derive(Default)]
struct Game;

#[entity(protocols(Pausable))]
impl Game {
    #[message]
    fn pause(&mut self) -> bool {
        true
    }
}

fn main() {}

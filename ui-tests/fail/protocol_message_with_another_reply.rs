#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Pausable {
    #[message]
    fn pause(&self) -> bool;
}

#[derive(Default)]
struct Game;

#[entity(protocols(Pausable))]
impl Game {
    #[message]
    fn pause(&mut self) -> u8 {
        1
    }
}

fn main() {}

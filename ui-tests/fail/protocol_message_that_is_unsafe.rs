#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Pausable {
    #[message]
    unsafe fn pause(&self) -> bool;
}

fn main() {}

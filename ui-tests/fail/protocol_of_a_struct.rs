#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
struct Pausable;

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[entity]
#[path = "parts/door.rs"]
mod door;

fn main() {}

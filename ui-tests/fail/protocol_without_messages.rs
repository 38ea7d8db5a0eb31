#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Empty {}

fn main() {}

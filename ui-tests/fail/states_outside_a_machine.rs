#![allow(unused)]

use casty::prelude::*;

#[states(Live = Closed, Open)]
pub struct Door;

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Plain {
    fn plain(&self);
}

fn main() {}

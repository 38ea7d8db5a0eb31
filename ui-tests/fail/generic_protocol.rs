#![allow(unused)]

use casty::prelude::*;

#[casty::protocol]
trait Of<T> {
    #[message]
    fn put(&self, thing: T);
}

fn main() {}

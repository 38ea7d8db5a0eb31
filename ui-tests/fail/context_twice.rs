#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn who(&self, ctx: &mut Context<Self>, again: &mut Context<Self>) {}
}

fn main() {}

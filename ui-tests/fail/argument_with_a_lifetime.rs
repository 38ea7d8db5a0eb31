#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn rename(&mut self, name: std::borrow::Cow<'_, str>) {}
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: std::rc::Rc<i64>,
}

#[entity]
impl Counter {
    #[message]
    fn value(&mut self) -> i64 {
        *self.value
    }
}

fn main() {}

#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn put<T: Into<i64>>(&mut self, value: T) {
        self.value = value.into();
    }

    #[message]
    fn borrow<'a>(&'a self) -> i64 {
        self.value
    }

    #[message]
    fn sized(&self) -> i64
    where
        Self: Sized,
    {
        self.value
    }
}

fn main() {}

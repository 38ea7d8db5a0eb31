#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

pub struct Refused;

#[entity]
impl Counter {
    #[on_restart]
    async fn restarted(&mut self) -> Result<(), Refused> {
        Err(Refused)
    }

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

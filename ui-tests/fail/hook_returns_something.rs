#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[on_start]
    fn started(&mut self) -> Result<u8, String> {
        Ok(1)
    }

    #[on_restart]
    async fn restarted(&mut self) -> String {
        String::new()
    }

    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

fn main() {}

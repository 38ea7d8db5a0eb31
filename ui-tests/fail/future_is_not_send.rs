#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    async fn load(&mut self) -> i64 {
        let shared = std::rc::Rc::new(1);
        std::future::ready(()).await;
        *shared
    }
}

fn main() {}

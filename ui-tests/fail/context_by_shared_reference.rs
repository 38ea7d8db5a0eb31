#![allow(unused)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn who(&self, ctx: &Context<Self>) -> String {
        ctx.entity_id().to_string()
    }
}

fn main() {}

use casty::prelude::*;

pub struct Counter;

#[message]
impl Counter {
    fn value(&self) -> i64 {
        1
    }
}

#[message]
union Bits {
    float: f32,
    int: u32,
}

#[message]
const N: u8 = 1;

fn main() {}

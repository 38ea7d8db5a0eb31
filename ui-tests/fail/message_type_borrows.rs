use casty::prelude::*;

#[message]
pub struct View<'a> {
    text: &'a str,
}

#[message]
pub struct Label {
    text: &'static str,
    size: Option<Option<u8>>,
}

fn main() {}

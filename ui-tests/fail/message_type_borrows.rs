use casty::prelude::*;

#[message]
pub struct View<'a> {
    text: &'a str,
}

#[message]
pub struct Label {
    text: &'static str,
}

fn main() {}

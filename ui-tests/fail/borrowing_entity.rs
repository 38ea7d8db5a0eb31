use casty::prelude::*;

pub struct View<'a> {
    text: &'a str,
}

#[entity]
impl<'a> View<'a> {
    #[message]
    fn len(&self) -> usize {
        self.text.len()
    }
}

fn main() {}

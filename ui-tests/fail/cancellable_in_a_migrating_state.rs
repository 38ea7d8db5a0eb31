#![allow(unused)]

use casty::{prelude::*, schedule::Cancellable};

#[message]
#[derive(Default)]
pub struct Lamp {
    burning: bool,
    timer: Option<Cancellable>,
}

#[entity(migrate)]
impl Lamp {
    #[message]
    fn off(&mut self) {
        self.burning = false;
    }
}

fn main() {}

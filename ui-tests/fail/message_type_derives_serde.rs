use casty::prelude::*;
use serde::{Deserialize, Serialize};

#[message]
#[derive(Clone, Serialize, Deserialize)]
pub struct Item {
    name: String,
}

fn main() {}

use std::collections::{BTreeMap, HashMap};

use casty::prelude::*;

#[message]
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    name: String,
    children: Vec<Self>,
    labels: HashMap<String, Option<Box<Tree>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[message]
pub struct Page<T> {
    items: Vec<T>,
    next: Option<u64>,
}

#[message]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    Empty,
    Circle(f64),
    Square { side: f64 },
}

#[message]
pub struct Unit;

#[message]
pub struct Pair(u8, BTreeMap<u8, (Shape, Unit)>);

#[derive(Default)]
pub struct Library;

#[entity]
impl Library {
    #[message]
    fn page(&self, from: u64, trees: Vec<Tree>) -> Page<Tree> {
        Page {
            items: trees,
            next: Some(from),
        }
    }

    /// A message may carry messages, and references to itself.
    #[message]
    fn later(&self, messages: Vec<LibraryMsg>, to: LibraryRef) -> Option<(LibraryMsg, LibraryRef)> {
        messages.into_iter().next().map(|message| (message, to))
    }
}

fn travels<T: Wire>() {}

#[test]
fn works() {
    travels::<Pair>();
    travels::<Page<Shape>>();
    travels::<LibraryMsg>();
}

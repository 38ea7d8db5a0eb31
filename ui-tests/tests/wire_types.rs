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

/// It has no wire form: functions beside it give it one.
#[derive(Clone, Debug, PartialEq)]
pub struct Celsius(f64);

mod celsius {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Celsius;

    pub fn serialize<S: Serializer>(value: &Celsius, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.0 + 273.15)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Celsius, D::Error> {
        f64::deserialize(deserializer).map(|kelvin| Celsius(kelvin - 273.15))
    }
}

#[derive(Default)]
pub struct Station {
    name: Option<Box<str>>,
}

#[entity]
impl Station {
    #[message]
    fn rename(&mut self, name: Box<str>) -> Option<Box<str>> {
        self.name.replace(name)
    }

    #[message]
    fn sum(&self, bytes: Box<[u8]>, words: Vec<Box<[Box<str>]>>) -> usize {
        bytes.len() + words.len()
    }

    #[message]
    fn open(&self, path: Box<std::path::Path>, shared: std::sync::Arc<str>) -> bool {
        path.is_absolute() && shared.is_empty()
    }

    #[message]
    fn report(
        &self,
        #[serde(with = "celsius")] outside: Celsius,
        #[serde(
            default = "room",
            serialize_with = "celsius::serialize",
            deserialize_with = "celsius::deserialize"
        )]
        inside: Celsius,
    ) -> bool {
        outside.0 < inside.0
    }

    #[message]
    fn maybe(
        &self,
        nested: Option<Option<u8>>,
        unit: Option<()>,
    ) -> (Option<Option<u8>>, Option<()>) {
        (nested, unit)
    }
}

fn room() -> Celsius {
    Celsius(20.0)
}

#[tokio::test]
async fn values_in_boxes_and_with_forms_of_their_own_travel() {
    let system = ActorSystem::builder("app")
        .strict_wire(true)
        .start_local()
        .unwrap();
    let station = system.entity::<Station>("s");
    assert_eq!(station.rename("a".into()).await, Ok(None));
    assert_eq!(station.rename("b".into()).await, Ok(Some("a".into())));
    let words = vec![Box::from([Box::from("word")])];
    assert_eq!(station.sum(Box::from([1, 2]), words).await, Ok(3));
    let root: Box<std::path::Path> = std::path::Path::new("/").into();
    assert_eq!(station.open(root, "".into()).await, Ok(true));
    assert_eq!(station.report(Celsius(3.0), room()).await, Ok(true));
    for nested in [None, Some(None), Some(Some(1))] {
        let unit = nested.map(|_| ());
        assert_eq!(station.maybe(nested, unit).await, Ok((nested, unit)));
    }
}

fn travels<T: Wire>() {}

#[test]
fn works() {
    travels::<Pair>();
    travels::<Page<Shape>>();
    travels::<LibraryMsg>();
}

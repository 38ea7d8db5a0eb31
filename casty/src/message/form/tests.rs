//! The form of the message enums, beside what serde's derives make of the same enum.

use std::collections::BTreeMap;

use casty::prelude::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{pack, unpack};
use crate::message::codec::{decode, to_vec};

#[derive(Default)]
struct Shelf;

#[actor]
impl Shelf {
    #[message]
    fn put(&mut self, item: String, count: u32, note: Option<String>) {
        let _ = (item, count, note);
    }

    #[message(name = "all")]
    fn list(&self) {}

    #[message]
    fn found(&mut self, #[serde(default)] r#where: Vec<u8>) {
        let _ = r#where;
    }

    #[message(internal)]
    fn tick(&mut self) {}
}

/// What serde's derives make of the same enum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Derived {
    #[serde(rename = "put")]
    Put {
        item: String,
        count: u32,
        note: Option<String>,
    },
    #[serde(rename = "all")]
    List {},
    #[serde(rename = "found")]
    Found {
        #[serde(default)]
        r#where: Vec<u8>,
    },
}

fn twin(derived: &Derived) -> ShelfMsg {
    match derived {
        Derived::Put { item, count, note } => ShelfMsg::Put {
            item: item.clone(),
            count: *count,
            note: note.clone(),
        },
        Derived::List {} => ShelfMsg::List {},
        Derived::Found { r#where } => ShelfMsg::Found {
            r#where: r#where.clone(),
        },
    }
}

fn derived(message: ShelfMsg) -> Derived {
    match message {
        ShelfMsg::Put { item, count, note } => Derived::Put { item, count, note },
        ShelfMsg::List {} => Derived::List {},
        ShelfMsg::Found { r#where } => Derived::Found { r#where },
        ShelfMsg::Tick {} => unreachable!("it has no wire form"),
    }
}

fn packed(message: &ShelfMsg) -> Option<Vec<u8>> {
    let mut out = vec![1, 2];
    let result = pack(message, &mut out);
    assert_eq!(out[..2], [1, 2]);
    // After an error nothing is left behind.
    assert!(result.is_ok() || out.len() == 2);
    result.ok().map(|()| out.split_off(2))
}

fn any_message() -> impl Strategy<Value = Derived> {
    prop_oneof![
        (any::<String>(), any::<u32>(), any::<Option<String>>())
            .prop_map(|(item, count, note)| Derived::Put { item, count, note }),
        Just(Derived::List {}),
        any::<Vec<u8>>().prop_map(|r#where| Derived::Found { r#where }),
    ]
}

proptest! {
    #[test]
    fn the_form_is_the_one_that_serdes_derives_give(message in any_message()) {
        let bytes = to_vec(&message).unwrap();
        prop_assert_eq!(&to_vec(&twin(&message)).unwrap(), &bytes);
        prop_assert_eq!(&packed(&twin(&message)).unwrap(), &bytes);
        prop_assert_eq!(&derived(decode::<ShelfMsg>(&bytes).unwrap()), &message);
        prop_assert_eq!(derived(unpack::<ShelfMsg>(&bytes).unwrap()), message);
    }

    /// A byte is changed, lost, or added. Both ways of reading see the same message, or none.
    #[test]
    fn damaged_messages_are_read_the_same_way_in_place(
        message in any_message(),
        at in any::<proptest::sample::Index>(),
        damage in 0..3,
        byte in any::<u8>(),
    ) {
        let mut bytes = to_vec(&message).unwrap();
        let at = at.index(bytes.len());
        match damage {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, byte),
        }
        let (in_place, by_serde) = (unpack::<ShelfMsg>(&bytes), decode::<ShelfMsg>(&bytes));
        prop_assert_eq!(in_place.ok().map(derived), by_serde.ok().map(derived));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (read, by_serde) = (decode::<ShelfMsg>(&bytes), decode::<Derived>(&bytes));
        prop_assert!(read.is_err() || by_serde.is_ok());
        let in_place = unpack::<ShelfMsg>(&bytes);
        prop_assert_eq!(in_place.ok().map(derived), read.ok().map(derived));
    }
}

/// Values of several types in one map.
#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Number(u32),
    Text(&'static str),
}

fn read(
    message: &str,
    fields: impl IntoIterator<Item = (&'static str, Value)>,
) -> Result<Derived, String> {
    let fields: BTreeMap<_, _> = fields.into_iter().collect();
    let bytes = to_vec(&BTreeMap::from([(message, fields)])).unwrap();
    let by_serde = decode::<ShelfMsg>(&bytes)
        .map(derived)
        .map_err(|error| error.0);
    let in_place = unpack::<ShelfMsg>(&bytes)
        .map(derived)
        .map_err(|error| error.0);
    assert_eq!(in_place, by_serde);
    in_place
}

#[test]
fn fields_come_in_any_order_and_unknown_ones_are_skipped() {
    let fields = [
        ("zzz", Value::Text("newer")),
        ("item", Value::Text("pen")),
        ("count", Value::Number(3)),
        ("aaa", Value::Number(1)),
    ];
    let expected = Derived::Put {
        item: "pen".to_owned(),
        count: 3,
        note: None,
    };
    assert_eq!(read("put", fields), Ok(expected));
}

#[test]
fn a_field_that_is_missing_is_an_error_unless_it_has_a_default() {
    let error = read("put", [("item", Value::Text("pen"))]).unwrap_err();
    assert!(error.contains("missing field `count`"), "{error}");
    let empty = Derived::Found { r#where: vec![] };
    assert_eq!(read("found", []), Ok(empty));
}

#[test]
fn a_field_that_comes_twice_is_an_error() {
    // {"found": {"where": [], "where": []}}
    let mut bytes = vec![0x81, 0xa5];
    bytes.extend(b"found");
    bytes.push(0x82);
    for _ in 0..2 {
        bytes.push(0xa5);
        bytes.extend(b"where");
        bytes.push(0x90);
    }
    let error = decode::<ShelfMsg>(&bytes).unwrap_err();
    assert!(error.0.contains("duplicate field `where`"), "{error}");
    let in_place = unpack::<ShelfMsg>(&bytes).unwrap_err();
    assert_eq!(in_place.0, error.0);
}

#[test]
fn unknown_and_internal_messages_are_errors() {
    let error = read("unheard_of", []).unwrap_err();
    assert!(error.contains("unheard_of"), "{error}");
    assert!(read("tick", []).is_err());
    assert!(to_vec(&ShelfMsg::Tick {}).is_err());
    assert_eq!(packed(&ShelfMsg::Tick {}), None);
}

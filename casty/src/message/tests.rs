//! What comes back of a value that travels.

use std::{collections::BTreeMap, fmt::Debug};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned, ser::SerializeStruct};

use super::codec::{decode, to_vec};

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = to_vec(value).unwrap();
    assert_eq!(&decode::<T>(&bytes).unwrap(), value, "{bytes:02x?}");
}

type Maybe<T> = Option<T>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nothing(());

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Page<T> {
    next: Option<T>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    page: Page<Maybe<u8>>,
    #[serde(flatten)]
    rest: BTreeMap<String, Option<Maybe<u8>>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Page(Page<Maybe<u8>>),
    Bare(Maybe<Maybe<()>>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Page(Page<Maybe<()>>),
    Named { is: Maybe<Nothing> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "is")]
enum Adjacent {
    One(Maybe<Maybe<u8>>),
    Two((), Maybe<Marker>),
}

#[test]
fn a_some_stays_a_some_whatever_is_in_it() {
    comes_back(&[None, Some(None), Some(Some(3_u8))]);
    comes_back(&[None, Some(None), Some(Some(None)), Some(Some(Some(())))]);
    comes_back(&[Page { next: None }, Page { next: Some(()) }]);
    comes_back(&[None, Some(Nothing(()))]);
    comes_back(&[None, Some(Marker)]);
    comes_back(&[None, Some(Some(Nothing(())))]);
    comes_back(&BTreeMap::from([(None, Some(())), (Some(()), None)]));
    comes_back(&Some(Box::new(Some(std::cell::Cell::new(None::<u8>)))));
    let values = [serde_json::Value::Null, serde_json::json!({"a": [null]})];
    for value in values {
        comes_back(&Some(Some(value)));
    }
    comes_back(&None::<serde_json::Value>);
}

#[test]
fn a_some_stays_a_some_where_serde_buffers_a_value() {
    for next in [None, Some(None), Some(Some(7))] {
        let page = Page { next };
        let rest = BTreeMap::from([
            ("none".to_owned(), None),
            ("some".to_owned(), Some(next.flatten())),
        ]);
        comes_back(&Untagged::Page(page.clone()));
        comes_back(&Adjacent::One(page.next));
        comes_back(&Flat { page, rest });
    }
    for next in [None, Some(None), Some(Some(()))] {
        comes_back(&Untagged::Bare(next));
        comes_back(&Tagged::Page(Page { next }));
    }
    comes_back(&Tagged::Named {
        is: Some(Nothing(())),
    });
    comes_back(&Adjacent::Two((), Some(Marker)));
}

/// Any value of serde's model that has more than one way to be nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Unit,
    Empty {},
    Nil(()),
    Newtype(Nothing),
    Marker(Marker),
    Number(i64),
    Natural(u64),
    Real(f64),
    Text(String),
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    Huge(u128, i128),
    Char(char),
    Maybe(Option<Box<Tree>>),
    Maybes(Maybe<Maybe<Maybe<Box<Tree>>>>),
    Page(Page<()>),
    Pages(Page<Page<Option<Nothing>>>),
    Flat(Flat),
    Untagged(Untagged),
    Tagged(Option<Tagged>),
    Adjacent(Option<Adjacent>),
    List(Vec<Option<Tree>>),
    Map(BTreeMap<Option<String>, Option<Tree>>),
    Pair(Option<()>, Box<Option<Tree>>),
    Named {
        left: Option<Box<Tree>>,
        right: Maybe<Maybe<()>>,
    },
}

fn maybe<T: Debug + Clone>(
    value: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Maybe<Maybe<T>>> {
    proptest::option::of(proptest::option::of(value))
}

fn any_leaf() -> impl Strategy<Value = Tree> {
    let nothing = Just(Nothing(()));
    prop_oneof![
        Just(Tree::Unit),
        Just(Tree::Empty {}),
        Just(Tree::Nil(())),
        Just(Tree::Newtype(Nothing(()))),
        Just(Tree::Marker(Marker)),
        any::<i64>().prop_map(Tree::Number),
        any::<u64>().prop_map(Tree::Natural),
        any::<f64>()
            .prop_filter("comparable", |real| !real.is_nan())
            .prop_map(Tree::Real),
        any::<String>().prop_map(Tree::Text),
        any::<Vec<u8>>().prop_map(Tree::Bytes),
        any::<(u128, i128)>().prop_map(|(one, two)| Tree::Huge(one, two)),
        any::<char>().prop_map(Tree::Char),
        any::<Option<()>>().prop_map(|next| Tree::Page(Page { next })),
        proptest::option::of(maybe(nothing.clone()))
            .prop_map(|next| next.map(|next| Page { next }))
            .prop_map(|next| {
                let next = next.map(|page| Page {
                    next: page.next.flatten().map(Some),
                });
                Tree::Pages(Page { next })
            }),
        (maybe(any::<u8>()), maybe(any::<u8>())).prop_map(|(next, more)| {
            let rest = BTreeMap::from([("more".to_owned(), more)]);
            Tree::Flat(Flat {
                page: Page { next },
                rest,
            })
        }),
        maybe(any::<u8>()).prop_map(|next| Tree::Untagged(Untagged::Page(Page { next }))),
        maybe(Just(())).prop_map(|bare| Tree::Untagged(Untagged::Bare(bare))),
        proptest::option::of(maybe(Just(())))
            .prop_map(|next| Tree::Tagged(next.map(|next| Tagged::Page(Page { next })))),
        proptest::option::of(nothing).prop_map(|is| Tree::Tagged(Some(Tagged::Named { is }))),
        maybe(any::<u8>()).prop_map(|one| Tree::Adjacent(Some(Adjacent::One(one)))),
        proptest::option::of(Just(Marker))
            .prop_map(|marker| Tree::Adjacent(Some(Adjacent::Two((), marker)))),
    ]
}

fn any_tree() -> impl Strategy<Value = Tree> {
    any_leaf().prop_recursive(6, 64, 8, |tree| {
        let boxed = tree.clone().prop_map(Box::new);
        let tree = proptest::option::of(tree);
        prop_oneof![
            proptest::option::of(boxed.clone()).prop_map(Tree::Maybe),
            proptest::option::of(maybe(boxed.clone())).prop_map(Tree::Maybes),
            proptest::collection::vec(tree.clone(), 0..20).prop_map(Tree::List),
            proptest::collection::btree_map(any::<Option<String>>(), tree.clone(), 0..8)
                .prop_map(Tree::Map),
            (any::<Option<()>>(), tree).prop_map(|(left, right)| Tree::Pair(left, right.into())),
            (proptest::option::of(boxed), any::<Option<Option<()>>>())
                .prop_map(|(left, right)| Tree::Named { left, right }),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_comes_back_as_it_was(tree in any_tree()) {
        let bytes = to_vec(&tree).unwrap();
        prop_assert_eq!(&decode::<Tree>(&bytes).unwrap(), &tree);
        // In a field of a message, of which nothing but its extent is known.
        prop_assert_eq!(super::packed::value(&bytes), Some((&bytes[..], &[][..])));
        // A newer version has more fields; an older one skips them.
        decode::<serde::de::IgnoredAny>(&bytes).unwrap();
    }

    /// Where nothing is lost, the form is that of other programs that speak MessagePack.
    #[test]
    fn the_form_is_the_one_that_rmp_serde_gives_unless_it_would_lose_a_some(tree in any_tree()) {
        let (bytes, other) = (to_vec(&tree).unwrap(), rmp_serde::to_vec_named(&tree).unwrap());
        if rmp_serde::from_slice::<Tree>(&other).is_ok_and(|read| read == tree) {
            prop_assert_eq!(&bytes, &other);
        }
        prop_assert_eq!(decode::<Tree>(&other).ok(), rmp_serde::from_slice::<Tree>(&other).ok());
    }

    #[test]
    fn damaged_values_never_panic(
        tree in any_tree(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = to_vec(&tree).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode::<Tree>(&bytes);
        let _ = decode::<Tree>(&bytes[..at]);
        let _ = decode::<serde_json::Value>(&bytes);
    }
}

/// Ways in which a value can stand in a value of the same type.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Nest {
    End,
    Newtype(Box<Nest>),
    Tuple(u8, Box<Nest>),
    Named { of: Box<Nest> },
    List(Vec<Nest>),
    Maybe(Option<Box<Nest>>),
}

/// Nothing but `Some`s: on the wire, no matter how many, they take three bytes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

fn nested<T>(levels: usize, end: T, around: impl Fn(T) -> T) -> T {
    (0..levels).fold(end, |inner, _| around(inner))
}

#[test]
fn a_value_that_a_sender_can_write_can_be_read_by_every_receiver() {
    let ways: [fn(Nest) -> Nest; 5] = [
        |of| Nest::Newtype(of.into()),
        |of| Nest::Tuple(0, of.into()),
        |of| Nest::Named { of: of.into() },
        |of| Nest::List(vec![of]),
        |of| Nest::Maybe(Some(of.into())),
    ];
    for around in ways {
        let (mut written, mut refused) = (0, 0);
        for levels in 0..400 {
            let value = nested(levels, Nest::End, around);
            match to_vec(&value) {
                Ok(bytes) => {
                    assert_eq!(decode::<Nest>(&bytes).unwrap(), value);
                    written += 1;
                }
                Err(error) => {
                    assert!(error.0.contains("nests too deep"), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(written > 60 && refused > 100, "{written} {refused}");
    }
    for levels in 0..400 {
        let chain = nested(levels, Chain(None), |inner| Chain(Some(inner.into())));
        match to_vec(&chain) {
            Ok(bytes) => assert_eq!(decode::<Chain>(&bytes).unwrap(), chain),
            Err(error) => assert!(levels > 200, "{levels}: {error}"),
        }
    }
}

#[test]
fn a_value_a_million_levels_deep_is_an_error_and_overflows_no_stack() {
    // Made while they are written: dropping such a value would overflow the stack by itself.
    struct Seqs(u32);
    impl Serialize for Seqs {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.0.checked_sub(1).map(Self))
        }
    }
    struct Somes(u32);
    impl Serialize for Somes {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0.checked_sub(1) {
                Some(left) => serializer.serialize_some(&Self(left)),
                None => serializer.serialize_none(),
            }
        }
    }
    struct Variants(u32);
    impl Serialize for Variants {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0.checked_sub(1) {
                Some(left) => serializer.serialize_newtype_variant("V", 0, "v", &Self(left)),
                None => serializer.serialize_unit_variant("V", 1, "w"),
            }
        }
    }
    for refused in [
        to_vec(&Seqs(1_000_000)),
        to_vec(&Somes(1_000_000)),
        to_vec(&Variants(1_000_000)),
    ] {
        assert!(refused.unwrap_err().0.contains("nests too deep"));
    }
}

#[test]
fn bytes_that_a_recursive_type_would_read_for_ever_are_an_error() {
    // One byte, which is not nil: a `Some` of a `Some` of a `Some`, without an end.
    assert!(
        decode::<Chain>(&[1])
            .unwrap_err()
            .0
            .contains("nests too deep")
    );
    let mut variants: Vec<u8> = [0x81, 0xa7].to_vec();
    variants.extend(b"Newtype");
    assert!(
        decode::<Nest>(&variants.repeat(100_000))
            .unwrap_err()
            .0
            .contains("nests too deep")
    );
}

#[test]
fn a_container_that_announces_another_length_than_it_has_is_written_as_it_is() {
    struct Miscounted;
    impl Serialize for Miscounted {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("Miscounted", 20)?;
            fields.serialize_field("next", &Some(()))?;
            fields.end()
        }
    }
    let bytes = to_vec(&(1, Miscounted, 2)).unwrap();
    let read = decode::<(u8, Page<()>, u8)>(&bytes).unwrap();
    assert_eq!(read, (1, Page { next: Some(()) }, 2));
}

#[test]
fn an_extension_of_messagepack_is_an_error_at_its_sender() {
    #[derive(Serialize)]
    #[serde(rename = "_ExtStruct")]
    struct Extension((i8, serde_bytes::ByteBuf));
    let bytes = serde_bytes::ByteBuf::from([1]);
    let error = to_vec(&Extension((7, bytes))).unwrap_err();
    assert!(error.0.contains("extensions"), "{error}");
    assert!(decode::<u8>(&[0xd4, 7, 1]).is_err());
    assert!(decode::<Option<u8>>(&[0xd4, 7, 1]).is_err());
    assert!(decode::<Option<()>>(&[0xd4, 0, 0]).is_err());
}

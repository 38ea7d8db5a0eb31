//! The wire form of the generated message enums.
//!
//! The form is the one that serde's derives would give the enum: externally tagged, with named
//! fields. The derives cost more to compile: each message gets two visitors of its own, and each
//! visitor compiles the whole of rmp's dispatch once more. Here an enum has one visitor for all its
//! messages, and the loop over the fields is compiled once for a format: it knows the fields as
//! [`Slot`]s behind `dyn`.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer, Serialize, Serializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IgnoredAny, MapAccess, Unexpected, VariantAccess,
        Visitor,
    },
    ser::{Error as _, SerializeStructVariant},
};

use super::wire::Wire;

/// A message enum as its wire form sees it. Generated.
pub trait MessageForm: Sized {
    /// The enum's name. Formats that name types show it; MessagePack does not.
    const NAME: &'static str;
    /// The wire names of the messages, without the internal ones.
    const MESSAGES: &'static [&'static str];
    /// The names of each message's fields, in the order of `MESSAGES`.
    const FIELDS: &'static [&'static [&'static str]];

    /// Reads the fields of the message at `index` of `MESSAGES`.
    fn read<'de, M: MapAccess<'de>>(index: usize, fields: &mut M) -> Result<Self, M::Error>;
}

/// Reads a message.
pub fn read_message<'de, F: MessageForm, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<F, D::Error> {
    deserializer.deserialize_enum(F::NAME, F::MESSAGES, MessageVisitor(PhantomData))
}

/// There is no message at an index that no visitor gives.
pub fn no_message<F, E: serde::de::Error>(index: usize) -> Result<F, E> {
    Err(E::custom(format_args!("there is no message {index}")))
}

struct MessageVisitor<F>(PhantomData<F>);

impl<'de, F: MessageForm> Visitor<'de> for MessageVisitor<F> {
    type Value = F;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enum {}", F::NAME)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<F, A::Error> {
        let (index, fields) = data.variant_seed(VariantName(F::MESSAGES))?;
        let visitor = FieldsVisitor {
            index,
            form: PhantomData,
        };
        fields.struct_variant(F::FIELDS.get(index).copied().unwrap_or_default(), visitor)
    }
}

struct FieldsVisitor<F> {
    index: usize,
    form: PhantomData<F>,
}

impl<'de, F: MessageForm> Visitor<'de> for FieldsVisitor<F> {
    type Value = F;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = F::MESSAGES.get(self.index).copied().unwrap_or_default();
        write!(f, "the named fields of {}::{name}", F::NAME)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<F, M::Error> {
        F::read(self.index, &mut map)
    }
}

/// Reads the name of a message as its position; an unknown name is an error.
struct VariantName(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for VariantName {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        let Self(names) = self;
        match deserializer.deserialize_identifier(NameVisitor(names))? {
            Ok(position) => Ok(position),
            Err(unknown) => Err(D::Error::unknown_variant(&unknown, names)),
        }
    }
}

/// Reads the name of a field as its position; `None` for an unknown name, which is skipped.
struct FieldName(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        let position = deserializer.deserialize_identifier(NameVisitor(self.0))?;
        Ok(position.ok())
    }
}

/// The position of a name, or the unknown name.
struct NameVisitor(&'static [&'static str]);

impl Visitor<'_> for NameVisitor {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let position = self.0.iter().position(|known| *known == name);
        Ok(position.ok_or_else(|| name.to_owned()))
    }

    fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        match std::str::from_utf8(name) {
            Ok(name) => self.visit_str(name),
            Err(_) => Err(E::invalid_value(Unexpected::Bytes(name), &self)),
        }
    }
}

/// A field of a message that is being read.
#[derive(Debug)]
pub struct Slot<T> {
    name: &'static str,
    value: Option<T>,
}

/// The field of that name, not read yet.
pub const fn slot<T: Wire>(name: &'static str) -> Slot<T> {
    Slot { name, value: None }
}

impl<T: Wire> Slot<T> {
    /// The value, or an error if the message came without it. An `Option` is `None` then.
    pub fn take<E: serde::de::Error>(self) -> Result<T, E> {
        match self.value {
            Some(value) => Ok(value),
            None => T::deserialize(Missing {
                field: self.name,
                error: PhantomData,
            }),
        }
    }
}

impl<T: Default> Slot<T> {
    /// The value, or the default if the message came without it.
    pub fn take_or_default(self) -> T {
        self.value.unwrap_or_default()
    }
}

/// A [`Slot`] of any type, read from a map of the kind `M`.
pub trait Fill<'de, M: MapAccess<'de>> {
    /// Reads the value from the map's present entry.
    fn fill(&mut self, map: &mut M) -> Result<(), M::Error>;
}

impl<'de, T: Wire, M: MapAccess<'de>> Fill<'de, M> for Slot<T> {
    fn fill(&mut self, map: &mut M) -> Result<(), M::Error> {
        if self.value.is_some() {
            return Err(M::Error::duplicate_field(self.name));
        }
        self.value = Some(map.next_value()?);
        Ok(())
    }
}

/// Reads all fields, in any order. `slots` are those of `names`, in the same order.
pub fn fill<'de, M: MapAccess<'de>>(
    names: &'static [&'static str],
    slots: &mut [&mut dyn Fill<'de, M>],
    fields: &mut M,
) -> Result<(), M::Error> {
    while let Some(position) = fields.next_key_seed(FieldName(names))? {
        match position.and_then(|position| slots.get_mut(position)) {
            Some(slot) => slot.fill(fields)?,
            None => {
                fields.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(())
}

/// What a field is read from that did not come: an `Option` reads `None`, all others an error.
struct Missing<E> {
    field: &'static str,
    error: PhantomData<E>,
}

impl<'de, E: serde::de::Error> Deserializer<'de> for Missing<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, E> {
        Err(E::missing_field(self.field))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A field's value of any type, as a message of the kind `S` takes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel in a message",
    label = "not serializable"
)]
pub trait Put<S: SerializeStructVariant> {
    /// Writes the field.
    fn put(&self, name: &'static str, message: &mut S) -> Result<(), S::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize, S: SerializeStructVariant> Put<S> for T {
    fn put(&self, name: &'static str, message: &mut S) -> Result<(), S::Error> {
        message.serialize_field(name, self)
    }
}

/// Writes the message at `index` of [`MessageForm::MESSAGES`].
pub fn write_message<F: MessageForm, S: Serializer>(
    index: u32,
    values: &[&dyn Put<S::SerializeStructVariant>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    write(F::NAME, (index, F::MESSAGES, F::FIELDS), values, serializer)
}

fn write<S: Serializer>(
    name: &'static str,
    (index, messages, fields): (u32, &[&'static str], &[&'static [&'static str]]),
    values: &[&dyn Put<S::SerializeStructVariant>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let (message, fields) = match (messages.get(index as usize), fields.get(index as usize)) {
        (Some(message), Some(fields)) => (*message, *fields),
        _ => return Err(S::Error::custom("there is no such message")),
    };
    let mut written = serializer.serialize_struct_variant(name, index, message, values.len())?;
    for (field, value) in fields.iter().zip(values) {
        value.put(field, &mut written)?;
    }
    written.end()
}

/// An internal message never leaves the process.
pub fn write_internal<S: Serializer>(_: S) -> Result<S::Ok, S::Error> {
    Err(S::Error::custom("an internal message has no wire form"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use crate::{
        message::codec::{decode, to_vec},
        prelude::*,
    };

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
            prop_assert_eq!(derived(decode::<ShelfMsg>(&bytes).unwrap()), message);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (read, by_serde) = (decode::<ShelfMsg>(&bytes), decode::<Derived>(&bytes));
            prop_assert!(read.is_err() || by_serde.is_ok());
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
        decode::<ShelfMsg>(&bytes)
            .map(derived)
            .map_err(|error| error.0)
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
    }

    #[test]
    fn unknown_and_internal_messages_are_errors() {
        let error = read("unheard_of", []).unwrap_err();
        assert!(error.contains("unheard_of"), "{error}");
        assert!(read("tick", []).is_err());
        assert!(to_vec(&ShelfMsg::Tick {}).is_err());
    }
}

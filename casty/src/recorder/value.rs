//! Values without their types: what a recording has of messages, replies and states, for people.

use std::fmt::{self, Write as _};

use serde::{
    Deserialize, Deserializer,
    de::{EnumAccess, Error as _, MapAccess, SeqAccess, Visitor},
};

use crate::message::codec;

/// How many characters of a value are shown.
const SHOWN_MAX: usize = 2000;

/// A value as its encoding shows it: names of fields and variants, and no types.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nothing,
    Bool(bool),
    Natural(u64),
    Whole(i64),
    Real(f64),
    Text(String),
    Bytes(usize),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// Whether the bytes say the same, with the entries of maps in any order.
    pub(super) fn are_same(one: &[u8], other: &[u8]) -> bool {
        let values = Self::of_state(one).zip(Self::of_state(other));
        values.is_some_and(|(one, other)| one.is_same(&other))
    }

    /// Whether it is the same, with the entries of maps in any order.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(one), Self::List(other)) => {
                let pairs = one.iter().zip(other);
                one.len() == other.len() && pairs.into_iter().all(|(a, b)| a.is_same(b))
            }
            (Self::Map(one), Self::Map(other)) => {
                let has = |(name, value): &(Self, Self)| {
                    let found = other.iter().find(|(it, _)| it == name);
                    found.is_some_and(|(_, it)| value.is_same(it))
                };
                one.len() == other.len() && one.iter().all(has)
            }
            (one, other) => one == other,
        }
    }

    /// A message, or a reply.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes).ok()
    }

    /// A state. That of a machine with common data is two values, and the length of the first.
    pub(crate) fn of_state(bytes: &[u8]) -> Option<Self> {
        Self::of(bytes).or_else(|| {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (common, state) = rest.split_at_checked(length)?;
            let text = |name: &str| Self::Text(name.to_owned());
            Some(Self::Map(vec![
                (text("common"), Self::of(common)?),
                (text("state"), Self::of(state)?),
            ]))
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        show(self, &mut shown);
        match shown.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => write!(f, "{}…", &shown[..end]),
            None => f.write_str(&shown),
        }
    }
}

fn show(value: &Value, out: &mut String) {
    if out.len() > SHOWN_MAX * 4 {
        return;
    }
    match value {
        Value::Nothing => out.push_str("none"),
        Value::Bool(truth) => out.push_str(&truth.to_string()),
        Value::Natural(number) => out.push_str(&number.to_string()),
        Value::Whole(number) => out.push_str(&number.to_string()),
        Value::Real(number) => out.push_str(&number.to_string()),
        Value::Text(text) => {
            let _ = write!(out, "{text:?}");
        }
        Value::Bytes(length) => {
            let _ = write!(out, "{length} bytes");
        }
        Value::List(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                show(value, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (at, (name, value)) in entries.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                match name {
                    Value::Text(name) => {
                        let _ = write!(out, "{}", name.escape_debug());
                    }
                    other => show(other, out),
                }
                out.push_str(": ");
                show(value, out);
            }
            out.push('}');
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        Value::deserialize(inner)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Natural(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(u64::try_from(number).map_or(Value::Whole(number), Value::Natural))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Real(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.len()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = values.next_element()? {
            all.push(value);
        }
        Ok(Value::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            all.push(entry);
        }
        Ok(Value::Map(all))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("a variant is a map, or a text"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct Account {
        owner: &'static str,
        balance: i64,
        limit: Option<u32>,
        entries: Vec<i64>,
        notes: BTreeMap<u8, bool>,
    }

    fn account(balance: i64, limit: Option<u32>) -> Value {
        let account = Account {
            owner: "ada",
            balance,
            limit,
            entries: vec![1, balance],
            notes: BTreeMap::from([(7, true)]),
        };
        Value::of(&codec::to_vec(&account).unwrap()).unwrap()
    }

    #[test]
    fn a_value_is_shown_with_its_names() {
        assert_eq!(
            account(-3, None).to_string(),
            r#"{owner: "ada", balance: -3, limit: none, entries: [1, -3], notes: {7: true}}"#
        );
        let long = Value::Text("x".repeat(SHOWN_MAX * 2)).to_string();
        assert_eq!(long.chars().count(), SHOWN_MAX + 1);
    }

    #[test]
    fn the_state_of_a_machine_with_common_data_is_two_values() {
        let common = codec::to_vec(&7_u8).unwrap();
        let mut bytes = u32::try_from(common.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(common);
        bytes.extend(codec::to_vec("open").unwrap());
        let state = Value::of_state(&bytes).unwrap();
        assert_eq!(state.to_string(), r#"{common: 7, state: "open"}"#);
    }
}

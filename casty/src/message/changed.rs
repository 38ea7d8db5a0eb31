//! Which fields of an encoded state have changed since an earlier encoding of it.
//!
//! Nothing is decoded: a field is what MessagePack says of it. The changes, applied to the earlier
//! encoding, give the later one byte for byte; where they would not, there are none.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use rmp::encode::{write_map_len, write_str};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    codec::DecodeError,
    packed,
    readable::{self, LENGTH_BYTES},
};

/// How deep changes are looked for: in the fields of a state, and in the entries of a field that is
/// a map or a struct.
const DEPTH: usize = 2;

/// About what an entry takes besides its bytes.
const OVERHEAD: usize = 6;

const NIL: u8 = 0xc0;

/// What to change in an encoded map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangedFields {
    /// Fields with other values.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    set: Vec<(ByteBuf, ByteBuf)>,
    /// Fields in which something has changed.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    within: Vec<(ByteBuf, ChangedFields)>,
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<ByteBuf>,
    /// New fields, each with its place among all that there are afterwards, in ascending order.
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<(u32, ByteBuf, ByteBuf)>,
}

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

type NewFields<'a> = Vec<(&'a [u8], Cow<'a, [u8]>)>;

/// The fields of a map that takes up all of `bytes`.
fn entries(bytes: &[u8]) -> Option<Fields<'_>> {
    let (count, mut rest) = packed::map(bytes)?;
    // Each entry takes two bytes at least.
    let mut entries = Vec::with_capacity(count.min(bytes.len() / 2));
    for _ in 0..count {
        let (key, after) = packed::value(rest)?;
        let (value, after) = packed::value(after)?;
        entries.push((key, value));
        rest = after;
    }
    rest.is_empty().then_some(entries)
}

fn map_of<V: AsRef<[u8]>>(entries: &[(&[u8], V)]) -> Vec<u8> {
    let sizes = entries
        .iter()
        .map(|(key, value)| key.len() + value.as_ref().len());
    let mut out = Vec::with_capacity(sizes.sum::<usize>() + 5);
    // No encoding has more entries. And a `Vec` takes all that is written.
    let _ = write_map_len(&mut out, u32::try_from(entries.len()).unwrap_or(u32::MAX));
    for (key, value) in entries {
        out.extend_from_slice(key);
        out.extend_from_slice(value.as_ref());
    }
    out
}

/// A string, encoded.
fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1);
    // Likewise.
    let _ = write_str(&mut out, text);
    out
}

fn inconsistent() -> DecodeError {
    DecodeError("it changes fields of a state that has others".to_owned())
}

impl ChangedFields {
    /// What has changed since `old`; `None` if that cannot be said by fields, or takes as many
    /// bytes as `new`.
    pub(crate) fn since(old: &[u8], new: &[u8]) -> Option<Self> {
        let changed = match (readable::with_common(old), readable::with_common(new)) {
            (Some((common, state)), Some((new_common, new_state)))
                if entries(old).is_none() && entries(new).is_none() =>
            {
                let mut changed = Self::default();
                changed.within("common", Self::between(common, new_common, DEPTH)?);
                changed.within("state", Self::between(state, new_state, DEPTH)?);
                changed
            }
            _ => Self::between(old, new, DEPTH)?,
        };
        (changed.size() < new.len()).then_some(changed)
    }

    fn within(&mut self, name: &str, changed: Self) {
        if changed != Self::default() {
            self.within.push((ByteBuf::from(text(name)), changed));
        }
    }

    fn between(old: &[u8], new: &[u8], depth: usize) -> Option<Self> {
        let (old, new) = (entries(old)?, entries(new)?);
        let before: HashMap<_, _> = old.iter().copied().collect();
        let after: HashSet<_> = new.iter().map(|(key, _)| *key).collect();
        if before.len() != old.len() || after.len() != new.len() {
            return None;
        }
        let stays = old.iter().filter(|(key, _)| after.contains(key));
        let stayed = new.iter().filter(|(key, _)| before.contains_key(key));
        if !stays.map(|(key, _)| key).eq(stayed.map(|(key, _)| key)) {
            // Types may give the order of a map a meaning.
            return None;
        }
        let mut changed = Self::default();
        for (at, (key, value)) in new.into_iter().enumerate() {
            let name = || ByteBuf::from(key);
            match before.get(key) {
                Some(was) if *was == value => {}
                Some(was) => match Self::between_values(was, value, depth - 1) {
                    Some(within) => changed.within.push((name(), within)),
                    None => changed.set.push((name(), ByteBuf::from(value))),
                },
                None => {
                    let at = u32::try_from(at).ok()?;
                    changed.added.push((at, name(), ByteBuf::from(value)));
                }
            }
        }
        let gone = old.iter().filter(|(key, _)| !after.contains(key));
        changed.gone = gone.map(|(key, _)| ByteBuf::from(*key)).collect();
        Some(changed)
    }

    fn between_values(old: &[u8], new: &[u8], depth: usize) -> Option<Self> {
        let within = (depth > 0)
            .then(|| Self::between(old, new, depth))
            .flatten();
        within.filter(|within| within.size() < new.len())
    }

    /// About how many bytes it takes.
    fn size(&self) -> usize {
        let set = self.set.iter().map(|(key, value)| key.len() + value.len());
        let within = self
            .within
            .iter()
            .map(|(key, changed)| key.len() + changed.size());
        let added = self
            .added
            .iter()
            .map(|(_, key, value)| key.len() + value.len());
        let gone = self.gone.iter().map(|key| key.len());
        let sizes = set.chain(within).chain(added).chain(gone);
        sizes.map(|bytes| bytes + OVERHEAD).sum()
    }

    /// The later encoding.
    ///
    /// # Errors
    /// If `old` is not the earlier one.
    pub(crate) fn apply(&self, old: &[u8]) -> Result<Vec<u8>, DecodeError> {
        if let Some(old) = entries(old) {
            return self.apply_to(&old);
        }
        let (common, state) = readable::with_common(old).ok_or_else(inconsistent)?;
        let names = [text("common"), text("state")];
        let is_part = |key: &ByteBuf| names.iter().any(|name| **key == name[..]);
        let has_own = !(self.set.is_empty() && self.gone.is_empty() && self.added.is_empty());
        if has_own || !self.within.iter().all(|(key, _)| is_part(key)) {
            return Err(inconsistent());
        }
        let part = |name: &str, old: &[u8]| {
            let name = text(name);
            let changed = self.within.iter().find(|(key, _)| **key == name[..]);
            match changed {
                Some((_, changed)) => changed.apply_to(&entries(old).ok_or_else(inconsistent)?),
                None => Ok(old.to_vec()),
            }
        };
        let (common, state) = (part("common", common)?, part("state", state)?);
        let length = u32::try_from(common.len()).map_err(|_| inconsistent())?;
        let length: [u8; LENGTH_BYTES] = length.to_be_bytes();
        Ok([&length[..], &common, &state].concat())
    }

    fn apply_to(&self, old: &[(&[u8], &[u8])]) -> Result<Vec<u8>, DecodeError> {
        let set: HashMap<&[u8], _> = self.set.iter().map(|(k, v)| (&k[..], &v[..])).collect();
        let within: HashMap<&[u8], _> = self.within.iter().map(|(k, v)| (&k[..], v)).collect();
        let gone: HashSet<&[u8]> = self.gone.iter().map(|key| &key[..]).collect();
        let mut left = set.len() + within.len() + gone.len();
        let mut new: NewFields<'_> = Vec::with_capacity(old.len());
        for (key, value) in old.iter().copied() {
            let value = if let Some(set) = set.get(key) {
                Cow::from(*set)
            } else if let Some(changed) = within.get(key) {
                Cow::from(changed.apply_to(&entries(value).ok_or_else(inconsistent)?)?)
            } else if gone.contains(key) {
                left = left.checked_sub(1).ok_or_else(inconsistent)?;
                continue;
            } else {
                new.push((key, Cow::from(value)));
                continue;
            };
            left = left.checked_sub(1).ok_or_else(inconsistent)?;
            new.push((key, value));
        }
        if left > 0 {
            return Err(inconsistent());
        }
        Ok(map_of(&self.with_added(new)?))
    }

    /// Puts the new fields in their places.
    fn with_added<'a>(&'a self, stayed: NewFields<'a>) -> Result<NewFields<'a>, DecodeError> {
        if self.added.is_empty() {
            return Ok(stayed);
        }
        let mut all = Vec::with_capacity(stayed.len() + self.added.len());
        let mut stayed = stayed.into_iter();
        for (at, key, value) in &self.added {
            let at = usize::try_from(*at).unwrap_or(usize::MAX);
            let before = at.checked_sub(all.len()).ok_or_else(inconsistent)?;
            all.extend(stayed.by_ref().take(before));
            if all.len() != at {
                return Err(inconsistent());
            }
            all.push((&key[..], Cow::from(&value[..])));
        }
        all.extend(stayed);
        Ok(all)
    }

    /// The changed fields as an encoded map. Fields that are gone are nil.
    pub(crate) fn to_map(&self) -> Vec<u8> {
        let within: Vec<_> = self
            .within
            .iter()
            .map(|(k, changed)| (k, changed.to_map()))
            .collect();
        let set = self.set.iter().map(|(key, value)| (&key[..], &value[..]));
        let within = within.iter().map(|(key, value)| (&key[..], &value[..]));
        let added = self
            .added
            .iter()
            .map(|(_, key, value)| (&key[..], &value[..]));
        let gone = self.gone.iter().map(|key| (&key[..], &[NIL][..]));
        map_of(
            &set.chain(within)
                .chain(added)
                .chain(gone)
                .collect::<Fields<'_>>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::message::codec::{decode, to_vec};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Cart {
        owner: String,
        items: BTreeMap<String, u32>,
        note: Option<String>,
    }

    fn cart() -> Cart {
        Cart {
            owner: "alice, who buys for the whole of the house".to_owned(),
            items: (0..100)
                .map(|item| (format!("item {item}"), item))
                .collect(),
            note: None,
        }
    }

    fn changes(change: impl FnOnce(&mut Cart)) -> (ChangedFields, usize) {
        let mut cart = cart();
        let old = to_vec(&cart).unwrap();
        change(&mut cart);
        let new = to_vec(&cart).unwrap();
        let changed = ChangedFields::since(&old, &new).expect("they are smaller");
        let encoded = to_vec(&changed).unwrap();
        let read: ChangedFields = decode(&encoded).unwrap();
        assert_eq!(read.apply(&old).unwrap(), new);
        (changed, encoded.len())
    }

    #[test]
    fn only_what_has_changed_is_written() {
        let (changed, bytes) = changes(|cart| cart.note = Some("today".to_owned()));
        assert!(bytes < 30, "{bytes}");
        let shown = readable::json(&changed.to_map()).unwrap();
        assert_eq!(shown, r#"{"note":"today"}"#);
    }

    #[test]
    fn one_entry_of_a_map_is_written_alone() {
        let (changed, bytes) = changes(|cart| {
            cart.items.insert("item 50".to_owned(), 7);
            cart.items.insert("item 500".to_owned(), 8);
            cart.items.remove("item 51");
        });
        assert!(bytes < 120, "{bytes}");
        let shown = readable::json(&changed.to_map()).unwrap();
        assert_eq!(
            shown,
            r#"{"items":{"item 50":7,"item 500":8,"item 51":null}}"#
        );
    }

    #[test]
    fn a_machine_with_common_data_has_fields_of_both() {
        let with_common = |common: &Cart, state: &Cart| {
            let common = to_vec(common).unwrap();
            let length = u32::try_from(common.len()).unwrap().to_be_bytes();
            [&length[..], &common, &to_vec(state).unwrap()].concat()
        };
        let mut changed = cart();
        changed.owner = "bob".to_owned();
        let old = with_common(&cart(), &cart());
        for new in [
            with_common(&changed, &cart()),
            with_common(&cart(), &changed),
        ] {
            let since = ChangedFields::since(&old, &new).unwrap();
            assert!(since.size() < 40);
            assert_eq!(since.apply(&old).unwrap(), new);
        }
    }

    #[test]
    fn changes_of_another_state_are_an_error() {
        let (changed, _) = changes(|cart| cart.note = Some("today".to_owned()));
        assert!(changed.apply(&to_vec(&7).unwrap()).is_err());
        let other = to_vec(&BTreeMap::from([("owner", 1)])).unwrap();
        assert!(changed.apply(&other).is_err());
        let common = to_vec(&cart()).unwrap();
        let length = u32::try_from(common.len()).unwrap().to_be_bytes();
        let with_common = [&length[..], &common, &common].concat();
        assert!(changed.apply(&with_common).is_err());
    }

    #[test]
    fn what_is_no_map_has_no_fields() {
        let of = |old: &[u8], new: &[u8]| ChangedFields::since(old, new);
        assert_eq!(of(&to_vec(&1).unwrap(), &to_vec(&2).unwrap()), None);
        assert_eq!(of(&[], &[]), None);
    }

    type Nested = Vec<(String, Vec<(String, u8)>)>;

    /// Maps with an order of their own.
    fn encoded(nested: &Nested) -> Vec<u8> {
        let text = |text: &String| to_vec(text).unwrap();
        let inner = |map: &Vec<(String, u8)>| {
            let entries: Vec<_> = map
                .iter()
                .map(|(k, v)| (text(k), to_vec(v).unwrap()))
                .collect();
            map_of(
                &entries
                    .iter()
                    .map(|(k, v)| (&k[..], &v[..]))
                    .collect::<Vec<_>>(),
            )
        };
        let entries: Vec<_> = nested.iter().map(|(k, v)| (text(k), inner(v))).collect();
        map_of(
            &entries
                .iter()
                .map(|(k, v)| (&k[..], &v[..]))
                .collect::<Vec<_>>(),
        )
    }

    fn nested() -> impl Strategy<Value = Nested> {
        let inner = proptest::collection::vec(("[a-d]", 0..3_u8), 0..6);
        proptest::collection::vec(("[a-d]", inner), 0..6)
    }

    proptest! {
        #[test]
        fn changes_give_the_later_state_byte_for_byte(old in nested(), new in nested()) {
            let (old, new) = (encoded(&old), encoded(&new));
            if let Some(changed) = ChangedFields::since(&old, &new) {
                prop_assert_eq!(&changed.apply(&old).unwrap(), &new);
                prop_assert!(entries(&changed.to_map()).is_some());
            }
            if let Some(changed) = ChangedFields::between(&old, &new, DEPTH) {
                prop_assert_eq!(&changed.apply(&old).unwrap(), &new);
            }
        }

        #[test]
        fn changes_of_random_states_never_panic(
            old in proptest::collection::vec(any::<u8>(), 0..60),
            new in proptest::collection::vec(any::<u8>(), 0..60),
            one in nested(),
            other in nested(),
        ) {
            let _ = ChangedFields::since(&old, &new);
            if let Some(changed) = ChangedFields::between(&encoded(&one), &encoded(&other), DEPTH) {
                let _ = changed.apply(&old);
            }
        }
    }
}

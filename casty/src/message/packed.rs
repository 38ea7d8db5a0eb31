//! MessagePack in place: where a string, a map or any value begins and ends. Nothing is decoded.

/// A string at the beginning: its bytes, which may be no UTF-8, and what follows.
#[inline]
pub(super) fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&marker, rest) = bytes.split_first()?;
    let (length, rest) = match marker {
        0xa0..=0xbf => (usize::from(marker & 0x1f), rest),
        0xd9 => number(rest, 1)?,
        0xda => number(rest, 2)?,
        0xdb => number(rest, 4)?,
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A map at the beginning: how many entries it has, and the first of them.
#[inline]
pub(super) fn map(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&marker, rest) = bytes.split_first()?;
    match marker {
        0x80..=0x8f => Some((usize::from(marker & 0x0f), rest)),
        0xde => number(rest, 2),
        0xdf => number(rest, 4),
        _ => None,
    }
}

/// A value of any kind at the beginning, and what follows.
#[inline]
pub(super) fn value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // Each value takes a byte at least, so the loop ends with the bytes, whatever they claim.
    let (mut left, mut rest) = (1_usize, bytes);
    while left > 0 {
        let (&marker, after) = rest.split_first()?;
        let ((skipped, values), after) = match marker {
            // Small numbers, nil and booleans.
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => ((0, 0), after),
            0x80..=0x8f => ((0, usize::from(marker & 0x0f) * 2), after),
            0x90..=0x9f => ((0, usize::from(marker & 0x0f)), after),
            0xa0..=0xbf => ((usize::from(marker & 0x1f), 0), after),
            // Numbers of one, two, four and eight bytes.
            0xcc..=0xd3 => ((1 << (marker & 3), 0), after),
            0xca | 0xcb => ((4 << (marker & 1), 0), after),
            // Bytes and strings with their length.
            0xc4..=0xc6 => sized(after, 1 << (marker - 0xc4), 0)?,
            0xd9..=0xdb => sized(after, 1 << (marker - 0xd9), 0)?,
            // Extensions: of one to sixteen bytes, or with their length. A byte says of which type.
            0xd4..=0xd8 => ((1 + (1 << (marker - 0xd4)), 0), after),
            0xc7..=0xc9 => sized(after, 1 << (marker - 0xc7), 1)?,
            // Arrays and maps with their length.
            0xdc | 0xdd => many(after, 2 << (marker & 1), 1)?,
            0xde | 0xdf => many(after, 2 << (marker & 1), 2)?,
            0xc1 => return None,
        };
        rest = after.get(skipped..)?;
        left = (left - 1).checked_add(values)?;
    }
    Some(bytes.split_at(bytes.len() - rest.len()))
}

/// So many bytes, to be skipped, and no values.
type Extent<'a> = ((usize, usize), &'a [u8]);

/// A length of `width` bytes, and `more` bytes besides.
fn sized(bytes: &[u8], width: usize, more: usize) -> Option<Extent<'_>> {
    let (length, rest) = number(bytes, width)?;
    Some(((length.checked_add(more)?, 0), rest))
}

/// A count of `width` bytes of entries with `each` so many values.
fn many(bytes: &[u8], width: usize, each: usize) -> Option<Extent<'_>> {
    let (count, rest) = number(bytes, width)?;
    Some(((0, count.checked_mul(each)?), rest))
}

/// A number of `width` bytes, four at most.
fn number(bytes: &[u8], width: usize) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_at_checked(width)?;
    let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
    Some((number.iter().fold(0, add), rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::message::codec::to_vec;

    #[derive(Clone, Debug, Serialize)]
    #[serde(untagged)]
    enum Any {
        Nil(()),
        Truth(bool),
        Whole(i64),
        Natural(u64),
        Real(f64),
        Short(f32),
        Text(String),
        #[serde(with = "serde_bytes")]
        Bytes(Vec<u8>),
        List(Vec<Any>),
        Map(BTreeMap<String, Any>),
    }

    fn any_value() -> impl Strategy<Value = Any> {
        let leaf = prop_oneof![
            Just(Any::Nil(())),
            any::<bool>().prop_map(Any::Truth),
            any::<i64>().prop_map(Any::Whole),
            any::<u64>().prop_map(Any::Natural),
            any::<f64>().prop_map(Any::Real),
            any::<f32>().prop_map(Any::Short),
            proptest::collection::vec(any::<char>(), 0..400)
                .prop_map(|text| Any::Text(text.into_iter().collect())),
            proptest::collection::vec(any::<u8>(), 0..400).prop_map(Any::Bytes),
        ];
        leaf.prop_recursive(3, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Any::List),
                proptest::collection::btree_map("[a-z]{1,40}", inner, 0..20).prop_map(Any::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_ends_where_its_encoder_ended(
            one in any_value(),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let encoded = to_vec(&one).unwrap();
            let bytes = [&encoded[..], &rest[..]].concat();
            prop_assert_eq!(value(&bytes), Some((&encoded[..], &rest[..])));
            for end in 0..encoded.len() {
                prop_assert_eq!(value(&encoded[..end]), None);
            }
            match &one {
                Any::Text(written) => {
                    prop_assert_eq!(text(&bytes), Some((written.as_bytes(), &rest[..])));
                }
                Any::Map(entries) => {
                    prop_assert_eq!(map(&bytes).map(|(count, _)| count), Some(entries.len()));
                }
                _ => {
                    prop_assert_eq!(text(&bytes), None);
                    prop_assert_eq!(map(&bytes), None);
                }
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (text(&bytes), map(&bytes), value(&bytes));
        }
    }

    #[test]
    fn extensions_end_after_their_type_and_bytes() {
        for (marker, length) in (0xd4_u8..=0xd8).zip([1, 2, 4, 8, 16]) {
            let bytes = [vec![marker, 7], vec![0; length], vec![1]].concat();
            assert_eq!(value(&bytes), Some(bytes.split_at(2 + length)));
        }
        for (marker, length) in [
            (0xc7_u8, vec![3]),
            (0xc8, vec![0, 3]),
            (0xc9, vec![0, 0, 0, 3]),
        ] {
            let bytes = [vec![marker], length.clone(), vec![7, 1, 2, 3, 9]].concat();
            assert_eq!(value(&bytes), Some(bytes.split_at(bytes.len() - 1)));
        }
        assert_eq!(value(&[0xc1, 0]), None, "never used");
    }

    #[test]
    fn a_count_that_the_bytes_do_not_bear_out_is_no_value() {
        assert_eq!(value(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0]), None);
        assert_eq!(value(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0x90]), None);
        let deep = vec![0x91; 10_000];
        assert_eq!(value(&deep), None);
    }
}

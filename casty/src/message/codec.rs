//! MessagePack with named fields, bounded both ways.
//!
//! Fields are named, because two versions that talk to each other may add, remove or move fields.
//! In positional arrays, reordered fields would swap their values unnoticed.

use std::cell::Cell;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use super::error::{DecodeError, EncodeError};
use super::{decoder::Decoder, encoder::Encoder, packed};
use crate::infra::panic;

/// Appends `value` to `out`. After an error `out` is as long as before.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let written = value.serialize(&mut Encoder::new(out));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Encodes into a new buffer.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    encode(value, &mut out)?;
    Ok(out)
}

/// Encodes by a user's code, and returns what that returns, with the bytes. A panic of it is an
/// error.
pub(crate) fn by_user(
    encode: &mut dyn FnMut(&mut Vec<u8>) -> Result<&'static str, EncodeError>,
) -> Result<(&'static str, Vec<u8>), EncodeError> {
    let mut bytes = Vec::new();
    let encoded = panic::caught(|| encode(&mut bytes));
    let panicked = |text| Err(EncodeError(format!("encoding it panicked: {text}")));
    Ok((encoded.unwrap_or_else(panicked)?, bytes))
}

/// Reads exactly one value that takes up all of `bytes`.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder)?;
    match decoder.rest {
        [] => Ok(value),
        _ => Err(left_over()),
    }
}

/// Reads a value at the beginning of `bytes`, and returns what follows it.
pub(crate) fn decode_first<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
) -> Result<(T, &'de [u8]), DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder)?;
    Ok((value, decoder.rest))
}

/// The value does not take up all bytes.
pub(super) fn left_over() -> DecodeError {
    DecodeError("bytes are left over after the value".to_owned())
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Scratch buffers larger than this are given back to the allocator after use.
const SCRATCH_BYTES_KEPT: usize = 64 * 1024;

/// Fills a buffer of this thread and passes it to `use_bytes`.
///
/// Shared buffers are locked only while finished bytes are copied, never while a user's `Serialize`
/// runs: it may panic, take long, or encode something itself (then it gets a fresh buffer).
#[inline]
pub(crate) fn with_scratch<R>(
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    use_bytes: impl FnOnce(&[u8]) -> R,
) -> Result<R, EncodeError> {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    let result = fill(&mut buffer).map(|()| use_bytes(&buffer));
    if buffer.capacity() <= SCRATCH_BYTES_KEPT {
        SCRATCH.set(buffer);
    }
    result
}

/// The name of the variant that an encoded message starts with, for logs and dead letters.
///
/// An externally tagged enum is a map of one entry, or a bare string.
pub(crate) fn variant_name(bytes: &[u8]) -> Option<&str> {
    let name = match packed::map(bytes) {
        Some((1, entry)) => entry,
        _ => bytes,
    };
    let (name, _) = packed::text(name)?;
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Msg {
        #[serde(rename = "increment")]
        Increment { amount: i64 },
        #[serde(rename = "value")]
        Value {},
        #[serde(rename = "with_default")]
        WithDefault {
            #[serde(default)]
            note: Option<String>,
            #[serde(default)]
            times: u32,
        },
    }

    #[derive(Serialize)]
    enum NewerMsg {
        #[serde(rename = "increment")]
        Increment { reason: &'static str, amount: i64 },
        #[serde(rename = "unheard_of")]
        UnheardOf {},
        #[serde(rename = "with_default")]
        WithDefault {},
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Nested(Vec<Nested>);

    fn newer(message: &NewerMsg) -> Result<Msg, DecodeError> {
        decode(&to_vec(message).unwrap())
    }

    #[test]
    fn an_unknown_field_is_skipped() {
        let sent = NewerMsg::Increment {
            reason: "gift",
            amount: 3,
        };
        assert_eq!(newer(&sent).unwrap(), Msg::Increment { amount: 3 });
    }

    #[test]
    fn a_missing_field_takes_its_default() {
        let got = newer(&NewerMsg::WithDefault {}).unwrap();
        assert_eq!(
            got,
            Msg::WithDefault {
                note: None,
                times: 0
            }
        );
    }

    #[test]
    fn a_missing_field_without_default_is_an_error_that_names_it() {
        let bytes = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([(
            "increment",
            std::collections::BTreeMap::<&str, i64>::new(),
        )]));
        let error = decode::<Msg>(&bytes.unwrap()).unwrap_err();
        assert!(error.0.contains("amount"), "{error}");
    }

    #[test]
    fn an_unknown_variant_is_an_error_that_names_it() {
        let error = newer(&NewerMsg::UnheardOf {}).unwrap_err();
        assert!(error.0.contains("unheard_of"), "{error}");
    }

    #[test]
    fn ten_thousand_levels_of_nesting_are_an_error() {
        let mut bytes = vec![0x91; 10_000];
        bytes.push(0x90);
        assert!(decode::<Nested>(&bytes).is_err());
        assert!(decode::<serde::de::IgnoredAny>(&bytes).is_err());
    }

    /// Nothing, or something around another one.
    #[derive(Debug, Serialize, Deserialize)]
    struct Maybe(Option<Box<Maybe>>);

    #[test]
    fn what_can_be_read_can_be_written() {
        let somes = |number: u8| [0xd4, 0, number];
        let most: Maybe = decode(&somes(250)).unwrap();
        assert_eq!(to_vec(&most).unwrap(), somes(250));
        assert!(decode::<Maybe>(&somes(251)).is_err());
        // Bytes in place of a sequence, which is as deep as a sequence.
        let nested = |depth: usize| [vec![0x91; depth], vec![0xc4, 0]].concat();
        let most: Nested = decode(&nested(63)).unwrap();
        assert!(to_vec(&most).is_ok());
        assert!(decode::<Nested>(&nested(64)).is_err());
    }

    #[test]
    fn a_lying_length_is_an_error_and_allocates_nothing_like_it() {
        // An array of 4 billion elements and a string of 4 billion bytes, with nothing behind the
        // lengths.
        assert!(decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decode::<String>(&[0xdb, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decode::<serde_bytes::ByteBuf>(&[0xc6, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn a_lying_length_leads_to_no_room_for_what_is_not_there() {
        struct Room;
        impl<'de> Deserialize<'de> for Room {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Self)
            }
        }
        impl<'de> serde::de::Visitor<'de> for Room {
            type Value = Self;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("entries")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Self, A::Error> {
                assert_eq!(seq.size_hint(), Some(2));
                Ok(self)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self, A::Error> {
                assert_eq!(map.size_hint(), Some(2));
                Ok(self)
            }
        }
        for marker in [0xdd, 0xdf] {
            let lie = [marker, 0xff, 0xff, 0xff, 0xff, 1, 2];
            assert!(decode::<Room>(&lie).is_err(), "there are more than two");
        }
    }

    #[test]
    fn an_error_quotes_no_more_of_the_bytes_than_fits_a_line() {
        let name = "forged\n".repeat(100_000);
        let error = decode::<Msg>(&to_vec(&name).unwrap()).unwrap_err().0;
        assert!(error.contains("unknown variant `forged\\n"), "{error}");
        assert!(error.len() < 1024 && !error.contains('\n'), "{error}");
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let mut bytes = to_vec(&Msg::Value {}).unwrap();
        bytes.push(0xc0);
        let error = decode::<Msg>(&bytes).unwrap_err();
        assert!(error.0.contains("left over"), "{error}");
    }

    #[test]
    fn the_variant_can_be_read_without_decoding() {
        assert_eq!(
            variant_name(&to_vec(&Msg::Increment { amount: 1 }).unwrap()),
            Some("increment")
        );
        assert_eq!(variant_name(&to_vec("plain").unwrap()), Some("plain"));
        assert_eq!(variant_name(&[0x81, 0xbf, b'x']), None);
        assert_eq!(variant_name(&[]), None);
    }

    #[test]
    fn a_failed_encoding_leaves_the_buffer_as_it_was() {
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        let mut out = vec![1, 2];
        assert!(encode(&("text", Refuses), &mut out).is_err());
        assert_eq!(out, [1, 2]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(amount: i64) {
            let message = Msg::Increment { amount };
            prop_assert_eq!(decode::<Msg>(&to_vec(&message).unwrap()).unwrap(), message);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Msg>(&bytes);
            let _ = decode::<Nested>(&bytes);
            let _ = variant_name(&bytes);
        }

        #[test]
        fn truncated_messages_are_errors(amount: i64, cut in 0usize..100) {
            let bytes = to_vec(&Msg::Increment { amount }).unwrap();
            let cut = cut % bytes.len();
            prop_assert!(decode::<Msg>(&bytes[..cut]).is_err());
        }
    }
}

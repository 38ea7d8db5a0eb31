//! The stored form of events whose enum serde's derives write.
//!
//! An event is stored as a map of its arguments; its name stands beside it. Serde's derives put the
//! name before the map. All other enums of events are written by [`form`](super::form).

use serde::{Serialize, de::DeserializeOwned};

use super::{
    codec::{self, DecodeError, EncodeError},
    packed,
};

/// The first byte of a map with one entry.
const MAP_OF_ONE: u8 = 0x81;

/// Appends the arguments of an event: what stands after its name.
pub fn pack_event<V: Serialize>(event: &V, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let take_fields = |whole: &[u8]| {
        let fields = packed::map(whole).and_then(|(_, entry)| packed::text(entry));
        let Some((_, fields)) = fields else {
            return Err(EncodeError("an event has no named fields".to_owned()));
        };
        out.extend_from_slice(fields);
        Ok(())
    };
    codec::with_scratch(|whole| codec::encode(event, whole), take_fields)?
}

/// Reads the arguments of an event that serde's derives call `name`.
pub fn unpack_event<V: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<V, DecodeError> {
    let mut whole = Vec::with_capacity(name.len() + bytes.len() + 8);
    whole.push(MAP_OF_ONE);
    codec::encode(name, &mut whole).map_err(|EncodeError(reason)| DecodeError(reason))?;
    whole.extend_from_slice(bytes);
    codec::decode(&whole)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Change {
        #[serde(rename = "withdrawn")]
        Withdrawn {
            #[serde(rename = "cents")]
            amount: u64,
        },
    }

    #[test]
    fn the_arguments_are_a_map_by_name() {
        let mut bytes = Vec::new();
        pack_event(&Change::Withdrawn { amount: 5 }, &mut bytes).unwrap();
        let map: std::collections::BTreeMap<String, u64> = codec::decode(&bytes).unwrap();
        assert_eq!(map, [("cents".to_owned(), 5)].into());
        let read: Change = unpack_event("withdrawn", &bytes).unwrap();
        assert_eq!(read, Change::Withdrawn { amount: 5 });
        assert!(unpack_event::<Change>("deposited", &bytes).is_err());
    }
}

//! What a record says: the part of it that a store does not look into.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    message::{
        changed::ChangedFields,
        codec::{self, DecodeError, EncodeError},
    },
    persistence::keys::KeyedReply,
};

/// What one handled message has changed, and what is remembered of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordBody {
    /// Of an event-sourced type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<WrittenEvent>,
    /// Of a durable type, and of a snapshot: the whole state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<WrittenState>,
    /// Of a durable type: what has changed in the state since the record before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fields: Option<ChangedFields>,
    /// The key that the asker gave, and the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<KeyedReply>,
    /// Of a snapshot: the answers that are remembered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<KeyedReply>,
    /// Of a snapshot: the position of the last record that it contains.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) position: u64,
    /// Of a snapshot: the number of the last record that was forgotten before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) forgotten: u64,
    /// The entity begins anew after this record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) erases: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An event, encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenEvent {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) bytes: ByteBuf,
}

/// A state, encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenState {
    /// The name of the present state, if the type is a state machine.
    pub(crate) name: String,
    pub(crate) bytes: ByteBuf,
}

impl RecordBody {
    pub(crate) fn encode(&self) -> Result<Bytes, EncodeError> {
        // One allocation, of the right size.
        codec::with_scratch(|out| codec::encode(self, out), Bytes::copy_from_slice)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }
}

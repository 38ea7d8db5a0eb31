//! What a record says: the part of it that a store does not look into.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    infra::mutants,
    message::{
        changed::ChangedFields,
        codec::{self, DecodeError, EncodeError},
    },
    persistence::{
        journal::BODY_BYTES_MAX,
        keys::KeyedReply,
        reminders::{KeptReminder, ReminderChange},
        sends::{Ledger, TakenSend, WrittenSend},
    },
    trace::{self, TraceContext},
};

/// Why what an entity has changed cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwritable {
    #[error("{0}")]
    Encode(String),
    #[error(transparent)]
    TooLarge(#[from] RecordTooLarge),
    #[error(transparent)]
    OutboxFull(#[from] OutboxFull),
}

impl From<String> for Unwritable {
    fn from(reason: String) -> Self {
        Self::Encode(reason)
    }
}

/// A record or a snapshot would have too many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {bytes} bytes, and at most {BODY_BYTES_MAX} are stored")]
pub(crate) struct RecordTooLarge {
    pub(crate) bytes: usize,
}

/// Too many sends of a shard wait for their receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} sends of its shard wait for their receivers")]
pub(crate) struct OutboxFull {
    pub(crate) waiting: usize,
}

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
    /// What leaves for other entities once the record is durable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sends: Vec<WrittenSend>,
    /// The send by which the record came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) taken: Option<TakenSend>,
    /// Of a snapshot, and of the record after one that erases: the last send that was taken from
    /// each shard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) last_taken: Vec<TakenSend>,
    /// What has changed of the entity's reminders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reminders: Vec<ReminderChange>,
    /// Of a snapshot: the reminders of the entity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) kept_reminders: Vec<KeptReminder>,
    /// Of a record of the shard itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ledger: Option<Ledger>,
    /// The span of the handler that has made the record, if that is sampled.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "trace::written"
    )]
    pub(crate) trace: Option<Box<TraceContext>>,
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
    /// # Errors
    /// The error of the codec, or that it is longer than [`BODY_BYTES_MAX`].
    pub(crate) fn encode(&self) -> Result<Bytes, Unwritable> {
        // One allocation, of the right size.
        let encoded = codec::with_scratch(|out| codec::encode(self, out), Bytes::copy_from_slice);
        let encoded = encoded.map_err(|EncodeError(reason)| Unwritable::Encode(reason))?;
        let bytes = encoded.len();
        if bytes > BODY_BYTES_MAX && !mutants::on("bodies_have_any_length") {
            return Err(Unwritable::TooLarge(RecordTooLarge { bytes }));
        }
        Ok(encoded)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_could_not_be_copied_is_refused() {
        let body = |bytes: usize| RecordBody {
            state: Some(WrittenState {
                name: String::new(),
                bytes: vec![7; bytes].into(),
            }),
            ..RecordBody::default()
        };
        let least = body(0).encode().expect("short").len();
        let most = BODY_BYTES_MAX - least - 8;
        assert!(
            body(most)
                .encode()
                .is_ok_and(|it| it.len() <= BODY_BYTES_MAX)
        );
        let refused = body(BODY_BYTES_MAX).encode();
        assert!(
            matches!(refused, Err(Unwritable::TooLarge(it)) if it.bytes > BODY_BYTES_MAX),
            "{:?}",
            refused.map(|it| it.len())
        );
        mutants::breaking("bodies_have_any_length", || {
            assert!(body(BODY_BYTES_MAX).encode().is_ok());
        });
    }
}

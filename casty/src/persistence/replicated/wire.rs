//! Messages of one store to another, as they travel: all of a turn in one frame.
//!
//! Appends and confirmations are most of them, and each command of an entity takes some. They are
//! written by position; the version of the protocol between nodes says which form it is. All other
//! messages are written by names, as calls between nodes are.

use std::{str, sync::Arc};

use bytes::{Buf, BufMut, Bytes, TryGetError};
use uuid::Uuid;

use super::message::{CopyEnvelope, StoreMessage};
use crate::{
    id::Epoch,
    message::codec::{self, DecodeError, EncodeError},
    protocol::copies::{Append, CopiedRecord, CopyMessage, LogPoint, StoreId},
};

// What comes next.
const KIND: u8 = 0;
const APPEND: u8 = 1;
const CONFIRM: u8 = 2;
const OTHER: u8 = 3;

/// The mark of a record whose epoch is that of the append, as nearly all are.
const SAME_EPOCH: u8 = 0;
const OTHER_EPOCH: u8 = 1;

/// Why bytes are no messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoMessages {
    #[error("they are shorter than they say")]
    Short,
    #[error("the name of an entity type is not UTF-8")]
    Kind,
    #[error("a message comes before the name of its entity type")]
    NoKind,
    #[error("form {0} is not known")]
    Form(u8),
    #[error(transparent)]
    Other(#[from] DecodeError),
}

impl From<TryGetError> for NoMessages {
    fn from(_: TryGetError) -> Self {
        Self::Short
    }
}

/// Writes messages to one store, beginning with the first, until they have about so many bytes.
/// Returns how many it has written, at least one.
///
/// # Errors
/// [`EncodeError`], for the first message.
pub(crate) fn encode(
    envelopes: &[CopyEnvelope],
    bytes: usize,
    out: &mut Vec<u8>,
) -> Result<usize, EncodeError> {
    let Some(first) = envelopes.first() else {
        return Ok(0);
    };
    out.put_slice(first.from.0.as_bytes());
    out.put_slice(first.to.0.as_bytes());
    let mut kind: Option<&Arc<str>> = None;
    for (count, envelope) in envelopes.iter().enumerate() {
        if count > 0 && out.len() + envelope.weight() > bytes {
            return Ok(count);
        }
        let start = out.len();
        if kind.is_none_or(|kind| *kind != envelope.kind) {
            out.put_u8(KIND);
            put_length(out, envelope.kind.len());
            out.put_slice(envelope.kind.as_bytes());
            kind = Some(&envelope.kind);
        }
        if let Err(error) = put(envelope, out) {
            out.truncate(start);
            // The next frame begins with it.
            return if count > 0 { Ok(count) } else { Err(error) };
        }
    }
    Ok(envelopes.len())
}

fn put(envelope: &CopyEnvelope, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match &envelope.message {
        StoreMessage::Copy(CopyMessage::Append(append)) => {
            out.put_u8(APPEND);
            out.put_u32(envelope.shard);
            out.put_u64(append.epoch.0);
            out.put_u64(append.life.0);
            out.put_u64(append.start);
            out.put_u64(append.prev.position);
            out.put_u64(append.prev.epoch.0);
            put_length(out, append.records.len());
            for record in &append.records {
                if record.epoch == append.epoch {
                    out.put_u8(SAME_EPOCH);
                } else {
                    out.put_u8(OTHER_EPOCH);
                    out.put_u64(record.epoch.0);
                }
                put_length(out, record.body.len());
                out.put_slice(&record.body);
            }
        }
        StoreMessage::Copy(CopyMessage::Confirm { epoch, position }) => {
            out.put_u8(CONFIRM);
            out.put_u32(envelope.shard);
            out.put_u64(epoch.0);
            out.put_u64(*position);
        }
        other => {
            out.put_u8(OTHER);
            out.put_u32(envelope.shard);
            let length = out.len();
            out.put_u32(0);
            codec::encode(other, out)?;
            let encoded = out.len() - length - 4;
            let encoded = u32::try_from(encoded).unwrap_or(u32::MAX);
            out[length..length + 4].copy_from_slice(&encoded.to_be_bytes());
        }
    }
    Ok(())
}

/// A frame has fewer bytes than 32 bits can count: a longer one is refused, whatever is in it.
fn put_length(out: &mut Vec<u8>, length: usize) {
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Reads what [`encode`] has written. The bodies of records share its memory.
///
/// # Errors
/// [`NoMessages`].
pub(crate) fn decode(mut bytes: Bytes) -> Result<Vec<CopyEnvelope>, NoMessages> {
    let from = store(&mut bytes)?;
    let to = store(&mut bytes)?;
    let mut envelopes = Vec::new();
    let mut kind: Option<Arc<str>> = None;
    while bytes.has_remaining() {
        let form = bytes.get_u8();
        if form == KIND {
            let name = part(&mut bytes)?;
            let name = str::from_utf8(&name).map_err(|_| NoMessages::Kind)?;
            kind = Some(Arc::from(name));
            continue;
        }
        let kind = kind.clone().ok_or(NoMessages::NoKind)?;
        let shard = bytes.try_get_u32()?;
        let message = match form {
            APPEND => StoreMessage::Copy(CopyMessage::Append(append(&mut bytes)?)),
            CONFIRM => StoreMessage::Copy(CopyMessage::Confirm {
                epoch: Epoch(bytes.try_get_u64()?),
                position: bytes.try_get_u64()?,
            }),
            OTHER => codec::decode(&part(&mut bytes)?)?,
            other => return Err(NoMessages::Form(other)),
        };
        envelopes.push(CopyEnvelope {
            kind,
            shard,
            from,
            to,
            message,
        });
    }
    Ok(envelopes)
}

fn append(bytes: &mut Bytes) -> Result<Append, NoMessages> {
    /// The fewest bytes of a record.
    const RECORD_MIN: usize = 1 + 4;
    let epoch = Epoch(bytes.try_get_u64()?);
    let life = Epoch(bytes.try_get_u64()?);
    let start = bytes.try_get_u64()?;
    let prev = LogPoint {
        position: bytes.try_get_u64()?,
        epoch: Epoch(bytes.try_get_u64()?),
    };
    let count = bytes.try_get_u32()? as usize;
    if count > bytes.len() / RECORD_MIN {
        return Err(NoMessages::Short);
    }
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let epoch = match bytes.try_get_u8()? {
            SAME_EPOCH => epoch,
            OTHER_EPOCH => Epoch(bytes.try_get_u64()?),
            other => return Err(NoMessages::Form(other)),
        };
        let body = part(bytes)?;
        records.push(CopiedRecord { epoch, body });
    }
    Ok(Append {
        epoch,
        start,
        life,
        prev,
        records,
    })
}

fn store(bytes: &mut Bytes) -> Result<StoreId, NoMessages> {
    Ok(StoreId(Uuid::from_u128(bytes.try_get_u128()?)))
}

/// Some bytes behind their number.
fn part(bytes: &mut Bytes) -> Result<Bytes, NoMessages> {
    let length = bytes.try_get_u32()? as usize;
    if length > bytes.len() {
        return Err(NoMessages::Short);
    }
    Ok(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::replicated::message::Tidy;

    fn envelopes() -> Vec<CopyEnvelope> {
        let append = CopyMessage::Append(Append {
            epoch: Epoch(7),
            life: Epoch(2),
            start: 3,
            prev: LogPoint {
                position: 9,
                epoch: Epoch(6),
            },
            records: [(6, "older"), (7, "newer"), (7, "")]
                .map(|(epoch, body)| CopiedRecord {
                    epoch: Epoch(epoch),
                    body: Bytes::from_static(body.as_bytes()),
                })
                .into(),
        });
        let confirm = CopyMessage::Confirm {
            epoch: Epoch(7),
            position: 12,
        };
        let refused = CopyMessage::Refused { promised: Epoch(8) };
        let tidy = StoreMessage::Tidy {
            epoch: Epoch(7),
            durable: LogPoint {
                position: 11,
                epoch: Epoch(7),
            },
            number: 2,
            tidy: Tidy::Forget {
                entity: "ada".into(),
                through: 4,
            },
        };
        let messages = [
            ("Account", 1, StoreMessage::Copy(append)),
            ("Account", 2, StoreMessage::Copy(confirm)),
            ("Order", 2, StoreMessage::Copy(refused)),
            ("Order", 3, tidy),
        ];
        let messages = messages.into_iter();
        let messages = messages.map(|(kind, shard, message)| CopyEnvelope {
            kind: kind.into(),
            shard,
            from: StoreId(Uuid::from_u128(1)),
            to: StoreId(Uuid::from_u128(2)),
            message,
        });
        messages.collect()
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let (written, mut bytes) = (envelopes(), Vec::new());
        assert_eq!(encode(&written, usize::MAX, &mut bytes).ok(), Some(4));
        assert_eq!(decode(bytes.into()).unwrap(), written);
    }

    #[test]
    fn a_frame_ends_before_it_is_too_long_and_has_one_message_at_least() {
        let written = envelopes();
        let (mut left, mut read) = (&written[..], Vec::new());
        while !left.is_empty() {
            let mut bytes = Vec::new();
            let count = encode(left, 1, &mut bytes).unwrap();
            assert_eq!(count, 1);
            read.extend(decode(bytes.into()).unwrap());
            left = &left[count..];
        }
        assert_eq!(read, written);
    }

    #[test]
    fn what_a_peer_sends_instead_is_an_error() {
        let mut bytes = Vec::new();
        encode(&envelopes(), usize::MAX, &mut bytes).unwrap();
        let whole = Bytes::from(bytes);
        let mut ends = 0;
        for length in 0..whole.len() {
            match decode(whole.slice(..length)) {
                // Between two messages.
                Ok(read) => {
                    assert!(read.len() < 4, "{length} bytes");
                    ends += 1;
                }
                Err(error) => assert!(matches!(error, NoMessages::Short), "{error}"),
            }
        }
        // Before and behind each name of an entity type, and between messages of one type.
        assert_eq!(ends, 6);
        let mut other = whole.to_vec();
        other[32] = 9;
        assert!(matches!(
            decode(other.into()),
            Err(NoMessages::NoKind | NoMessages::Form(9))
        ));
        let mut other = whole.to_vec();
        other[32 + 5] = 0xff;
        assert!(matches!(decode(other.into()), Err(NoMessages::Kind)));
        // A number of records that no frame can have.
        let count = 32 + 5 + "Account".len() + 1 + 4 + 5 * 8;
        let mut other = whole.to_vec();
        other[count..count + 4].copy_from_slice(&[0xff; 4]);
        assert!(matches!(decode(other.into()), Err(NoMessages::Short)));
    }
}

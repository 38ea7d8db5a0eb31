//! A record of a shard's log in the form in which it is copied.

use std::{str, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use casty_log::Snapshot;

use crate::{persistence::Record, protocol::copies::CopiedRecord};

/// A record without its position and epoch, which its place in the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopiedBody {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) entity: Arc<str>,
    /// Empty once it is forgotten.
    pub(crate) body: Bytes,
    pub(crate) forgotten: Option<Forgotten>,
}

/// What stands for a record that is forgotten, and for all earlier ones of its entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// A later record of the same page says it.
    Later,
    /// A snapshot that contains the record.
    Snapshot(Snapshot),
    /// Nothing: the entity was erased.
    Erased,
}

/// Why bytes are no copied record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRecord {
    #[error("it is shorter than it says")]
    Short,
    #[error("the id of its entity is not UTF-8")]
    Entity,
    #[error("form {0} is not known")]
    Form(u8),
}

impl From<TryGetError> for NoRecord {
    fn from(_: TryGetError) -> Self {
        Self::Short
    }
}

// The form of a record.
const WHOLE: u8 = 0;
const LATER: u8 = 1;
const SNAPSHOT: u8 = 2;
const ERASED: u8 = 3;

/// A record as it is copied.
pub(crate) fn of_record(record: &Record) -> Bytes {
    let body = CopiedBody {
        seq: record.seq,
        at: record.at,
        entity: record.entity.clone().into_text(),
        body: record.body.clone(),
        forgotten: None,
    };
    body.encode()
}

/// Looks whether what a peer sends as a record is one, which can be [decoded](CopiedBody::decode).
pub(crate) fn check(record: &CopiedRecord) -> Result<(), NoRecord> {
    let mut bytes = &record.body[..];
    let form = bytes.try_get_u8()?;
    bytes.try_get_u128()?;
    let entity = usize::from(bytes.try_get_u16()?);
    let entity = bytes.get(..entity).ok_or(NoRecord::Short)?;
    str::from_utf8(entity).map_err(|_| NoRecord::Entity)?;
    let rest = bytes.len() - entity.len();
    match form {
        SNAPSHOT if rest < 16 => Err(NoRecord::Short),
        WHOLE | LATER | SNAPSHOT | ERASED => Ok(()),
        other => Err(NoRecord::Form(other)),
    }
}

impl CopiedBody {
    /// One byte for the form, the numbers, and what has a length behind it.
    pub(crate) fn encode(&self) -> Bytes {
        const NUMBERS: usize = 1 + 8 + 8 + 2 + 4;
        let snapshot = match &self.forgotten {
            Some(Forgotten::Snapshot(snapshot)) => 16 + snapshot.body.len(),
            _ => 0,
        };
        let length = NUMBERS + self.entity.len() + self.body.len() + snapshot;
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_u8(match &self.forgotten {
            None => WHOLE,
            Some(Forgotten::Later) => LATER,
            Some(Forgotten::Snapshot(_)) => SNAPSHOT,
            Some(Forgotten::Erased) => ERASED,
        });
        bytes.put_u64(self.seq);
        bytes.put_u64(self.at);
        // An id has 65,535 bytes at most: the store has refused longer ones.
        bytes.put_u16(u16::try_from(self.entity.len()).unwrap_or(u16::MAX));
        bytes.put_slice(self.entity.as_bytes());
        if let Some(Forgotten::Snapshot(snapshot)) = &self.forgotten {
            bytes.put_u64(snapshot.seq);
            bytes.put_u64(snapshot.at);
            bytes.put_slice(&snapshot.body);
        }
        bytes.put_slice(&self.body);
        bytes.freeze()
    }

    /// Reads what [`encode`](Self::encode) has written. The bodies share its memory.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, NoRecord> {
        let form = bytes.try_get_u8()?;
        let seq = bytes.try_get_u64()?;
        let at = bytes.try_get_u64()?;
        let entity = usize::from(bytes.try_get_u16()?);
        if bytes.len() < entity {
            return Err(NoRecord::Short);
        }
        let entity = bytes.split_to(entity);
        let entity = str::from_utf8(&entity).map_err(|_| NoRecord::Entity)?;
        let entity = Arc::from(entity);
        let mut body = Bytes::new();
        let forgotten = match form {
            WHOLE => {
                body = bytes;
                None
            }
            LATER => Some(Forgotten::Later),
            SNAPSHOT => Some(Forgotten::Snapshot(Snapshot {
                seq: bytes.try_get_u64()?,
                at: bytes.try_get_u64()?,
                body: bytes,
            })),
            ERASED => Some(Forgotten::Erased),
            other => return Err(NoRecord::Form(other)),
        };
        Ok(Self {
            seq,
            at,
            entity,
            body,
            forgotten,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;

    fn record(body: &'static str, forgotten: Option<Forgotten>) -> CopiedBody {
        CopiedBody {
            seq: 3,
            at: 1_700_000_000_000,
            entity: "ada".into(),
            body: Bytes::from_static(body.as_bytes()),
            forgotten,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let snapshot = Snapshot {
            seq: 9,
            at: 1,
            body: "a state".into(),
        };
        for written in [
            record("ten pence", None),
            record("", None),
            record("", Some(Forgotten::Later)),
            record("", Some(Forgotten::Snapshot(snapshot))),
            record("", Some(Forgotten::Erased)),
        ] {
            assert_eq!(CopiedBody::decode(written.encode()), Ok(written));
        }
    }

    #[test]
    fn what_a_peer_sends_instead_is_an_error() {
        let whole = record("ten pence", None).encode();
        for length in 0..(1 + 8 + 8 + 2 + 3) {
            refused(whole.slice(..length), NoRecord::Short);
        }
        let mut other = whole.to_vec();
        other[0] = 9;
        refused(other.into(), NoRecord::Form(9));
        let mut other = whole.to_vec();
        other[19] = 0xff;
        refused(other.into(), NoRecord::Entity);
        let snapshot = record(
            "",
            Some(Forgotten::Snapshot(Snapshot {
                seq: 9,
                at: 1,
                body: Bytes::new(),
            })),
        );
        let snapshot = snapshot.encode();
        refused(snapshot.slice(..snapshot.len() - 1), NoRecord::Short);
    }

    /// By both readers.
    fn refused(body: Bytes, why: NoRecord) {
        let epoch = Epoch(1);
        let record = CopiedRecord { epoch, body };
        assert_eq!(check(&record), Err(why.clone()));
        assert_eq!(CopiedBody::decode(record.body), Err(why));
    }
}

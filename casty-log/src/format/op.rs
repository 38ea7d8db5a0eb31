//! Operations: what the content of a frame says, one after the other.
//!
//! The index of a live store is made of the operations that it commits, and that of a reopened
//! store of the operations in its files, by one function: so both indexes are the same.

use super::take::{Take, put_text, text_bytes};
use crate::LogId;

const KIND: u8 = 1;
const HEAD: u8 = 2;
const CLAIM: u8 = 3;
const RECORD: u8 = 4;
const MOVED: u8 = 5;
const CUT: u8 = 6;
const TRIM: u8 = 7;
const SNAPSHOT: u8 = 8;
const FORGET: u8 = 9;
const OLDEST: u8 = 10;

/// The bytes of a [`Raw`] before the id of its entity.
pub(crate) const RAW_HEADER: usize = 56;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Kind {
        number: u32,
        shards: u32,
        name: &'a str,
    },
    /// What is known of a log as the segment begins. With it nothing before is needed but records
    /// and snapshots.
    Head {
        log: LogId,
        epoch: u64,
        owner: &'a str,
        position: u64,
        trimmed: u64,
        trimmed_epoch: u64,
    },
    Claim {
        log: LogId,
        epoch: u64,
        owner: &'a str,
    },
    Record(Raw<'a>),
    /// A record that stood in an older segment.
    Moved(Raw<'a>),
    Cut {
        log: LogId,
        after: u64,
    },
    Trim {
        log: LogId,
        through: u64,
        epoch: u64,
    },
    Snapshot(Raw<'a>),
    Forget {
        log: LogId,
        entity: &'a str,
        through: u64,
        snapshot: bool,
    },
    /// Segments before this one are not needed.
    Oldest {
        segment: u32,
    },
}

/// A record or a snapshot. It has checksums of its own, so that it can be read alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    pub(crate) log: LogId,
    /// 0 for a snapshot.
    pub(crate) position: u64,
    /// 0 for a snapshot.
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) entity: &'a str,
    pub(crate) body: &'a [u8],
}

/// What stands before the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawHeader<'a> {
    pub(crate) raw: Raw<'a>,
    pub(crate) body_bytes: u32,
    pub(crate) body_sum: u32,
}

/// The length of a record or snapshot in a file.
pub(crate) fn raw_bytes(entity: usize, body: usize) -> usize {
    RAW_HEADER + entity + body
}

impl<'a> Raw<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        // This is most of the work of a commit: the header is made aside and copied at once.
        let entity = text_bytes(self.entity);
        let body_bytes = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        let mut header = [0; RAW_HEADER];
        header[4..8].copy_from_slice(&crc32c::crc32c(self.body).to_le_bytes());
        header[8..12].copy_from_slice(&body_bytes.to_le_bytes());
        header[12..16].copy_from_slice(&self.log.kind.to_le_bytes());
        header[16..20].copy_from_slice(&self.log.shard.to_le_bytes());
        header[20..28].copy_from_slice(&self.position.to_le_bytes());
        header[28..36].copy_from_slice(&self.epoch.to_le_bytes());
        header[36..44].copy_from_slice(&self.seq.to_le_bytes());
        header[44..52].copy_from_slice(&self.at.to_le_bytes());
        let entity_bytes = u16::try_from(entity.len()).unwrap_or(u16::MAX);
        header[54..56].copy_from_slice(&entity_bytes.to_le_bytes());
        let start = out.len();
        out.reserve(raw_bytes(entity.len(), self.body.len()));
        out.extend_from_slice(&header);
        out.extend_from_slice(entity);
        let sum = crc32c::crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(self.body);
    }

    fn take(take: &mut Take<'a>) -> Option<Self> {
        let (header, _) = take_header(take)?;
        let body = take.bytes(usize::try_from(header.body_bytes).ok()?)?;
        Some(Self { body, ..header.raw })
    }

    /// The same without what it said.
    pub(crate) fn emptied(self) -> Self {
        Self { body: &[], ..self }
    }
}

/// The header, and the checksum that it claims to have.
fn take_header<'a>(take: &mut Take<'a>) -> Option<(RawHeader<'a>, u32)> {
    let header = take.array::<RAW_HEADER>()?;
    let mut fields = Take(&header);
    let (sum, body_sum, body_bytes) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let log = LogId {
        kind: fields.u32()?,
        shard: fields.u32()?,
    };
    let (position, epoch) = (fields.u64()?, fields.u64()?);
    let (seq, at) = (fields.u64()?, fields.u64()?);
    fields.u16()?;
    let entity = take.bytes(fields.u16()?.into())?;
    let raw = Raw {
        log,
        position,
        epoch,
        seq,
        at,
        entity: std::str::from_utf8(entity).ok()?,
        body: &[],
    };
    let header = RawHeader {
        raw,
        body_bytes,
        body_sum,
    };
    Some((header, sum))
}

/// Reads a header alone, and checks it.
pub(crate) fn checked_header(bytes: &[u8]) -> Option<RawHeader<'_>> {
    let mut take = Take(bytes);
    let (header, sum) = take_header(&mut take)?;
    let checked = bytes.get(4..bytes.len() - take.0.len())?;
    (crc32c::crc32c(checked) == sum).then_some(header)
}

impl<'a> Op<'a> {
    /// Writes the operation.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let (tag, log) = match self {
            Self::Kind { .. } => (KIND, None),
            Self::Head { log, .. } => (HEAD, Some(log)),
            Self::Claim { log, .. } => (CLAIM, Some(log)),
            Self::Record(_) => (RECORD, None),
            Self::Moved(_) => (MOVED, None),
            Self::Cut { log, .. } => (CUT, Some(log)),
            Self::Trim { log, .. } => (TRIM, Some(log)),
            Self::Snapshot(_) => (SNAPSHOT, None),
            Self::Forget { log, .. } => (FORGET, Some(log)),
            Self::Oldest { .. } => (OLDEST, None),
        };
        out.push(tag);
        if let Some(log) = log {
            out.extend_from_slice(&log.kind.to_le_bytes());
            out.extend_from_slice(&log.shard.to_le_bytes());
        }
        let mut numbers = |numbers: &[u64]| {
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
        };
        match *self {
            Self::Kind {
                number,
                shards,
                name,
            } => {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&shards.to_le_bytes());
                put_text(out, name);
            }
            Self::Head {
                epoch,
                owner,
                position,
                trimmed,
                trimmed_epoch,
                ..
            } => {
                numbers(&[epoch, position, trimmed, trimmed_epoch]);
                put_text(out, owner);
            }
            Self::Claim { epoch, owner, .. } => {
                numbers(&[epoch]);
                put_text(out, owner);
            }
            Self::Record(raw) | Self::Moved(raw) | Self::Snapshot(raw) => raw.put(out),
            Self::Cut { after, .. } => numbers(&[after]),
            Self::Trim { through, epoch, .. } => numbers(&[through, epoch]),
            Self::Forget {
                entity,
                through,
                snapshot,
                ..
            } => {
                numbers(&[through]);
                out.push(u8::from(snapshot));
                put_text(out, entity);
            }
            Self::Oldest { segment } => out.extend_from_slice(&segment.to_le_bytes()),
        }
    }

    fn take(take: &mut Take<'a>) -> Option<Self> {
        let tag = take.u8()?;
        let mut log = || {
            Some(LogId {
                kind: take.u32()?,
                shard: take.u32()?,
            })
        };
        Some(match tag {
            KIND => Self::Kind {
                number: take.u32()?,
                shards: take.u32()?,
                name: take.text()?,
            },
            HEAD => Self::Head {
                log: log()?,
                epoch: take.u64()?,
                position: take.u64()?,
                trimmed: take.u64()?,
                trimmed_epoch: take.u64()?,
                owner: take.text()?,
            },
            CLAIM => Self::Claim {
                log: log()?,
                epoch: take.u64()?,
                owner: take.text()?,
            },
            RECORD => Self::Record(Raw::take(take)?),
            MOVED => Self::Moved(Raw::take(take)?),
            CUT => Self::Cut {
                log: log()?,
                after: take.u64()?,
            },
            TRIM => Self::Trim {
                log: log()?,
                through: take.u64()?,
                epoch: take.u64()?,
            },
            SNAPSHOT => Self::Snapshot(Raw::take(take)?),
            FORGET => Self::Forget {
                log: log()?,
                through: take.u64()?,
                snapshot: take.u8()? != 0,
                entity: take.text()?,
            },
            OLDEST => Self::Oldest {
                segment: take.u32()?,
            },
            _ => return None,
        })
    }
}

/// The operations of a frame, each with its offset in the content. For a record or snapshot it is
/// that of the [`Raw`].
pub(crate) struct Ops<'a> {
    take: Take<'a>,
    bytes: usize,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(content: &'a [u8]) -> Self {
        Self {
            take: Take(content),
            bytes: content.len(),
        }
    }
}

impl<'a> Iterator for Ops<'a> {
    /// `Err` with the offset of what is no operation.
    type Item = Result<(usize, Op<'a>), usize>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.take.0.is_empty() {
            return None;
        }
        let offset = self.bytes - self.take.0.len();
        let op = Op::take(&mut self.take);
        if op.is_none() {
            self.take = Take(&[]);
        }
        Some(op.map(|op| (offset + 1, op)).ok_or(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_as_they_were_written() {
        let log = LogId { kind: 3, shard: 9 };
        let raw = Raw {
            log,
            position: 7,
            epoch: u64::MAX,
            seq: 2,
            at: 1_700_000_000_000,
            entity: "größe",
            body: b"body",
        };
        let ops = [
            Op::Kind {
                number: 3,
                shards: 64,
                name: "Account",
            },
            Op::Head {
                log,
                epoch: 5,
                owner: "node",
                position: 9,
                trimmed: 4,
                trimmed_epoch: 3,
            },
            Op::Claim {
                log,
                epoch: 6,
                owner: "",
            },
            Op::Record(raw),
            Op::Moved(raw.emptied()),
            Op::Cut { log, after: 8 },
            Op::Trim {
                log,
                through: 5,
                epoch: 4,
            },
            Op::Snapshot(raw),
            Op::Forget {
                log,
                entity: "ada",
                through: 3,
                snapshot: true,
            },
            Op::Oldest { segment: 12 },
        ];
        let mut bytes = Vec::new();
        for op in &ops {
            op.put(&mut bytes);
        }
        let read: Vec<_> = Ops::new(&bytes).map(|op| op.map(|(_, op)| op)).collect();
        let expected: Vec<Result<_, usize>> = ops.into_iter().map(Ok).collect();
        assert_eq!(read, expected);
        // A record can be read alone, where the iterator says.
        let found = Ops::new(&bytes).flatten();
        for (offset, op) in found {
            if let Op::Record(found) | Op::Moved(found) = op {
                let header = checked_header(&bytes[offset..]).expect("a header");
                assert_eq!(header.raw, found.emptied());
                assert_eq!(header.body_sum, crc32c::crc32c(found.body));
                let length = raw_bytes(found.entity.len(), found.body.len());
                assert!(bytes.len() >= offset + length);
            }
        }
        let cut = &bytes[..bytes.len() - 1];
        assert!(Ops::new(cut).last().is_some_and(|last| last.is_err()));
    }
}

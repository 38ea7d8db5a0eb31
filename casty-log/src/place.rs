//! Reads records and snapshots where they stand.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Damage, LogId, ReadError, Record,
    disk::DiskFile,
    error::explain,
    format::{
        op::{RAW_HEADER, checked_header, raw_bytes},
        segment,
    },
};

/// What lies between two records is read too, if it is not more: that is cheaper than another call
/// of the operating system.
const GAP_MAX: u64 = 4 * 1024;

/// How much is read at once, unless one record is longer.
const READ_MAX: u64 = 128 * 1024;

/// Something in a segment that is to be read.
pub(crate) struct Place {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) log: LogId,
    /// 0 for a snapshot.
    pub(crate) position: u64,
    pub(crate) entity: Arc<str>,
    /// How many bytes of its body are wanted: all, or none.
    pub(crate) body: u32,
}

/// Reads them in this order. What lies close together is read at once.
pub(crate) fn read_in_order(places: &[Place]) -> Result<Vec<Record>, ReadError> {
    let mut records = Vec::with_capacity(places.len());
    let mut buffer = Vec::new();
    let mut rest = places;
    while let Some(first) = rest.first() {
        let (together, others) = rest.split_at(count_together(rest));
        rest = others;
        if together.len() == 1 {
            records.push(first.read()?);
            continue;
        }
        let start = u64::from(first.offset);
        let end = together.last().map_or(start, Place::end);
        buffer.resize(usize::try_from(end - start).unwrap_or_default(), 0);
        let read = first.read_at(&mut buffer, start)?;
        for place in together {
            let begin = usize::try_from(u64::from(place.offset) - start).unwrap_or(usize::MAX);
            let end = begin.saturating_add(place.bytes()).min(read);
            let bytes = buffer.get(begin..end).unwrap_or_default();
            // A slice would keep all of the buffer.
            let body = |at: usize| Bytes::copy_from_slice(bytes.get(at..).unwrap_or_default());
            records.push(place.checked(bytes, body)?);
        }
    }
    Ok(records)
}

/// How many of the first lie close together.
fn count_together(places: &[Place]) -> usize {
    let follows = |pair: &&[Place]| {
        let (place, next) = (&pair[0], &pair[1]);
        let gap = u64::from(next.offset).checked_sub(place.end());
        next.segment == place.segment && gap.is_some_and(|gap| gap <= GAP_MAX)
    };
    let start = places.first().map_or(0, |first| u64::from(first.offset));
    let is_near = |pair: &&[Place]| follows(pair) && pair[1].end() - start <= READ_MAX;
    1 + places.windows(2).take_while(is_near).count()
}

impl Place {
    fn bytes(&self) -> usize {
        raw_bytes(self.entity.len(), self.body as usize)
    }

    /// Where it ends in its file.
    fn end(&self) -> u64 {
        u64::from(self.offset) + self.bytes() as u64
    }

    pub(crate) fn read(&self) -> Result<Record, ReadError> {
        let mut bytes = vec![0; self.bytes()];
        let read = self.read_at(&mut bytes, self.offset.into())?;
        bytes.truncate(read);
        let bytes = Bytes::from(bytes);
        self.checked(&bytes, |at| bytes.slice(at.min(read)..))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let read = self.file.read_at(buffer, offset);
        read.map_err(|error| {
            let name = segment::name(self.segment);
            ReadError::Io(format!("reading {name}: {}", explain(&error)))
        })
    }

    /// The record in these bytes, if it is this one. `body`: what follows an offset of the bytes.
    fn checked(&self, bytes: &[u8], body: impl Fn(usize) -> Bytes) -> Result<Record, ReadError> {
        let damaged = |what: &str| {
            ReadError::Damaged(Damage {
                file: segment::name(self.segment),
                offset: self.offset.into(),
                what: what.to_owned(),
            })
        };
        let header = checked_header(bytes).ok_or_else(|| damaged("this is no record"))?;
        let raw = header.raw;
        if raw.log != self.log || raw.position != self.position || *raw.entity != *self.entity {
            return Err(damaged("this is another record"));
        }
        let record = Record {
            position: raw.position,
            epoch: raw.epoch,
            entity: self.entity.clone(),
            seq: raw.seq,
            at: raw.at,
            body: Bytes::new(),
        };
        if self.body == 0 {
            return Ok(record);
        }
        let has_body = header.body_bytes == self.body;
        let body = body(RAW_HEADER + self.entity.len());
        let is_whole = has_body && body.len() == self.body as usize;
        if !is_whole || crc32c::crc32c(&body) != header.body_sum {
            return Err(damaged("the body of this record has changed"));
        }
        Ok(Record { body, ..record })
    }
}

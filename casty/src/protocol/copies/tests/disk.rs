//! What a store has of a shard.

use bytes::Bytes;

use crate::{id::Epoch, protocol::copies::*};

/// A record: its epoch, and its number in the world.
pub(super) type Entry = (Epoch, u32);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) promised: Epoch,
    /// All records, those included for which a snapshot stands.
    pub(super) log: Vec<Entry>,
    /// Records up to here are trimmed.
    pub(super) base: u64,
}

impl Disk {
    pub(super) fn point(&self, position: u64) -> LogPoint {
        let at = (position as usize).checked_sub(1);
        let entry = at.and_then(|at| self.log.get(at));
        LogPoint {
            position,
            epoch: entry.map_or(Epoch::ZERO, |(epoch, _)| *epoch),
        }
    }

    pub(super) fn runs(&self) -> EpochRuns {
        let mut runs = EpochRuns::after(self.point(self.base));
        for (epoch, _) in self.log.iter().skip(self.base as usize) {
            runs.push(*epoch);
        }
        runs
    }

    pub(super) fn record((epoch, body): &Entry) -> CopiedRecord {
        CopiedRecord {
            epoch: *epoch,
            body: Bytes::copy_from_slice(&body.to_be_bytes()),
        }
    }

    pub(super) fn entry(record: &CopiedRecord) -> Entry {
        let body = record.body.as_ref().try_into().expect("four bytes");
        (record.epoch, u32::from_be_bytes(body))
    }

    /// The steps in which a write reaches the disk.
    pub(super) fn steps(write: &CopyWrite) -> usize {
        let marks = [
            write.clear,
            write.promise.is_some(),
            write.install.is_some(),
            write.cut.is_some(),
        ];
        marks.iter().filter(|is_there| **is_there).count() + write.records.len()
    }

    /// Carries out the first steps of a write. Returns how many there were.
    pub(super) fn write(&mut self, write: &CopyWrite, content: &[Entry], most: usize) -> usize {
        let mut left = most;
        let mut step = || {
            let is_left = left > 0;
            left -= usize::from(is_left);
            is_left
        };
        // In a store it is one commit with the promise.
        if write.clear && step() {
            self.log.clear();
            self.base = 0;
        }
        if let Some(epoch) = write.promise
            && step()
        {
            self.promised = self.promised.max(epoch);
        }
        if let Some(last) = write.install
            && step()
        {
            self.log = content.to_vec();
            self.base = last.position;
        }
        if let Some(keep) = write.cut
            && step()
        {
            self.log.truncate(keep as usize);
        }
        for record in &write.records {
            if step() {
                self.log.push(Self::entry(record));
            }
        }
        Self::steps(write).min(most)
    }
}

//! Copies what is needed of the oldest segment, so that the segment can be used again.
//!
//! Only the oldest segment is ever given up. So an operation that removes something is given up
//! after everything that it removed.

use crate::{
    Damage,
    format::{
        frame::{self, HEADER, Seed},
        op::{Op, Ops, Raw, raw_bytes},
        segment,
    },
    index::Index,
};

/// How much is copied with one commit, at least.
const STEP_BYTES: usize = 256 * 1024;
/// And at most, beside a commit that is large itself.
const STEP_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The segment that is copied.
pub(crate) struct Cleaning {
    pub(crate) segment: u32,
    bytes: Vec<u8>,
    seed: Seed,
    offset: usize,
}

/// A part of it, to be written.
pub(crate) struct Step {
    /// The operations.
    pub(crate) ops: Vec<u8>,
    /// Where the next part begins. `None` if the segment is not needed after this one.
    pub(crate) next: Option<usize>,
}

impl Cleaning {
    pub(crate) fn new(segment: u32, bytes: Vec<u8>, seed: Seed) -> Self {
        Self {
            segment,
            bytes,
            seed,
            offset: usize::try_from(segment::FIRST_FRAME).unwrap_or(usize::MAX),
        }
    }

    /// The next part was written.
    pub(crate) fn go_on_at(&mut self, offset: usize) {
        self.offset = offset;
    }

    /// The next part, for a commit of so many bytes. It outruns what is appended.
    ///
    /// # Errors
    /// The damage, if something that is needed cannot be read.
    pub(crate) fn step(&self, index: &Index, commit: usize) -> Result<Step, Damage> {
        let limit = STEP_BYTES.max(commit.saturating_mul(4).min(STEP_BYTES_MAX));
        let (mut ops, mut moved, mut offset) = (Vec::new(), 0_u64, self.offset);
        let needed = index.live.of(self.segment);
        while moved < needed {
            let is_enough = ops.len() >= limit || offset - self.offset >= limit * 8;
            if is_enough && offset > self.offset {
                return Ok(Step {
                    ops,
                    next: Some(offset),
                });
            }
            let Some(frame) = frame::frame_at(&self.bytes, self.seed, offset) else {
                return Err(Damage {
                    file: segment::name(self.segment),
                    offset: offset as u64,
                    what: "a commit is not whole; what is needed of the segment stays in it"
                        .to_owned(),
                });
            };
            for (at, op) in Ops::new(frame.content).flatten() {
                let place = u32::try_from(offset + HEADER + at).unwrap_or(u32::MAX);
                if let Some((op, bytes)) = self.needed(index, place, &op) {
                    op.put(&mut ops);
                    moved += bytes as u64;
                }
            }
            offset = frame.end;
        }
        Ok(Step { ops, next: None })
    }

    /// What is to be written of an operation that stands here, and how much the segment has less.
    fn needed<'a>(&self, index: &Index, place: u32, op: &Op<'a>) -> Option<(Op<'a>, usize)> {
        match *op {
            Op::Record(raw) | Op::Moved(raw) => {
                let entry = index.logs.get(&raw.log)?.entry(raw.position)?;
                if (entry.segment, entry.offset) != (self.segment, place) {
                    return None;
                }
                let raw = if entry.body == 0 { raw.emptied() } else { raw };
                Some((Op::Moved(raw), length(&raw)))
            }
            Op::Snapshot(raw) => {
                let snapshot = index.entity(raw.log, raw.entity)?.snapshot?;
                let is_needed = (snapshot.segment, snapshot.offset) == (self.segment, place);
                is_needed.then(|| (Op::Snapshot(raw), length(&raw)))
            }
            _ => None,
        }
    }
}

fn length(raw: &Raw<'_>) -> usize {
    raw_bytes(raw.entity.len(), raw.body.len())
}

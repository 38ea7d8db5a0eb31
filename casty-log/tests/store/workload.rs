//! Random commits.

use std::num::NonZeroU32;

use casty_log::{Change, LogId, Options, Record, Snapshot};

use crate::model::Model;

pub(crate) const SHARDS: u32 = 3;

/// Random numbers that a seed repeats: xorshift.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Small segments, so that a short run meets many.
pub(crate) fn small() -> Options {
    let mut options = Options::default();
    options.segment_bytes = 12 * 1024;
    options
}

pub(crate) fn log(shard: u64) -> LogId {
    let shard = u32::try_from(shard).expect("few");
    LogId { kind: 0, shard }
}

pub(crate) fn kind() -> Change {
    Change::Kind {
        name: "Account".into(),
        shards: NonZeroU32::new(SHARDS).expect("not zero"),
    }
}

pub(crate) fn claim(log: LogId, epoch: u64) -> Change {
    let owner = format!("owner-{epoch}").into();
    Change::Claim { log, epoch, owner }
}

/// A commit that follows what the model knows, most of the time.
pub(crate) fn commit(random: &mut Random, model: &Model) -> Vec<Change> {
    let count = 1 + random.below(4);
    let mut now = model.clone();
    let changes = (0..count).map(|_| {
        let change = change(random, &now);
        now.commit(std::slice::from_ref(&change));
        change
    });
    changes.collect()
}

fn change(random: &mut Random, model: &Model) -> Change {
    let log = log(random.below(SHARDS.into()));
    let head = model.head(log);
    let entity = format!("entity-{}", random.below(5));
    let seq = model.last_seq(log, &entity);
    // Now and then under an epoch that is not claimed.
    let epoch = head.epoch + u64::from(random.below(20) == 0);
    match random.below(26) {
        0 => kind(),
        1 | 2 => claim(log, head.epoch + random.below(3)),
        3 if random.below(4) == 0 => Change::Clear { log, epoch },
        3 => Change::Cut {
            log,
            epoch,
            after: head.position.saturating_sub(random.below(4)),
        },
        4 | 5 => Change::Trim {
            log,
            epoch,
            through: head.trimmed + random.below(head.position - head.trimmed + 2),
        },
        6 | 7 => Change::Save {
            log,
            epoch,
            entity: entity.into(),
            snapshot: Snapshot {
                seq: seq.max(1),
                at: random.below(1000),
                body: body(random),
            },
        },
        8 => Change::ForgetContained {
            log,
            epoch,
            entity: entity.into(),
            through: random.below(seq + 2),
        },
        9 => Change::Forget {
            log,
            epoch,
            entity: entity.into(),
            through: random.below(seq + 2),
            snapshot: random.below(2) == 0,
        },
        // Of what this store has, has had, or does not have yet.
        10 | 11 => Change::Copy {
            log,
            epoch,
            entity: entity.into(),
            snapshot: Snapshot {
                seq: 1 + random.below(head.position + 3),
                at: random.below(1000),
                body: body(random),
            },
        },
        _ => append(random, model, log, epoch),
    }
}

fn append(random: &mut Random, model: &Model, log: LogId, epoch: u64) -> Change {
    let head = model.head(log);
    let entity = format!("entity-{}", random.below(5));
    let first = head.position + 1 + u64::from(random.below(30) == 0);
    let records = (first..=first + random.below(4)).map(|position| {
        Record {
            position,
            epoch: epoch - u64::from(epoch > 1 && random.below(5) == 0),
            entity: entity.as_str().into(),
            // Numbers of an entity have to grow, whatever was cut or trimmed.
            seq: position,
            at: position * 10,
            body: body(random),
        }
    });
    let records = records.collect();
    Change::Append {
        log,
        epoch,
        records,
    }
}

fn body(random: &mut Random) -> bytes::Bytes {
    let length = match random.below(60) {
        0 => 0,
        // More than a segment.
        1 => 15_000,
        2..10 => random.below(3000),
        _ => random.below(300),
    };
    (0..length)
        .map(|_| u8::try_from(random.below(256)).expect("a byte"))
        .collect::<Vec<_>>()
        .into()
}

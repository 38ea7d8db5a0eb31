//! What the tests of all stores share.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod child;
pub(crate) mod ledger;
pub(crate) mod like_memory;
pub(crate) mod load;
pub(crate) mod postgres;

use std::{num::NonZeroU32, sync::Arc};

use casty::{
    id::{EntityId, Epoch},
    persistence::{Append, Log, Record},
};

pub(crate) const KIND: &str = "Account";
pub(crate) const SHARDS: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

pub(crate) fn log(shard: u32) -> Log {
    let kind = Arc::from(KIND);
    Log { kind, shard }
}

pub(crate) fn kinds() -> Vec<(Arc<str>, NonZeroU32)> {
    vec![(Arc::from(KIND), SHARDS)]
}

pub(crate) fn record(position: u64, epoch: Epoch, entity: &str, seq: u64) -> Record {
    Record {
        position,
        epoch,
        entity: EntityId::new(entity),
        seq,
        at: 1_700_000_000_000 + position,
        body: format!("{entity} {seq} at {position}").into_bytes().into(),
    }
}

/// One record for one log.
pub(crate) fn append(shard: u32, position: u64, epoch: Epoch, entity: &str, seq: u64) -> Append {
    Append {
        log: log(shard),
        epoch,
        records: vec![record(position, epoch, entity, seq)],
    }
}

/// How many times a test kills: `usual` times, unless `CASTY_KILLS` says otherwise.
pub(crate) fn kills(usual: u64) -> u64 {
    let kills = std::env::var("CASTY_KILLS").ok();
    kills.map_or(usual, |kills| {
        kills.parse().expect("CASTY_KILLS is a number")
    })
}

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

//! What the tests of all stores share.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod child;
pub(crate) mod ledger;
pub(crate) mod like_memory;
pub(crate) mod load;
pub(crate) mod postgres;
pub(crate) mod restarts;

use std::{num::NonZeroU32, sync::Arc};

use casty::{
    id::{EntityId, Epoch},
    persistence::{Append, AppendError, Appended, Journal, Log, Page, Record},
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

/// All records of a log. Their positions are dense.
pub(crate) async fn all(store: &(impl Journal + ?Sized), log: &Log) -> Vec<Record> {
    let page = Page {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    let records = store.read_log(log, 0, page).await.expect("readable");
    let mut positions = (1..).zip(&records);
    assert!(positions.all(|(at, record)| record.position == at));
    records
}

/// A batch must not have a log in two parts. One that does is not written, or one of the parts is.
pub(crate) async fn repeat_a_log(store: &dyn Journal) {
    store.open(&kinds()).await.expect("opened");
    let one = Epoch(1);
    let both = |shard, second| {
        let second = append(shard, second, one, "a", second);
        vec![append(shard, 1, one, "a", 1), second]
    };
    let mut longer = both(2, 1);
    longer[1].records.push(record(2, one, "a", 2));
    for (shard, batch) in (0..).zip([both(0, 1), both(1, 2), longer]) {
        let log = log(shard);
        store.claim(&log, one, "node").await.expect("claimed");
        let written = match store.append(batch.clone()).await {
            Ok(appended) => {
                let parts = appended.iter().zip(&batch);
                let mut written = parts.filter(|(answer, _)| **answer == Appended::Written);
                let written_part = written.next();
                assert!(written.next().is_none(), "{appended:?} of {log}");
                written_part.map_or(0, |(_, part)| part.records.len())
            }
            Err(AppendError::NotWritten { .. }) => 0,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(all(store, &log).await.len(), written, "{log}");
        let head = store.claim(&log, one, "node").await;
        assert_eq!(head, Ok(written as u64), "{log}");
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

//! Appends of a child that is killed, and what must be stored afterwards.

use std::collections::BTreeMap;

use casty::{
    id::Epoch,
    persistence::{Append, Appended, Journal, Page},
};

use super::{
    Random,
    child::{ATTEMPTED, STORED, say},
    log, record,
};

pub(crate) const SHARDS: u32 = 4;
const ENTITIES: u64 = 10;

/// The records of one entity of a log in its order, so that each one tells the number before it.
fn entity(shard: u32, position: u64) -> (String, u64) {
    let entity = format!("{shard}/{}", position % ENTITIES);
    (
        entity,
        position.div_ceil(ENTITIES) + u64::from(position.is_multiple_of(ENTITIES)),
    )
}

/// Appends to several logs until the process is killed. It says the log, and the position of its
/// last record.
pub(crate) async fn append_until_killed(store: &dyn Journal, epoch: Epoch, seed: u64) {
    let mut random = Random::new(seed);
    let mut heads = Vec::new();
    for shard in 0..SHARDS {
        let owner = format!("child {epoch}");
        heads.push(
            store
                .claim(&log(shard), epoch, &owner)
                .await
                .expect("claimed"),
        );
    }
    loop {
        let mut batch = Vec::new();
        for (shard, head) in (0..).zip(&mut heads) {
            if random.below(2) == 0 {
                continue;
            }
            let most = if random.below(5) == 0 { 200 } else { 8 };
            let last = *head + 1 + random.below(most);
            let records = (*head + 1..=last).map(|position| {
                let (entity, seq) = entity(shard, position);
                record(position, epoch, &entity, seq)
            });
            let (log, records) = (log(shard), records.collect());
            batch.push(Append {
                log,
                epoch,
                records,
            });
            say(&[ATTEMPTED, u64::from(shard), last]);
            *head = last;
        }
        let parts = batch.len();
        let appended = store.append(batch).await.expect("appended");
        assert_eq!(appended, vec![Appended::Written; parts]);
        for (shard, head) in (0..).zip(&heads) {
            say(&[STORED, shard, *head]);
        }
    }
}

/// How far each log has been written, by what a child has said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    attempted: BTreeMap<u64, u64>,
    stored: BTreeMap<u64, u64>,
}

impl Said {
    pub(crate) fn note(&mut self, words: &[u64]) {
        let of = if words[0] == STORED {
            &mut self.stored
        } else {
            &mut self.attempted
        };
        let last = of.entry(words[1]).or_default();
        *last = words[2].max(*last);
    }

    /// Acknowledged ≤ stored ≤ attempted, and nothing is missing in between. From `known` on, which
    /// becomes what is stored.
    pub(crate) async fn check(&self, store: &dyn Journal, known: &mut [u64], context: &str) {
        for (shard, known) in (0..SHARDS).zip(known) {
            let number = u64::from(shard);
            let stored = self
                .stored
                .get(&number)
                .copied()
                .unwrap_or_default()
                .max(*known);
            let attempted = self
                .attempted
                .get(&number)
                .copied()
                .unwrap_or_default()
                .max(*known);
            let page = Page {
                records: usize::MAX,
                bytes: usize::MAX,
            };
            let records = store
                .read_log(&log(shard), *known, page)
                .await
                .expect("readable");
            for (position, found) in (*known + 1..).zip(&records) {
                let (entity, seq) = entity(shard, position);
                let expected = record(position, found.epoch, &entity, seq);
                assert_eq!(*found, expected, "{context}");
            }
            let head = *known + records.len() as u64;
            assert!(
                (stored..=attempted).contains(&head),
                "{context}: {head} records in the log {shard}; {stored} acknowledged, {attempted} attempted"
            );
            *known = head;
        }
    }
}

//! Records of shards for readers that follow them, and how far projections are, as the owner of the
//! shards has it.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, select_all};
use serde_bytes::ByteBuf;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::logs::in_time;
use crate::{
    cluster::{
        peers::reads::{Follows, PastBody, Projected, ReadAnswer, SeenRecord, ShardNews},
        region::AnyRegion,
    },
    error::StoredError,
    id::ShardId,
    infra::mutants,
    persistence::{
        Journal, Log, Page, Record,
        projected::{Board, ProjectionId},
        shard_log::ShardLog,
        store::Store,
    },
};

/// How long an answer waits for something to say: less than the node that asks does.
const NEWS_WITHIN: Duration = Duration::from_secs(4);

/// How long a shard may take to be claimed, and after how long an answer says what it has.
const CLAIMED_WITHIN: Duration = Duration::from_millis(500);
const ANSWER_AFTER: Duration = Duration::from_secs(1);

/// The pause if the head of a log is further than what can be read of it yet.
const NOT_YET: Duration = Duration::from_millis(50);

/// How many bytes of records an answer has, about, and how many of one shard.
const BYTES_MAX: usize = 512 * 1024;
const SHARD_BYTES_MAX: usize = 128 * 1024;

/// How many records of one shard.
const SHARD_RECORDS_MAX: usize = 256;

/// The longest record that is sent: what a frame can carry, with room to spare.
pub(super) const RECORD_BYTES_MAX: usize = 6 * 1024 * 1024;

/// The records of a log after a position, as far as they are durable: a page of them.
pub(crate) async fn durable_records(
    journal: &dyn Journal,
    log: &Log,
    after: u64,
    page: Page,
    patience: Duration,
) -> Result<Vec<Record>, StoredError> {
    // Before the records are read: what is durable stays so.
    let upto = in_time(patience, journal.durable(log)).await?;
    let mut records = in_time(patience, journal.read_log(log, after, page)).await?;
    if let Some(upto) = upto
        && !mutants::on("what_is_not_durable_is_projected")
    {
        records.retain(|record| record.position <= upto);
    }
    Ok(records)
}

fn seen(record: Record) -> SeenRecord {
    let body = if record.body.len() > RECORD_BYTES_MAX {
        PastBody::TooLarge(record.body.len() as u64)
    } else {
        PastBody::Whole(ByteBuf::from(record.body.to_vec()))
    };
    SeenRecord {
        position: record.position,
        entity: record.entity,
        at: record.at,
        body,
    }
}

/// The shards of a stored type, as this node has them.
pub(super) struct HostedType<'a> {
    pub(super) region: &'a dyn AnyRegion,
    pub(super) store: &'a Store,
    /// How long the store may take for each answer.
    pub(super) patience: Duration,
    /// Has an owner found for a shard that has none.
    pub(super) find_owner: &'a (dyn Fn(ShardId) + Sync),
}

impl HostedType<'_> {
    /// The log of a shard, once it is claimed. `None`: the shard is not this node's.
    async fn claimed(&self, shard: ShardId) -> Result<Option<Arc<ShardLog>>, StoredError> {
        let region = self.region;
        if !region.owns(shard) {
            (self.find_owner)(shard);
            return Ok(None);
        }
        let unavailable = |reason| StoredError::Unavailable { reason };
        let log = region.log(shard).map_err(unavailable)?;
        match timeout(CLAIMED_WITHIN, log.claimed()).await {
            Ok(Ok(())) => Ok(Some(log)),
            Ok(Err(_)) if !region.owns(shard) => Ok(None),
            Ok(Err(reason)) => Err(unavailable(reason)),
            Err(_) => Err(unavailable(log.pending().unwrap_or_else(|| {
                format!("it has not answered within {CLAIMED_WITHIN:?}")
            }))),
        }
    }

    pub(super) async fn events(&self, shards: Vec<Follows>) -> ReadAnswer {
        let begun = Instant::now();
        let mut is_first = true;
        loop {
            // Before the shards are looked at: a change after that notifies.
            let owned = self.region.ownership().notified();
            let (mut answer, mut bytes) = (Vec::new(), 0);
            let mut news: Vec<BoxFuture<'_, ()>> = vec![Box::pin(owned)];
            for follows in &shards {
                let is_late = !answer.is_empty() && begun.elapsed() >= ANSWER_AFTER;
                if bytes >= BYTES_MAX || is_late {
                    break;
                }
                let shard = follows.shard;
                match self.claimed(shard).await {
                    Ok(Some(log)) => {
                        let (head, after) = (log.head().clone(), follows.after);
                        let has_news = head.position() > after;
                        if has_news || follows.looks && is_first {
                            let found = self.records(log.log(), after, &mut bytes).await;
                            answer.extend(found.map(|news| (shard, news)));
                        }
                        if has_news {
                            // It is not durable in all copies yet.
                            news.push(Box::pin(sleep(NOT_YET)));
                        } else {
                            news.push(Box::pin(async move { head.after(after).await }));
                        }
                    }
                    Ok(None) => answer.push((shard, ShardNews::Elsewhere)),
                    Err(error) => {
                        answer.push((shard, ShardNews::Unavailable(error.to_string())));
                    }
                }
            }
            is_first = false;
            if !answer.is_empty() || begun.elapsed() >= NEWS_WITHIN {
                return ReadAnswer::Events(answer);
            }
            let _ = timeout_at(begun + NEWS_WITHIN, select_all(news)).await;
        }
    }

    /// What there is of a log after a position. `None`: nothing.
    async fn records(&self, log: &Log, after: u64, bytes: &mut usize) -> Option<ShardNews> {
        let page = Page {
            records: SHARD_RECORDS_MAX,
            bytes: SHARD_BYTES_MAX,
        };
        let journal = self.store.journal();
        let records = match durable_records(journal, log, after, page, self.patience).await {
            Ok(records) => records,
            Err(error) => return Some(ShardNews::Unavailable(error.to_string())),
        };
        *bytes += records
            .iter()
            .map(|it| it.body.len().min(RECORD_BYTES_MAX) + 64)
            .sum::<usize>();
        let seen: Vec<_> = records.into_iter().map(seen).collect();
        (!seen.is_empty()).then_some(ShardNews::Records(seen))
    }

    pub(super) async fn heads(&self, shards: Vec<ShardId>) -> Result<ReadAnswer, StoredError> {
        let mut heads = Vec::with_capacity(shards.len());
        for shard in shards {
            let log = self.claimed(shard).await?;
            heads.push((shard, log.map(|log| log.head().position())));
        }
        Ok(ReadAnswer::Heads(heads))
    }

    pub(super) async fn projected(
        &self,
        id: &ProjectionId,
        shards: Vec<(ShardId, u64)>,
    ) -> ReadAnswer {
        let region = self.region;
        let board = self.store.boards.get(id);
        if let Some(board) = &board {
            let is_there = |board: &Board| {
                let there = |&(shard, wanted): &(ShardId, u64)| {
                    let progress = board.progress(shard.0);
                    let position = progress.and_then(|progress| progress.position);
                    !region.owns(shard) || wanted == 0 || position.is_some_and(|at| at >= wanted)
                };
                shards.iter().all(there).then_some(())
            };
            let _ = timeout(NEWS_WITHIN, board.wait(is_there)).await;
        }
        let looked_at = |(shard, _): (ShardId, u64)| {
            if !region.owns(shard) {
                (self.find_owner)(shard);
                return (shard, Projected::Elsewhere);
            }
            let progress = board.as_ref().map(|board| board.progress(shard.0));
            let here = progress.map(|it| Projected::Here(it.unwrap_or_default()));
            (shard, here.unwrap_or(Projected::NotHere))
        };
        ReadAnswer::Projected(shards.into_iter().map(looked_at).collect())
    }
}

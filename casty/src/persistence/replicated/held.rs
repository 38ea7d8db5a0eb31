//! What this store has of shards, whether it is in sync or not: for an operator.

use std::sync::Arc;

use casty_log::{LogId, Page, Reader};
use serde::{Deserialize, Serialize};

use crate::{
    id::{Epoch, ShardId},
    persistence::{
        JournalError, Log,
        local::{Local, blocking},
    },
    protocol::copies::LogPoint,
};

/// What a store has of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldCopy {
    pub(crate) shard: ShardId,
    /// Its last record.
    pub(crate) last: LogPoint,
    /// When that was written: milliseconds since the Unix epoch. `None` if it cannot be read.
    pub(crate) at: Option<u64>,
}

/// What a store has of these shards. Those of which it has nothing are left out.
pub(super) async fn held(
    local: &Local,
    kind: &str,
    shards: Vec<ShardId>,
) -> Result<Vec<HeldCopy>, JournalError> {
    let open = local.opened().await?;
    let name: Arc<str> = Arc::from(kind);
    blocking(move || {
        let held = |shard: &ShardId| {
            let log = Log {
                kind: name.clone(),
                shard: shard.0,
            };
            held_of(open.engine.reader(), open.id(&log)?, *shard)
        };
        shards.iter().filter_map(held).collect()
    })
    .await
}

fn held_of(reader: &Reader, log: LogId, shard: ShardId) -> Option<HeldCopy> {
    let last = reader.runs(log).last().copied()?;
    let page = Page {
        records: 1,
        bytes: 1,
    };
    let read = reader.read_log(log, last.last.saturating_sub(1), page);
    let at = read.ok().and_then(|read| Some(read.last()?.at));
    Some(HeldCopy {
        shard,
        last: LogPoint {
            position: last.last,
            epoch: Epoch(last.epoch),
        },
        at,
    })
}

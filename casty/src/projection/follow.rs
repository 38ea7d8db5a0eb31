//! The records of all shards of a type, from their owners, wherever these are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::time::Instant;

use crate::{
    cluster::{
        peers::reads::{Follows, Read, ReadAnswer, SeenRecord, ShardNews},
        reading::{ask::InVain, nodes::Nodes, reader::groups},
    },
    error::StoredError,
    id::ShardId,
    protocol::projection::{Astray, check_dense},
};

/// How often a store is read although no record was announced.
const LOOK: Duration = Duration::from_secs(15);

/// After how long without an answer a shard is an error.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was asked for these shards, or waited for, and what came of it.
struct Called {
    shards: Vec<ShardId>,
    answer: Answered,
}

enum Answered {
    /// Shards that are left out have no news.
    News(Vec<(ShardId, ShardNews)>),
    Silent(String),
    /// A pause is over.
    Paused,
}

/// One shard.
#[derive(Default)]
struct Followed {
    /// The position of the last record that was read.
    read: u64,
    /// When the store was read last.
    looked: Option<Instant>,
    /// Since when there is no answer.
    silent: Option<Instant>,
}

/// Why a shard has no record to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoRecord {
    /// No answer for some time. It goes on being asked.
    Silent(String),
    /// It has lost records. It is not followed any more.
    Astray(Astray),
}

/// Follows the shards of a type.
pub(super) struct Follow {
    nodes: Arc<dyn Nodes>,
    kind: String,
    shards: BTreeMap<ShardId, Followed>,
    /// The shards that no owner is being asked for.
    idle: BTreeSet<ShardId>,
    calls: FuturesUnordered<BoxFuture<'static, Called>>,
    ready: VecDeque<(ShardId, Result<SeenRecord, NoRecord>)>,
    attempt: usize,
    /// The shard that is asked for first. An answer may be full before it comes to the last one.
    first: ShardId,
}

impl Follow {
    /// From the record after each position on.
    pub(super) fn new(
        nodes: Arc<dyn Nodes>,
        kind: String,
        after: impl IntoIterator<Item = (ShardId, u64)>,
    ) -> Self {
        let followed = |(shard, read)| {
            let followed = Followed {
                read,
                ..Followed::default()
            };
            (shard, followed)
        };
        let shards: BTreeMap<_, _> = after.into_iter().map(followed).collect();
        Self {
            nodes,
            kind,
            idle: shards.keys().copied().collect(),
            shards,
            calls: FuturesUnordered::new(),
            ready: VecDeque::new(),
            attempt: 0,
            first: ShardId(0),
        }
    }

    /// The next record of some shard. `None`: no shard is followed any more. Owners are asked only
    /// when all that they have answered was taken, so memory is bounded.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(ShardId, Result<SeenRecord, NoRecord>)>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Poll::Ready(Some(ready));
            }
            self.ask();
            match ready!(self.calls.poll_next_unpin(cx)) {
                Some(called) => self.take(called),
                None => return Poll::Ready(None),
            }
        }
    }

    /// Asks the owners of the shards that are idle.
    fn ask(&mut self) {
        if self.idle.is_empty() {
            return;
        }
        let idle = std::mem::take(&mut self.idle);
        let groups = match groups(&*self.nodes, &self.kind, idle.iter().copied(), self.attempt) {
            Ok(groups) => groups,
            Err(error) => return self.fail(idle, &error.to_string()),
        };
        let now = Instant::now();
        for mut group in groups {
            let from = group.shards.partition_point(|shard| *shard < self.first);
            group.shards.rotate_left(from);
            let follows = |&shard: &ShardId| {
                let followed = self.shards.get_mut(&shard)?;
                let looks = followed.looked.is_none_or(|at| now >= at + LOOK);
                if looks {
                    followed.looked = Some(now);
                }
                Some(Follows {
                    shard,
                    after: followed.read,
                    looks,
                })
            };
            let read = Read::Events {
                kind: self.kind.clone(),
                shards: group.shards.iter().filter_map(follows).collect(),
            };
            let nodes = self.nodes.clone();
            self.calls.push(Box::pin(async move {
                let answer = match nodes.ask(group.peer, read).await {
                    Ok(ReadAnswer::Events(news)) => Answered::News(news),
                    Ok(_) => Answered::Silent(format!("{}: another answer", group.name)),
                    Err(InVain::Refused(error)) => {
                        Answered::Silent(format!("{}: {error}", group.name))
                    }
                    Err(InVain::Silent(reason)) => {
                        Answered::Silent(format!("{}: {reason}", group.name))
                    }
                };
                Called {
                    shards: group.shards,
                    answer,
                }
            }));
        }
    }

    fn take(&mut self, called: Called) {
        let Called { shards, answer } = called;
        let news = match answer {
            Answered::News(news) => news,
            Answered::Silent(reason) => {
                let shards = shards.into_iter().collect();
                return self.fail(shards, &reason);
            }
            Answered::Paused => return self.idle.extend(shards),
        };
        let mut idle: BTreeSet<_> = shards.into_iter().collect();
        if let Some((last, _)) = news.last() {
            self.first = ShardId(last.0 + 1);
        }
        for (shard, news) in news {
            match news {
                ShardNews::Records(records) => {
                    if !self.take_records(shard, records) {
                        idle.remove(&shard);
                    }
                }
                ShardNews::Elsewhere => {
                    idle.remove(&shard);
                    let reason = format!("shard {} of `{}` has no owner yet", shard.0, self.kind);
                    self.fail(BTreeSet::from([shard]), &reason);
                }
                ShardNews::Unavailable(reason) => {
                    idle.remove(&shard);
                    self.fail(BTreeSet::from([shard]), &reason);
                }
            }
        }
        for shard in &idle {
            if let Some(followed) = self.shards.get_mut(shard) {
                followed.silent = None;
            }
        }
        self.idle.extend(idle);
    }

    /// Returns whether the shard is followed further.
    fn take_records(&mut self, shard: ShardId, records: Vec<SeenRecord>) -> bool {
        let Some(followed) = self.shards.get_mut(&shard) else {
            return false;
        };
        let positions = records.iter().map(|record| record.position);
        if let Err(astray) = check_dense(followed.read, positions) {
            self.shards.remove(&shard);
            self.ready.push_back((shard, Err(NoRecord::Astray(astray))));
            return false;
        }
        followed.read = records
            .last()
            .map_or(followed.read, |record| record.position);
        let ready = records.into_iter().map(|record| (shard, Ok(record)));
        self.ready.extend(ready);
        true
    }

    /// These shards are asked for again after a moment.
    fn fail(&mut self, shards: BTreeSet<ShardId>, reason: &str) {
        let now = Instant::now();
        self.attempt += 1;
        for shard in &shards {
            let Some(followed) = self.shards.get_mut(shard) else {
                continue;
            };
            // The next owner may have later records than it knows of.
            followed.looked = None;
            let since = *followed.silent.get_or_insert(now);
            if now >= since + PATIENCE {
                followed.silent = Some(now);
                let silent = NoRecord::Silent(reason.to_owned());
                self.ready.push_back((*shard, Err(silent)));
            }
        }
        let nodes = self.nodes.clone();
        self.calls.push(Box::pin(async move {
            nodes.later().await;
            Called {
                shards: shards.into_iter().collect(),
                answer: Answered::Paused,
            }
        }));
    }
}

/// The positions of the last durable records of all shards.
pub(super) async fn heads(
    nodes: &dyn Nodes,
    kind: &str,
    shards: u32,
) -> Result<BTreeMap<ShardId, u64>, StoredError> {
    let mut heads = BTreeMap::new();
    let mut left: BTreeSet<_> = (0..shards).map(ShardId).collect();
    let until = Instant::now() + PATIENCE;
    let (mut attempt, mut reason) = (0, "a shard has no owner yet".to_owned());
    loop {
        let groups = groups(nodes, kind, left.iter().copied(), attempt)?;
        let asks = groups.into_iter().map(|group| async move {
            let read = Read::Heads {
                kind: kind.to_owned(),
                shards: group.shards,
            };
            (group.name, nodes.ask(group.peer, read).await)
        });
        for (name, answer) in join_all(asks).await {
            match answer {
                Ok(ReadAnswer::Heads(found)) => {
                    for (shard, head) in found {
                        if let Some(head) = head {
                            left.remove(&shard);
                            heads.insert(shard, head);
                        }
                    }
                }
                Ok(_) => reason = format!("{name} gave another answer"),
                Err(InVain::Refused(error @ StoredError::NotStored { .. })) => return Err(error),
                Err(InVain::Refused(error)) => reason = format!("{name}: {error}"),
                Err(InVain::Silent(silent)) => reason = format!("{name}: {silent}"),
            }
        }
        if left.is_empty() {
            return Ok(heads);
        }
        if Instant::now() >= until {
            return Err(StoredError::Unreachable { reason });
        }
        attempt += 1;
        nodes.later().await;
    }
}

//! A projection that runs, as the program sees it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cluster::{
        peers::reads::{Projected, Read, ReadAnswer},
        reading::{ask::InVain, nodes::Nodes, reader::groups},
    },
    error::StoredError,
    id::ShardId,
    infra::{
        boxed::{Boxed, boxed},
        wall_clock,
    },
    persistence::{
        Position,
        projected::{ProjectionId, ShardProgress},
        store::Store,
    },
    protocol::projection::behind,
};

/// How long [`RunningProjection::wait_for`] waits.
const WAIT: Duration = Duration::from_secs(10);

/// How long a look at all shards may take.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// How long the transactions of a projection that stops may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A projection that was given to this node:
/// [`ActorSystem::project`](crate::ActorSystem::project). Each node of the cluster runs it for the
/// shards that it owns.
///
/// Dropping it does not stop the projection; [`stop`](Self::stop) does, and so does the end of the
/// node. Clones are handles of the same projection.
#[derive(Clone)]
pub struct RunningProjection(Arc<Handle>);

pub(crate) struct Handle {
    pub(super) id: ProjectionId,
    pub(super) kind: String,
    pub(super) shards: u32,
    pub(super) nodes: Arc<dyn Nodes>,
    /// Where its board is, if this node runs it.
    pub(super) store: Option<Arc<Store>>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl fmt::Debug for RunningProjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProjectionId { name, version } = &self.0.id;
        write!(f, "RunningProjection({name}, version {version})")
    }
}

/// Why a projection was not waited for to the end. It goes on all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionWaitError {
    /// The position is one of another entity type.
    #[error("the projection is of `{kind}`, and the position is {position}")]
    OtherType {
        /// The entity type of the projection.
        kind: String,
        /// The position.
        position: Position,
    },
    /// It did not get there in time.
    #[error("not within {after:?}: {reason}")]
    Timeout {
        /// How long was waited.
        after: Duration,
        /// How far it is, and what keeps it, if that is known.
        reason: String,
    },
    /// It was stopped on this node.
    #[error("the projection was stopped")]
    Stopped,
}

/// How far a projection is behind the events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// By shard.
    pub shards: BTreeMap<u32, ShardLag>,
}

/// How far a projection is behind with one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardLag {
    /// The position of the last record that it has handled.
    pub position: u64,
    /// How many records it has not handled.
    pub records: u64,
    /// The age of the first record that it has not handled. Zero until the record is read.
    pub age: Duration,
    /// How many events it has parked since its present node began with the shard.
    pub parked: u64,
    /// Why it does not go on: the error of an event or a store, that the owner of the shard was not
    /// given the projection, or that there is no owner.
    pub trouble: Option<String>,
}

impl Lag {
    /// How many records it has not handled, of all shards.
    pub fn records(&self) -> u64 {
        self.shards.values().map(|shard| shard.records).sum()
    }

    /// The most records that it has not handled of one shard.
    pub fn records_max(&self) -> u64 {
        let records = self.shards.values().map(|shard| shard.records);
        records.max().unwrap_or_default()
    }

    /// The age of the first record of all that it has not handled.
    pub fn age(&self) -> Duration {
        let ages = self.shards.values().map(|shard| shard.age);
        ages.max().unwrap_or_default()
    }

    /// What keeps it, by shard.
    pub fn troubles(&self) -> impl Iterator<Item = (u32, &str)> {
        let shards = self.shards.iter();
        shards.filter_map(|(shard, lag)| Some((*shard, lag.trouble.as_deref()?)))
    }
}

impl RunningProjection {
    pub(crate) fn new(handle: Handle) -> Self {
        Self(Arc::new(handle))
    }

    /// Waits until the projection has handled the record at `position`, wherever its shard is, for
    /// at most ten seconds. So a program reads what it has written:
    /// `account.withdraw(5).with_position().await?` says the position.
    ///
    /// # Errors
    /// [`ProjectionWaitError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_for(&self, position: Position) -> Result<(), ProjectionWaitError> {
        self.wait_for_within(position, WAIT).await
    }

    /// The same, for another time.
    ///
    /// # Errors
    /// [`ProjectionWaitError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_for_within(
        &self,
        position: Position,
        within: Duration,
    ) -> Result<(), ProjectionWaitError> {
        self.waiting(position, within).await
    }

    fn waiting(
        &self,
        position: Position,
        within: Duration,
    ) -> Boxed<'_, Result<(), ProjectionWaitError>> {
        boxed(self.0.wait(position, within))
    }

    /// How far it is behind, with each shard. Takes up to five seconds if shards have no owners, or
    /// owners that do not answer.
    ///
    /// # Errors
    /// [`StoredError`] if no member hosts the type, or this process is in no cluster.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn lag(&self) -> Result<Lag, StoredError> {
        self.looking().await
    }

    fn looking(&self) -> Boxed<'_, Result<Lag, StoredError>> {
        boxed(self.0.lag())
    }

    /// Waits until it has handled all that was durable when this was called. There is no timeout.
    /// For a version that is built beside another one: then it may take the other one's place.
    ///
    /// # Errors
    /// [`ProjectionWaitError::Stopped`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn caught_up(&self) -> Result<(), ProjectionWaitError> {
        self.catching_up().await
    }

    fn catching_up(&self) -> Boxed<'_, Result<(), ProjectionWaitError>> {
        boxed(self.0.caught_up())
    }

    /// Stops it on this node: its transactions are finished, and no other begins. The shards of
    /// this node then wait until it is given to the node again.
    ///
    /// # Cancel safety
    /// If the future is dropped, it stops all the same.
    pub async fn stop(&self) {
        self.0.stop().await;
    }
}

impl Handle {
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        if timeout(STOP_WITHIN, self.tasks.wait()).await.is_err() {
            let (projection, tasks) = (&self.id.name, self.tasks.len());
            tracing::warn!(
                projection,
                tasks,
                "transactions go on after their projection"
            );
        }
        if let Some(store) = &self.store {
            store.boards.end(&self.id);
        }
    }

    /// What the owners of these shards know of it. Shards that are left out have no owner, or one
    /// that does not answer, for the reason that is returned too.
    async fn ask(
        &self,
        wanted: &BTreeMap<ShardId, u64>,
        attempt: usize,
    ) -> Result<(Vec<(ShardId, Projected)>, String), StoredError> {
        let mut reason = String::new();
        let groups = groups(&*self.nodes, &self.kind, wanted.keys().copied(), attempt)?;
        let asks = groups.into_iter().map(|group| async move {
            let of = |shard: ShardId| (shard, wanted.get(&shard).copied().unwrap_or_default());
            let read = Read::Projected {
                kind: self.kind.clone(),
                projection: self.id.clone(),
                shards: group.shards.into_iter().map(of).collect(),
            };
            (group.name, self.nodes.ask(group.peer, read).await)
        });
        let mut known = Vec::new();
        for (name, answer) in join_all(asks).await {
            match answer {
                Ok(ReadAnswer::Projected(shards)) => known.extend(
                    shards
                        .into_iter()
                        .filter(|(_, it)| *it != Projected::Elsewhere),
                ),
                Ok(_) => reason = format!("{name} gave another answer"),
                Err(InVain::Refused(error)) => reason = format!("{name}: {error}"),
                Err(InVain::Silent(silent)) => reason = format!("{name}: {silent}"),
            }
        }
        Ok((known, reason))
    }

    async fn wait(&self, position: Position, within: Duration) -> Result<(), ProjectionWaitError> {
        let shard = ShardId(position.shard);
        if position.kind != self.kind || position.shard >= self.shards {
            let kind = self.kind.clone();
            return Err(ProjectionWaitError::OtherType { kind, position });
        }
        let wanted = BTreeMap::from([(shard, position.position)]);
        let mut reason = String::new();
        let reached = self.reached(&wanted, &mut reason);
        let in_time = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ProjectionWaitError::Stopped),
            in_time = timeout(within, reached) => in_time,
        };
        in_time.map_err(|_| ProjectionWaitError::Timeout {
            after: within,
            reason,
        })
    }

    /// Resolves once the projection is there with each of these shards. `reason` says what keeps
    /// it.
    async fn reached(&self, wanted: &BTreeMap<ShardId, u64>, reason: &mut String) {
        let mut left = wanted.clone();
        let mut attempt = 0;
        "its owner has not answered".clone_into(reason);
        while !left.is_empty() {
            match self.ask(&left, attempt).await {
                Err(error) => *reason = error.to_string(),
                Ok((known, silent)) => {
                    if !silent.is_empty() {
                        *reason = silent;
                    }
                    for (shard, projected) in known {
                        let progress = match projected {
                            Projected::Here(progress) => progress,
                            Projected::NotHere | Projected::Elsewhere => {
                                *reason = not_here(shard);
                                continue;
                            }
                        };
                        let position = progress.position.unwrap_or_default();
                        if left.get(&shard).is_some_and(|wanted| position >= *wanted) {
                            left.remove(&shard);
                        } else {
                            *reason = format!("shard {} is at {position}", shard.0);
                            let trouble = progress.trouble.map(|it| format!(": {it}"));
                            reason.push_str(&trouble.unwrap_or_default());
                        }
                    }
                }
            }
            if !left.is_empty() {
                attempt += 1;
                self.nodes.later().await;
            }
        }
    }

    /// What is known of all shards, after a look at each.
    async fn look(&self) -> Result<(BTreeMap<ShardId, Projected>, String), StoredError> {
        let mut known = BTreeMap::new();
        let mut left: BTreeMap<_, _> = (0..self.shards).map(|it| (ShardId(it), 0)).collect();
        let until = Instant::now() + LOOK_WITHIN;
        let mut attempt = 0;
        let mut reason = "the shard has no owner yet".to_owned();
        while !left.is_empty() && Instant::now() < until {
            let Ok(asked) = timeout_at(until, self.ask(&left, attempt)).await else {
                break;
            };
            let (found, silent) = asked?;
            if !silent.is_empty() {
                reason = silent;
            }
            for (shard, projected) in found {
                left.remove(&shard);
                known.insert(shard, projected);
            }
            if !left.is_empty() {
                attempt += 1;
                self.nodes.later().await;
            }
        }
        Ok((known, reason))
    }

    async fn lag(&self) -> Result<Lag, StoredError> {
        let (known, reason) = self.look().await?;
        let now = wall_clock::millis();
        let mut lag = Lag::default();
        for shard in (0..self.shards).map(ShardId) {
            let of_it = match known.get(&shard) {
                Some(Projected::Here(progress)) => shard_lag(progress, now),
                Some(_) => trouble(not_here(shard)),
                None => trouble(reason.clone()),
            };
            lag.shards.insert(shard.0, of_it);
        }
        Ok(lag)
    }

    async fn caught_up(&self) -> Result<(), ProjectionWaitError> {
        let catching_up = async {
            let mut heads: BTreeMap<ShardId, u64> = BTreeMap::new();
            while heads.len() < usize::try_from(self.shards).unwrap_or(usize::MAX) {
                let Ok((known, _)) = self.look().await else {
                    self.nodes.later().await;
                    continue;
                };
                for (shard, projected) in known {
                    // Before the offset is claimed, the head is not known either.
                    if let Projected::Here(progress) = projected
                        && progress.position.is_some()
                    {
                        heads.entry(shard).or_insert(progress.head);
                    }
                }
                self.nodes.later().await;
            }
            self.reached(&heads, &mut String::new()).await;
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(ProjectionWaitError::Stopped),
            () = catching_up => Ok(()),
        }
    }
}

fn not_here(shard: ShardId) -> String {
    format!(
        "the owner of shard {} was not given the projection: call `project` on each node",
        shard.0
    )
}

fn shard_lag(progress: &ShardProgress, now: u64) -> ShardLag {
    let position = progress.position.unwrap_or_default();
    let (records, age) = behind(progress.head, position, progress.oldest, now);
    ShardLag {
        position,
        records,
        age,
        parked: progress.parked,
        trouble: progress.trouble.clone(),
    }
}

fn trouble(trouble: String) -> ShardLag {
    ShardLag {
        trouble: Some(trouble),
        ..ShardLag::default()
    }
}

//! A projection with one shard, on the node that owns the shard.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    actor::runtime::Runtime,
    cluster::{reading::events::durable_records, region::AnyRegion},
    error::StoredError,
    id::{Epoch, ShardId},
    infra::cancel::unless,
    persistence::{Journal, Log, Page, Record, head::Head, projected::Board, store::Store},
    projection::{
        store::ViewError,
        typed::{Unhandled, Work},
    },
    protocol::projection::{Astray, Follower, Next, check_dense, check_head},
};

/// How much is handled in one transaction.
const BATCH: Page = Page {
    records: 256,
    bytes: 512 * 1024,
};

/// How often the store is read although no record was announced. A net: records are announced by
/// the commit that writes them.
const LOOK: Duration = Duration::from_secs(10);

/// The pause if the head of the log is further than what can be read of it yet: not all copies have
/// it, or they are being taken over. The store does not tell when that is over.
const NOT_YET: Duration = Duration::from_millis(50);

/// What the runners of one projection on one node share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) runtime: Arc<Runtime>,
    pub(super) region: Arc<dyn AnyRegion>,
    pub(super) store: Arc<Store>,
    pub(super) board: Arc<Board>,
    /// A transaction each.
    pub(super) lanes: Semaphore,
}

/// The runner of a shard.
pub(super) struct Runner {
    pub(super) shared: Arc<Shared>,
    pub(super) shard: ShardId,
    pub(super) number: u64,
    pub(super) work: Box<dyn Work>,
    /// The shard has left, or the projection ends. What has begun is finished.
    pub(super) stop: CancellationToken,
}

/// Why a runner does not go on.
enum Halt {
    /// It was told to stop.
    Stopped,
    /// Another try comes after a pause.
    Later(String),
    /// It is over.
    Final(String),
}

impl From<ViewError> for Halt {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Unavailable { .. } => Self::Later(error.to_string()),
            ViewError::Stale { .. } | ViewError::Unusable { .. } => Self::Final(error.to_string()),
        }
    }
}

impl From<StoredError> for Halt {
    fn from(error: StoredError) -> Self {
        match error {
            StoredError::Unusable { reason } => Self::Final(reason),
            error => Self::Later(error.to_string()),
        }
    }
}

impl From<Astray> for Halt {
    fn from(astray: Astray) -> Self {
        Self::Final(format!("the log has lost records: {astray}"))
    }
}

impl Runner {
    pub(super) async fn run(mut self) {
        let (board, shard, number) = (self.shared.board.clone(), self.shard.0, self.number);
        board.begin(shard, number);
        let mut follower = Follower::new(self.work.parks());
        loop {
            let trouble = match self.follow(&mut follower).await {
                Halt::Stopped => break,
                Halt::Later(reason) => reason,
                // Its next owner may have been faster than the news of it.
                Halt::Final(_) if self.stop.is_cancelled() => break,
                Halt::Final(reason) => {
                    self.say_over(&reason);
                    self.note(Some(reason));
                    // What it came to is seen until the shard leaves.
                    self.stop.cancelled().await;
                    break;
                }
            };
            let pause = follower.handle_unavailable(self.shared.runtime.jitter());
            let (projection, kind) = (&self.shared.name, self.shared.region.name());
            tracing::warn!(
                projection,
                kind,
                shard,
                trouble,
                ?pause,
                "a projection waits"
            );
            self.note(Some(trouble));
            if self.pause(pause).await.is_err() {
                break;
            }
        }
        board.end(shard, number);
    }

    fn say_over(&self, reason: &str) {
        let (projection, kind) = (&self.shared.name, self.shared.region.name());
        let shard = self.shard.0;
        tracing::error!(
            projection,
            kind,
            shard,
            reason,
            "a projection has stopped with a shard"
        );
    }

    fn note(&self, trouble: Option<String>) {
        let board = &self.shared.board;
        board.note(self.shard.0, self.number, |it| it.trouble = trouble);
    }

    async fn pause(&self, pause: Duration) -> Result<(), Halt> {
        let waited = unless(&self.stop, tokio::time::sleep(pause)).await;
        waited.ok_or(Halt::Stopped)
    }

    /// Claims the log, then the offset, and follows the log.
    async fn follow(&mut self, follower: &mut Follower) -> Halt {
        let begun = match self.begin(follower).await {
            Ok(begun) => begun,
            Err(halt) => return halt,
        };
        let (epoch, head) = begun;
        loop {
            if let Err(halt) = self.step(follower, epoch, &head).await {
                return halt;
            }
        }
    }

    async fn begin(&mut self, follower: &mut Follower) -> Result<(Epoch, Arc<Head>), Halt> {
        let log = self.shared.region.log(self.shard).map_err(Halt::Later)?;
        let claimed = timeout(self.shared.runtime.patience(), log.claimed());
        match unless(&self.stop, claimed).await {
            None => return Err(Halt::Stopped),
            Some(Ok(claimed)) => claimed.map_err(Halt::Later)?,
            Some(Err(_)) => {
                let silent = || "the store has not answered".to_owned();
                return Err(Halt::Later(log.pending().unwrap_or_else(silent)));
            }
        }
        let (epoch, head) = (log.epoch(), log.head().clone());
        // Held, it would stay claimed after the shard has left.
        drop(log);
        let position = self.work.claim(epoch).await?;
        self.shared.board.set_head(self.shard.0, self.number, &head);
        check_head(position, head.position())?;
        follower.handle_claimed(position);
        self.shared.board.note(self.shard.0, self.number, |it| {
            it.position = Some(position);
        });
        Ok((epoch, head))
    }

    /// Handles what follows, or waits for it.
    async fn step(
        &mut self,
        follower: &mut Follower,
        epoch: Epoch,
        head: &Head,
    ) -> Result<(), Halt> {
        if self.stop.is_cancelled() {
            return Err(Halt::Stopped);
        }
        let position = follower.position();
        let journal: &dyn Journal = self.shared.store.journal();
        let log = Log {
            kind: self.shared.region.name().into(),
            shard: self.shard.0,
        };
        let patience = self.shared.runtime.patience();
        let reading = durable_records(journal, &log, position, BATCH, patience);
        let records = unless(&self.stop, reading).await.ok_or(Halt::Stopped)??;
        check_dense(position, records.iter().map(|record| record.position))?;
        let (number, board) = (self.number, &self.shared.board);
        let Some((first, last)) = records.first().zip(records.last()) else {
            board.note(self.shard.0, number, |it| {
                (it.oldest, it.trouble) = (None, None);
            });
            if head.position() > position {
                return self.pause(NOT_YET).await;
            }
            let news = timeout(LOOK, head.after(position));
            return unless(&self.stop, news)
                .await
                .map_or(Err(Halt::Stopped), |_| Ok(()));
        };
        board.note(self.shard.0, number, |it| {
            it.oldest = Some(first.at);
            it.head = it.head.max(last.position);
        });
        let end = follower.end_of_batch(last.position);
        let batch: Vec<Record> = records
            .into_iter()
            .filter(|record| record.position <= end)
            .collect();
        let handled = {
            let lane = unless(&self.stop, self.shared.lanes.acquire()).await;
            let Some(Ok(_lane)) = lane else {
                return Err(Halt::Stopped);
            };
            self.work.handle(epoch, position, &batch).await
        };
        match handled {
            Ok(()) => {
                follower.handle_done(end);
                self.noted_done(end);
                Ok(())
            }
            Err(Unhandled::Store(error)) => Err(error.into()),
            Err(Unhandled::Record {
                position: failed,
                reason,
            }) => self.failed(follower, epoch, &batch, failed, reason).await,
        }
    }

    fn noted_done(&self, position: u64) {
        self.shared.board.note(self.shard.0, self.number, |it| {
            it.position = Some(position);
            (it.oldest, it.trouble) = (None, None);
        });
    }

    /// A record could not be handled.
    async fn failed(
        &mut self,
        follower: &mut Follower,
        epoch: Epoch,
        batch: &[Record],
        failed: u64,
        reason: String,
    ) -> Result<(), Halt> {
        let next = follower.handle_failed(failed, self.shared.runtime.jitter());
        let record = batch.iter().find(|record| record.position == failed);
        let of = record.map_or("", |record| record.entity.as_str());
        let (projection, kind) = (&self.shared.name, self.shared.region.name());
        let shard = self.shard.0;
        match (next, record) {
            (Next::Again, _) => Ok(()),
            (Next::Park(position), Some(record)) => {
                tracing::error!(
                    projection,
                    kind,
                    shard,
                    of,
                    position,
                    reason,
                    "an event is parked, and the projection goes on behind it"
                );
                self.work.park(epoch, position - 1, record, reason).await?;
                follower.handle_done(position);
                self.noted_done(position);
                let board = &self.shared.board;
                board.note(self.shard.0, self.number, |it| it.parked += 1);
                Ok(())
            }
            (Next::Pause(pause), _) => {
                let trouble = format!("the record of `{of}` at position {failed}: {reason}");
                tracing::warn!(
                    projection,
                    kind,
                    shard,
                    trouble,
                    ?pause,
                    "a projection waits"
                );
                self.note(Some(trouble));
                self.pause(pause).await
            }
            (Next::Park(_), None) => Err(Halt::Later(reason)),
        }
    }
}

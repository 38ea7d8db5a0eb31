//! A store that fails as networks and databases do, for tests.
//!
//! [`FaultyStore`] is one store, and [`Faulty`] is the connection of one node to it. What a node
//! meets is set while a test runs: delays, a store that is away or silent, appends that fail
//! without or after having been written, or whose outcome is unknown until the next claim.
//!
//! All waits are on tokio's clock, and all randomness comes from seeds. So in a `Sim` the same seed
//! gives the same run, and a test with a paused clock does not really wait.
//!
//! ```
//! use std::sync::Arc;
//!
//! use casty::persistence::{
//!     Journal, Memory,
//!     faults::{Faults, FaultyStore},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let store = FaultyStore::new(Arc::new(Memory::new()));
//! let connection = store.connection(7);
//! connection.set(Faults {
//!     is_away: true,
//!     ..Faults::default()
//! });
//! assert!(connection.open(&[]).await.is_err());
//! connection.set(Faults::default());
//! assert!(connection.open(&[]).await.is_ok());
//! # }
//! ```

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use crate::{
    id::{EntityId, Epoch},
    infra::sync::lock,
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, StoredEntity,
    },
};

/// What a connection meets. By default nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// The longest time that an operation takes on its way to the store, and as much again on the
    /// way back. In each case it is a random part of it, in whole milliseconds.
    pub delay_max: Duration,
    /// How much longer each claim takes.
    pub claim_delay: Duration,
    /// The store cannot be reached: each operation fails at once, and nothing is written.
    pub is_away: bool,
    /// The store does not answer: operations wait until this is over.
    pub is_silent: bool,
    /// The part of the appends, from 0 to 1, that fail as
    /// [`NotWritten`](AppendError::NotWritten).
    pub not_written: f64,
    /// The part of the appends, from 0 to 1, that fail as [`Unknown`](AppendError::Unknown). A
    /// third of them is written, and another third is not. The rest is unfinished: it is written or
    /// not when one of its logs is claimed next, and a claim waits for that.
    pub unknown: f64,
}

/// A claim that the store has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The log.
    pub log: Log,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The owner that it names.
    pub owner: String,
    /// The head of the log at that time.
    pub head: u64,
}

/// One store, to which each node has a connection.
#[derive(Clone)]
pub struct FaultyStore(Arc<Shared>);

struct Shared {
    journal: Arc<dyn Journal>,
    /// Appends of which it is not decided whether they are written, and how it will be decided.
    unfinished: Mutex<Vec<(Vec<Append>, bool)>>,
    /// Held while what is unfinished is decided.
    deciding: tokio::sync::Mutex<()>,
    claims: Mutex<Vec<Claimed>>,
}

/// A connection to a [`FaultyStore`]. Its clones are the same connection.
#[derive(Clone)]
pub struct Faulty {
    store: Arc<Shared>,
    faults: Arc<watch::Sender<Faults>>,
    rng: Arc<Mutex<StdRng>>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.0.journal.describe())
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty")
            .field("faults", &*self.faults.borrow())
            .finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// What is written is written to `journal`.
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self(Arc::new(Shared {
            journal,
            unfinished: Mutex::default(),
            deciding: tokio::sync::Mutex::default(),
            claims: Mutex::default(),
        }))
    }

    /// The claims that were granted, in their order, repeated ones too.
    #[must_use]
    pub fn claims(&self) -> Vec<Claimed> {
        lock(&self.0.claims).clone()
    }

    /// The connection of one node, which keeps it over restarts. All that is random about it comes
    /// from the seed.
    pub fn connection(&self, seed: u64) -> Faulty {
        Faulty {
            store: self.0.clone(),
            faults: Arc::new(watch::Sender::new(Faults::default())),
            rng: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }
}

/// How an append ends.
enum Fate {
    Written,
    NotWritten,
    /// With whether it is written, if that is decided.
    Unknown(Option<bool>),
}

/// A batch on its way. Dropped there, it is unfinished.
struct OnItsWay<'a> {
    store: &'a Shared,
    batch: Vec<Append>,
    will_be_written: bool,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            lock(&self.store.unfinished).push((batch, self.will_be_written));
        }
    }
}

impl Shared {
    /// Decides what is unfinished and has such a part.
    async fn decide(&self, concerns: impl Fn(&Append) -> bool + Send) {
        let _deciding = self.deciding.lock().await;
        let of_these = |(batch, _): &mut (Vec<Append>, bool)| batch.iter().any(&concerns);
        let decided: Vec<_> = lock(&self.unfinished).extract_if(.., of_these).collect();
        for (batch, is_written) in decided {
            if is_written {
                // What has been fenced meanwhile is refused, as it is to be.
                let _ = self.journal.append(batch).await;
            }
        }
    }
}

impl Faulty {
    /// What the connection meets from now on. Operations under way meet it too.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    fn random<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut lock(&self.rng))
    }

    async fn delay(&self) {
        let most = self.faults.borrow().delay_max.as_millis();
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        if most > 0 {
            let millis = self.random(|rng| rng.random_range(0..=most));
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }

    /// The way to the store. The error says that it cannot be reached.
    async fn reach(&self) -> Result<(), String> {
        self.delay().await;
        let mut faults = self.faults.subscribe();
        // The sender is in `self`.
        let _ = faults.wait_for(|faults| !faults.is_silent).await;
        if self.faults.borrow().is_away {
            return Err("the store is away".to_owned());
        }
        Ok(())
    }

    async fn reading<T>(
        &self,
        operation: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        let reached = self.reach().await;
        reached.map_err(|reason| JournalError::Unavailable { reason })?;
        let read = operation.await;
        self.delay().await;
        read
    }

    fn fate(&self) -> Fate {
        let (not_written, unknown) = {
            let faults = self.faults.borrow();
            (faults.not_written, faults.unknown)
        };
        let (drawn, kind) = self.random(|rng| (rng.random::<f64>(), rng.random_range(0..3)));
        if drawn < not_written {
            Fate::NotWritten
        } else if drawn < not_written + unknown {
            Fate::Unknown([Some(true), Some(false), None][kind])
        } else {
            Fate::Written
        }
    }

    async fn append_all(&self, batch: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        let mut on_its_way = OnItsWay {
            store: &self.store,
            batch,
            will_be_written: self.random(RngExt::random),
        };
        if let Err(reason) = self.reach().await {
            on_its_way.batch.clear();
            return Err(AppendError::NotWritten { reason });
        }
        let fate = self.fate();
        let lost = || "the connection was lost".to_owned();
        if matches!(fate, Fate::Unknown(None)) {
            drop(on_its_way);
            self.delay().await;
            return Err(AppendError::Unknown { reason: lost() });
        }
        let batch = std::mem::take(&mut on_its_way.batch);
        // An unfinished append holds the locks of its logs.
        self.store
            .decide(|other| batch.iter().any(|append| append.log == other.log))
            .await;
        let appended = match fate {
            Fate::Written => self.store.journal.append(batch).await,
            Fate::NotWritten => Err(AppendError::NotWritten { reason: lost() }),
            Fate::Unknown(is_written) => {
                if is_written == Some(true) {
                    let _ = self.store.journal.append(batch).await;
                }
                Err(AppendError::Unknown { reason: lost() })
            }
        };
        self.delay().await;
        appended
    }
}

impl Journal for Faulty {
    fn describe(&self) -> String {
        format!(
            "{}, over a faulty connection",
            self.store.journal.describe()
        )
    }

    fn only_one_host(&self) -> Option<&'static str> {
        self.store.journal.only_one_host()
    }

    fn lanes(&self) -> usize {
        self.store.journal.lanes()
    }

    fn lane_records(&self) -> usize {
        self.store.journal.lane_records()
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let journal = &self.store.journal;
        Box::pin(self.reading(async move { journal.open(kinds).await }))
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        let journal = &self.store.journal;
        Box::pin(self.reading(async move { journal.latest_epoch().await }))
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move {
            let reached = self.reach().await;
            reached.map_err(|reason| JournalError::Unavailable { reason })?;
            let longer = self.faults.borrow().claim_delay;
            if longer > Duration::ZERO {
                tokio::time::sleep(longer).await;
            }
            // What is written under an earlier epoch has ended before the claim returns. It may
            // come just after the claim, and is refused then.
            let is_before = self.random(RngExt::random::<bool>);
            self.store
                .decide(|other| other.log == *log && (is_before || other.epoch >= epoch))
                .await;
            let claimed = self.store.journal.claim(log, epoch, owner).await;
            if let Ok(head) = claimed {
                lock(&self.store.claims).push(Claimed {
                    log: log.clone(),
                    epoch,
                    owner: owner.to_owned(),
                    head,
                });
            }
            self.store.decide(|other| other.log == *log).await;
            self.delay().await;
            claimed
        })
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        Box::pin(self.append_all(batch))
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        let journal = &self.store.journal;
        Box::pin(self.reading(async move { journal.read_entity(log, entity, after, page).await }))
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        let journal = &self.store.journal;
        Box::pin(self.reading(async move { journal.read_log(log, after, page).await }))
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        let journal = &self.store.journal;
        Box::pin(self.reading(async move { journal.load(log, entity).await }))
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let journal = &self.store.journal;
        Box::pin(self.reading(async move { journal.save(log, epoch, entity, snapshot).await }))
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let journal = &self.store.journal;
        Box::pin(
            self.reading(
                async move { journal.forget(log, epoch, entity, through, snapshot).await },
            ),
        )
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        let journal = &self.store.journal;
        Box::pin(self.reading(async move { journal.entities(log, after, limit).await }))
    }
}

//! A journal that is prepared for the types of its node before it is used.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::{
    id::{EntityId, Epoch},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, StoredEntity,
    },
};

/// Entity types, each with its number of shards.
pub(crate) type StoredKinds = Vec<(Arc<str>, NonZeroU32)>;

/// Whether two nodes at these addresses are on one host, as far as the addresses tell.
pub(crate) fn is_same_host(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() || a.ip().is_loopback() && b.ip().is_loopback()
}

/// Opens a journal before its first use, once. A store that is down when its node starts is opened
/// when it answers.
pub(crate) struct Opened {
    journal: Arc<dyn Journal>,
    kinds: StoredKinds,
    is_open: OnceCell<()>,
}

impl Opened {
    pub(crate) fn new(journal: Arc<dyn Journal>, kinds: StoredKinds) -> Self {
        Self {
            journal,
            kinds,
            is_open: OnceCell::new(),
        }
    }

    /// Opens it, unless it is open.
    pub(crate) async fn once(&self) -> Result<(), JournalError> {
        let open = self
            .is_open
            .get_or_try_init(|| self.journal.open(&self.kinds));
        open.await.map(drop)
    }
}

impl Journal for Opened {
    fn describe(&self) -> String {
        self.journal.describe()
    }

    fn only_one_host(&self) -> Option<&'static str> {
        self.journal.only_one_host()
    }

    fn lanes(&self) -> usize {
        self.journal.lanes()
    }

    fn lane_records(&self) -> usize {
        self.journal.lane_records()
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.journal.open(kinds)
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        Box::pin(async move {
            self.once().await?;
            self.journal.latest_epoch().await
        })
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move {
            self.once().await?;
            self.journal.claim(log, epoch, owner).await
        })
    }

    // Nothing is appended, saved or forgotten under an epoch before its claim.
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        self.journal.append(batch)
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            self.once().await?;
            self.journal.read_entity(log, entity, after, page).await
        })
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            self.once().await?;
            self.journal.read_log(log, after, page).await
        })
    }

    fn durable<'a>(&'a self, log: &'a Log) -> BoxFuture<'a, Result<Option<u64>, JournalError>> {
        Box::pin(async move {
            self.once().await?;
            self.journal.durable(log).await
        })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        Box::pin(async move {
            self.once().await?;
            self.journal.load(log, entity).await
        })
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.journal.save(log, epoch, entity, snapshot)
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.journal.forget(log, epoch, entity, through, snapshot)
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        Box::pin(async move {
            self.once().await?;
            self.journal.entities(log, after, limit).await
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.journal.close()
    }
}

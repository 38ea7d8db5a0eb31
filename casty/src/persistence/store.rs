//! The store of a node.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

#[cfg(feature = "metrics")]
use crate::persistence::commit_meter::CommitMeter;
use crate::{
    id::EntityId,
    infra::{concurrent::spawn_on, sync::lock},
    persistence::{
        Journal, JournalError, Log, Page,
        committer::Committer,
        head::Head,
        inbox::Inbox,
        outbox::CourierSlot,
        projected::Boards,
        reminder_clock::ReminderClock,
        turns::{Turn, Turns},
    },
};

/// How many entities are read from the store at a time. A store of SQL has a few connections for
/// reading, so more at a time would not be faster. They would need more memory: each has two pages
/// of records at most, one that is applied and the next one, of a mebibyte each.
const RECOVERIES_MAX: usize = 64;

/// The store of a node: what is written to it goes through one committer.
///
/// A store that is down fails what is appended at once, or after three seconds if it does not
/// answer. Claims are tried again, after growing pauses.
pub(crate) struct Store {
    journal: Arc<dyn Journal>,
    recoveries: Turns,
    /// Of the logs that were ever opened here.
    heads: Mutex<BTreeMap<Log, Arc<Head>>>,
    /// The projections of this node.
    pub(crate) boards: Boards,
    pub(super) inbox: Arc<Inbox>,
    courier: CourierSlot,
    clock: Arc<ReminderClock>,
    handle: tokio::runtime::Handle,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.journal.describe())
    }
}

impl Store {
    /// `owner`: this process, as claims name it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(journal: Arc<dyn Journal>, owner: String) -> Arc<Self> {
        let inbox = Arc::new(Inbox::default());
        let committer = Committer::new(journal.clone(), owner.into(), inbox.clone());
        // It ends once the store is dropped or closed, and everything queued is decided.
        let handle = tokio::runtime::Handle::current();
        spawn_on(&handle, committer.run());
        Arc::new(Self {
            journal,
            recoveries: Turns::new(RECOVERIES_MAX),
            heads: Mutex::default(),
            boards: Boards::default(),
            inbox,
            courier: CourierSlot::default(),
            clock: Arc::new(ReminderClock::new()),
            handle,
        })
    }

    /// The courier of this node, for the sends and the reminders of its entities.
    pub(crate) fn courier(&self) -> &CourierSlot {
        &self.courier
    }

    /// The clock by which reminders are due.
    pub(crate) fn clock(&self) -> &Arc<ReminderClock> {
        &self.clock
    }

    pub(super) fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }

    pub(super) fn shared_journal(&self) -> Arc<dyn Journal> {
        self.journal.clone()
    }

    /// What is counted of the appends.
    #[cfg(feature = "metrics")]
    pub(crate) fn commits(&self) -> &CommitMeter {
        &self.inbox.meter
    }

    pub(crate) fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

    /// Whether a log has ever had records with sends or reminders. Asked of each log when a node
    /// starts: what was to be sent when the last process ended goes on without a message to that
    /// shard.
    ///
    /// # Errors
    /// The error of the store.
    pub(crate) async fn has_ledger(&self, log: &Log) -> Result<bool, JournalError> {
        let one = Page {
            records: 1,
            bytes: 1,
        };
        let shard = EntityId::of_shard();
        let found = self.journal.read_entity(log, &shard, 0, one).await?;
        Ok(!found.is_empty())
    }

    /// A turn to read an entity. At most 64 have one: an entity that has to wait for another
    /// one's recovery gives it back meanwhile. Those of one shard come together. Beyond that
    /// nothing slows recovery down, so its rate is that of the store. The target is half of what
    /// one connection reads and decodes in a bare scan; the benchmark `journal` of `casty-sql`
    /// prints both.
    pub(crate) async fn recovery(&self, log: &Log) -> Turn {
        self.recoveries.turn(log).await
    }

    /// How far a log is durable. Known once it is claimed here.
    pub(super) fn head(&self, log: &Log) -> Arc<Head> {
        let mut heads = lock(&self.heads);
        if let Some(head) = heads.get(log) {
            return head.clone();
        }
        heads.entry(log.clone()).or_default().clone()
    }

    /// Writes what is queued. What is appended later fails. Resolves once all of it is decided,
    /// within some seconds, and the journal is closed.
    pub(crate) async fn close(&self) {
        self.inbox.close();
        self.inbox.ended.cancelled().await;
        self.journal.close().await;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

//! The log of a shard as its owner sees it.

use std::sync::Arc;

use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    id::Epoch,
    infra::{concurrent::spawn_on, mutants},
    persistence::{
        Log,
        head::Head,
        inbox::{Input, Waiting},
        outbox::{Appending, OutboxTask, ShardOutbox, ledger_entry},
        sends::Ledger,
        store::Store,
    },
    protocol::commit::LogId,
};
pub(crate) use crate::{
    persistence::{
        inbox::Entry,
        progress::{NotStored, Progress},
    },
    protocol::commit::Claim,
};

/// The log of a shard that this node owns. Dropped, it is not claimed any more; what was queued is
/// still written, as far as the store takes it.
#[derive(Debug)]
pub(crate) struct ShardLog {
    store: Arc<Store>,
    id: LogId,
    log: Log,
    epoch: Epoch,
    claim: watch::Receiver<Claim>,
    outbox: Arc<ShardOutbox>,
    head: Arc<Head>,
}

impl Store {
    /// The log of a shard that this node owns from now on. It is claimed in the background.
    ///
    /// It takes the place of an earlier one of the same shard: what that one has queued fails.
    pub(crate) fn open_log(self: &Arc<Self>, log: Log, epoch: Epoch) -> Arc<ShardLog> {
        let id = self.inbox.next_log();
        let (sender, claim) = watch::channel(Claim::Pending(None));
        let head = self.head(&log);
        self.inbox.put(Input::Opened {
            id,
            log: log.clone(),
            epoch,
            claim: sender,
            head: head.clone(),
        });
        let log = Arc::new(ShardLog {
            store: self.clone(),
            id,
            log,
            epoch,
            claim,
            outbox: ShardOutbox::new(),
            head,
        });
        log.begin_outbox();
        log
    }
}

impl ShardLog {
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn outbox(&self) -> &Arc<ShardOutbox> {
        &self.outbox
    }

    /// Begins to carry what the log has of sends and reminders.
    fn begin_outbox(&self) {
        let task = OutboxTask {
            outbox: self.outbox.clone(),
            journal: self.store.shared_journal(),
            inbox: self.store.inbox.clone(),
            head: self.head.clone(),
            courier: self.store.courier().clone(),
            id: self.id,
            log: self.log.clone(),
            epoch: self.epoch,
            clock: self.store.clock().clone(),
            claim: self.claim.clone(),
            rng: StdRng::seed_from_u64(xxh3_64(self.log.to_string().as_bytes()) ^ self.epoch.0),
        };
        // It ends with the log.
        spawn_on(self.store.handle(), task.run());
    }

    /// How far the log is durable, once it is claimed.
    pub(crate) fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// Resolves once the log is claimed, or cannot be. The caller bounds the wait.
    ///
    /// A log that was claimed may have to be claimed again, if it is not known what became of a
    /// commit. Nothing must be read from it before that.
    ///
    /// # Errors
    /// Why it cannot be claimed.
    pub(crate) async fn claimed(&self) -> Result<(), String> {
        let mut claim = self.claim.clone();
        let waits = !mutants::on("entities_are_read_before_the_claim");
        let settled = claim
            .wait_for(|claim| !waits || !matches!(claim, Claim::Pending(_)))
            .await;
        match settled.as_deref() {
            Ok(Claim::Refused(reason)) => Err(reason.clone()),
            Ok(_) => Ok(()),
            Err(_) => {
                let reason = "the shard is not on this node any more, or the node shuts down";
                Err(reason.to_owned())
            }
        }
    }

    /// Why the log is not claimed yet.
    pub(crate) fn pending(&self) -> Option<String> {
        match &*self.claim.borrow() {
            Claim::Pending(Some(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Appends a record. `progress` tells when it is durable; once it has failed, no later record
    /// of its activation is written.
    ///
    /// The caller has seen that there is [room](Self::has_room).
    pub(crate) fn append(self: &Arc<Self>, entry: Entry, progress: &Arc<Progress>) {
        let inbox = &self.store.inbox;
        // Read before it is seen whether there is a ledger: what is durable by now and comes after
        // a record with sends or reminders comes after a ledger.
        let through = progress.position();
        let Appending {
            ledger,
            begins,
            outbox,
        } = self.outbox.handle_appending(&entry.news);
        let waiting = |entry| {
            let (progress, outbox) = (progress.clone(), outbox.clone());
            let head = self.head.clone();
            Waiting::new(entry, self.epoch, progress, inbox.clone(), outbox, head)
        };
        if let Some(seq) = ledger {
            // No record before those of this activation has sends or reminders.
            let ledger = ledger_entry(seq, Ledger::first(seq, through));
            inbox.put(Input::Record(self.id, waiting(ledger)));
        }
        if begins {
            self.begin_outbox();
        }
        inbox.put(Input::Record(self.id, waiting(entry)));
    }

    /// Whether a further record may be appended: those in flight, of the activation and of the
    /// node, are bounded.
    pub(crate) fn has_room(&self, progress: &Progress) -> bool {
        progress.has_room() && self.store.inbox.has_room() && self.outbox.is_ready()
    }

    /// Resolves once there is room, or a record of the activation has failed.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub(crate) async fn room(&self, progress: &Progress) {
        loop {
            let freed = self.store.inbox.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.has_room(progress) || progress.failed().is_some() {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for ShardLog {
    fn drop(&mut self) {
        self.outbox.close();
        self.store.inbox.put(Input::Gone(self.id));
    }
}

//! What is written beside records: snapshots, and what is forgotten.
//!
//! A transaction of its own would take as long as one of records, since each waits for the disk. So
//! it waits for the next append, and is part of that transaction. If none comes it has one of its
//! own.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use casty::{
    id::{EntityId, Epoch},
    persistence::{JournalError, Snapshot},
};
use sqlx::{Error, SqliteConnection};
use tokio::{sync::oneshot, time::timeout};

use super::{
    LogKey, Shared, connection,
    run::{Unfinished, run},
    write::{forget, save},
};
use crate::{pool::Verdict, sync::lock};

/// How long it waits for an append to begin. While one runs, a further one follows it, most likely.
const WAIT: Duration = Duration::from_millis(5);

/// How often it waits so long at most.
const WAITS_MAX: usize = 200;

/// How much of it is part of one append, so that commands do not wait for long.
const WORKS_MAX: usize = 16;
const BYTES_MAX: usize = 1024 * 1024;

/// A snapshot to save, or records to forget.
pub(super) struct AsideWork {
    pub(super) log: LogKey,
    pub(super) epoch: Epoch,
    pub(super) entity: EntityId,
    pub(super) what: AsideKind,
}

pub(super) enum AsideKind {
    Save(Snapshot),
    Forget { through: u64, snapshot: bool },
}

impl AsideWork {
    fn bytes(&self) -> usize {
        match &self.what {
            AsideKind::Save(snapshot) => snapshot.body.len(),
            AsideKind::Forget { .. } => 0,
        }
    }

    /// Within a transaction that is open.
    async fn write(&self, connection: &mut SqliteConnection) -> Result<(), Unfinished> {
        let to = (self.log, self.epoch, &self.entity);
        match &self.what {
            AsideKind::Save(snapshot) => save(connection, to, snapshot).await,
            AsideKind::Forget { through, snapshot } => {
                forget(connection, to, *through, *snapshot).await
            }
        }
    }
}

/// Work, and the end of a channel to its caller.
pub(super) struct Aside {
    work: AsideWork,
    done: oneshot::Sender<Result<(), JournalError>>,
}

/// What waits to be written.
#[derive(Default)]
pub(super) struct Asides {
    waiting: Mutex<VecDeque<Aside>>,
    /// How many appends run, or wait for their turn.
    appends: AtomicUsize,
}

/// An append that runs, or waits for its turn.
pub(super) struct Appending(Arc<Shared>);

impl Appending {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.asides.appends.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }

    pub(super) fn asides(&self) -> &Asides {
        &self.0.asides
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        self.0.asides.appends.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Asides {
    /// What is part of the next append, in order. Work is left out once its caller is gone.
    pub(super) fn take(&self) -> Vec<Aside> {
        let (mut waiting, mut taken, mut bytes) = (lock(&self.waiting), Vec::new(), 0);
        while let Some(first) = waiting.front() {
            let with_it = bytes + first.work.bytes();
            let is_full = taken.len() >= WORKS_MAX || with_it > BYTES_MAX;
            if is_full && !taken.is_empty() {
                break;
            }
            let Some(first) = waiting.pop_front() else {
                break;
            };
            if !first.done.is_closed() {
                bytes = with_it;
                taken.push(first);
            }
        }
        taken
    }

    /// They were not written, and wait again, before those that came later.
    pub(super) fn put_back(&self, asides: Vec<Aside>) {
        let mut waiting = lock(&self.waiting);
        for aside in asides.into_iter().rev() {
            waiting.push_front(aside);
        }
    }

    /// The work at this index could not be written, and the rest was not.
    pub(super) fn fail(&self, mut asides: Vec<Aside>, index: usize, error: &JournalError) {
        if index < asides.len() {
            answer(vec![asides.remove(index)], &Err(error.clone()));
        }
        self.put_back(asides);
    }
}

/// Writes them within a transaction that is open. An error says which one it is of.
pub(super) async fn write_all(
    connection: &mut SqliteConnection,
    asides: &[Aside],
) -> Result<(), (usize, Error)> {
    for (index, aside) in asides.iter().enumerate() {
        let written = aside.work.write(connection).await;
        written.map_err(|unfinished| (index, unfinished.error))?;
    }
    Ok(())
}

pub(super) fn answer(asides: Vec<Aside>, result: &Result<(), JournalError>) {
    for aside in asides {
        // A caller that is gone does not want to know.
        let _ = aside.done.send(result.clone());
    }
}

/// In a transaction of its own.
async fn write_one(connection: &mut SqliteConnection, aside: &Aside) -> Result<(), Error> {
    run(connection, sqlx::query("BEGIN IMMEDIATE"), 1).await?;
    aside.work.write(connection).await?;
    run(connection, sqlx::query("COMMIT"), 1).await?;
    Ok(())
}

/// Writes all that wait, each in a transaction of its own. The first that leaves the connection
/// unusable fails the later ones as well.
async fn write_alone(connection: &mut SqliteConnection, asides: &Asides) -> Verdict {
    let (mut verdict, mut failed) = (Verdict::Keep, None);
    loop {
        let taken = asides.take();
        if taken.is_empty() {
            return verdict;
        }
        for aside in taken {
            let result = if let Some(error) = &failed {
                Err(JournalError::clone(error))
            } else {
                let result = write_one(connection, &aside).await;
                verdict = connection::verdict(connection, result.as_ref().err()).await;
                result.map_err(|error| connection::journal_error(&error))
            };
            if verdict != Verdict::Keep {
                failed = result.as_ref().err().cloned();
            }
            answer(vec![aside], &result);
        }
    }
}

/// Writes a snapshot, or forgets records, with the next append or alone. It is durable when this
/// returns. Dropped before it has begun, it has no effect.
pub(super) async fn write(shared: &Arc<Shared>, work: AsideWork) -> Result<(), JournalError> {
    let (done, mut written) = oneshot::channel();
    lock(&shared.asides.waiting).push_back(Aside { work, done });
    for _ in 0..WAITS_MAX {
        if let Ok(written) = timeout(WAIT, &mut written).await {
            return written.unwrap_or_else(|_| Err(lost()));
        }
        if shared.asides.appends.load(Ordering::Relaxed) == 0 {
            break;
        }
    }
    let of_store = shared.clone();
    let alone = shared.writer.run(move |connection| {
        Box::pin(async move { (write_alone(connection, &of_store.asides).await, ()) })
    });
    let alone = alone.await;
    // An append may have written it meanwhile.
    match (written.try_recv(), alone) {
        (Ok(written), _) => written,
        (Err(_), Err(why)) => Err(why.into()),
        (Err(_), Ok(())) => Err(lost()),
    }
}

fn lost() -> JournalError {
    let reason = "what was to be written beside the records was not".to_owned();
    JournalError::Unavailable { reason }
}

//! A store with threads of its own.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};
use uuid::Uuid;

use crate::{
    Change, CommitError, Done, OpenError, Opened, Options, Reader, Store, Usage,
    disk::Disk,
    home,
    spares::Spares,
    stage::{check, encode},
};

/// How many commits wait, at most. Further ones wait before they are queued.
const QUEUE: usize = 1024;

/// How much of what waits is written at once, besides the first: in changes, and in bytes.
const CHANGES_MAX: usize = 4096;
const BYTES_MAX: usize = 1024 * 1024;

/// The pause before a store that failed is opened again. It doubles with each attempt
/// that fails.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A store whose commits run on a thread of its own. What waits while one commit runs is written
/// together, so that one sync serves all of it; a commit that comes alone is written at once.
///
/// After an error of the disk each commit fails with [`CommitError::NotWritten`], until the store
/// is opened again. The thread does that by itself, when a commit comes after a pause. So after
/// [`CommitError::Unknown`] a caller looks at the [head](Reader::head) of its log, by a
/// [claim](Change::Claim), before it goes on.
///
/// ```
/// use std::{num::NonZeroU32, sync::Arc};
///
/// use casty_log::{Change, Done, Log, LogId, Options, Record, disk::Folder};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("data");
/// let (log, _) = Log::open(Arc::new(Folder::new(&path)), Options::default())?;
/// let shards = NonZeroU32::new(64).ok_or("no shards")?;
/// let done = log.commit(vec![Change::Kind { name: "Account".into(), shards }]).await?;
/// assert_eq!(done, [Done::Kind(0)]);
/// let shard = LogId { kind: 0, shard: 7 };
/// let record = Record {
///     position: 1,
///     epoch: 3,
///     entity: "ada".into(),
///     seq: 1,
///     at: 1_700_000_000_000,
///     body: "10 pence".into(),
/// };
/// let claim = Change::Claim { log: shard, epoch: 3, owner: "node-1".into() };
/// let append = Change::Append { log: shard, epoch: 3, records: vec![record.clone()] };
/// let done = log.commit(vec![claim, append]).await?;
/// assert_eq!(done, [Done::Claimed { head: 0 }, Done::Written]);
///
/// let read = log.reader().read_entity(shard, "ada", 0, Default::default())?;
/// assert_eq!(read, [record]);
/// log.close()?;
/// # Ok(())
/// # }
/// ```
pub struct Log {
    requests: mpsc::Sender<Request>,
    reader: Reader,
    disk: Arc<dyn Disk>,
    id: Uuid,
    status: Arc<Mutex<Status>>,
    writer: JoinHandle<io::Result<()>>,
}

struct Request {
    changes: Vec<Change>,
    /// Of each change.
    encoded: Vec<Vec<u8>>,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Vec<Done>, CommitError>>;

/// A request that was taken: where its answer goes, and the number of its changes.
type Waiting = (Answer, usize);

struct Status {
    spares: Arc<Spares>,
    dead: Option<String>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the store in a directory, or makes one. It reads the segments, so it blocks.
    ///
    /// # Errors
    /// [`OpenError`] if the directory is in use, damaged or of a later version, or the disk fails.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Opened), OpenError> {
        let directory = disk.describe();
        let (store, opened) = Store::open(disk.clone(), options)?;
        let failed = |source| OpenError::Io {
            directory: directory.clone(),
            what: "starting a thread",
            source,
        };
        let spares = store.spares.clone();
        let status = Arc::new(Mutex::new(Status { spares, dead: None }));
        let (requests, queue) = mpsc::channel(QUEUE);
        let reader = store.reader();
        let writer = Writer {
            store,
            status: status.clone(),
            queue,
            failed: None,
        };
        let writer = thread::Builder::new()
            .name("casty-log".to_owned())
            .spawn(move || writer.run())
            .map_err(failed)?;
        let log = Self {
            requests,
            reader,
            disk,
            id: opened.store,
            status,
            writer,
        };
        Ok((log, opened))
    }

    /// Makes changes, all or none. When it returns, they are durable. Commits are made in the order
    /// of the calls.
    ///
    /// # Errors
    /// [`CommitError`] if the disk fails, or a change is too large.
    ///
    /// # Cancel safety
    /// A future that is dropped has made all of its changes, or will have when later commits are
    /// made, or makes none.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Done>, CommitError> {
        changes.iter().try_for_each(check)?;
        let encoded = changes.iter().map(encoded).collect();
        let (answer, answered) = oneshot::channel();
        let request = Request {
            changes,
            encoded,
            answer,
        };
        let ended = || "the thread of the store has ended".to_owned();
        if self.requests.send(request).await.is_err() {
            return Err(CommitError::NotWritten { reason: ended() });
        }
        let answered = answered.await;
        answered.unwrap_or_else(|_| Err(CommitError::Unknown { reason: ended() }))
    }

    /// From now on this directory is that of the store, and [`Opened::copied`] says so no longer.
    /// It blocks.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn adopt(&self) -> io::Result<()> {
        home::adopt(&*self.disk, self.id)
    }

    /// Reads what is durable, while commits go on. Its functions may block.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// How much room it needs.
    pub fn usage(&self) -> Usage {
        let spares = self.status().spares.clone();
        Usage::of(&self.reader.0, &spares)
    }

    /// Why commits fail, if the disk has failed and the store has not been opened again.
    pub fn is_dead(&self) -> Option<String> {
        self.status().dead.clone()
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, and closes the store. It blocks for so long. A log that is dropped is
    /// closed by its thread, some time later.
    ///
    /// # Errors
    /// The error of the disk. What was committed is durable nevertheless.
    pub fn close(self) -> io::Result<()> {
        drop(self.requests);
        let panicked = || io::Error::other("the thread of the store has panicked");
        self.writer.join().unwrap_or_else(|_| Err(panicked()))
    }
}

/// What is written together.
#[derive(Default)]
struct Batch {
    requests: Vec<Waiting>,
    changes: Vec<Change>,
    encoded: Vec<Vec<u8>>,
}

impl Batch {
    fn clear(&mut self) {
        self.requests.clear();
        self.changes.clear();
        self.encoded.clear();
    }
}

/// What the thread has.
struct Writer {
    store: Store,
    status: Arc<Mutex<Status>>,
    queue: mpsc::Receiver<Request>,
    /// When the store failed last, and the pause after that.
    failed: Option<(Instant, Duration)>,
}

impl Writer {
    fn run(mut self) -> io::Result<()> {
        self.make_spares();
        let mut batch = Batch::default();
        let mut is_due = false;
        loop {
            let next = if is_due {
                match self.queue.try_recv() {
                    Ok(request) => Some(request),
                    Err(TryRecvError::Disconnected) => None,
                    Err(TryRecvError::Empty) => {
                        is_due = self.maintain();
                        continue;
                    }
                }
            } else {
                self.queue.blocking_recv()
            };
            let Some(next) = next else {
                return self.store.close();
            };
            self.gather(next, &mut batch);
            self.answer(&mut batch);
            batch.clear();
            is_due = self.store.has_work();
        }
    }

    /// Takes what waits, up to a bound.
    fn gather(&mut self, first: Request, batch: &mut Batch) {
        let mut next = Some(first);
        let mut bytes = 0;
        while let Some(request) = next {
            bytes += request.changes.iter().map(weight).sum::<usize>();
            batch.requests.push((request.answer, request.changes.len()));
            batch.changes.extend(request.changes);
            batch.encoded.extend(request.encoded);
            let is_full = bytes >= BYTES_MAX || batch.changes.len() >= CHANGES_MAX;
            next = if is_full {
                None
            } else {
                self.queue.try_recv().ok()
            };
        }
    }

    /// Makes the changes of all requests, and answers them.
    fn answer(&mut self, batch: &mut Batch) {
        let Err(error) = self.commit(&batch.changes, &batch.encoded, &mut batch.requests) else {
            return;
        };
        let is_one = batch.requests.len() == 1;
        let is_alive = self.store.is_dead().is_none();
        if matches!(error, CommitError::NotWritten { .. }) && !is_one && is_alive {
            // A request that cannot be written, on a full disk for example, must not hold up the
            // others.
            let mut rest = (&batch.changes[..], &batch.encoded[..]);
            for waiting in batch.requests.drain(..) {
                let (changes, others) = rest.0.split_at(waiting.1);
                let (encoded, of_others) = rest.1.split_at(waiting.1);
                rest = (others, of_others);
                let mut alone = vec![waiting];
                if let Err(error) = self.commit(changes, encoded, &mut alone) {
                    refuse(alone, &error);
                }
            }
            return;
        }
        refuse(batch.requests.drain(..), &error);
    }

    /// Answers the requests if the changes are made.
    fn commit(
        &mut self,
        changes: &[Change],
        encoded: &[Vec<u8>],
        requests: &mut Vec<Waiting>,
    ) -> Result<(), CommitError> {
        self.open_again();
        let made = self.store.commit_checked(changes, encoded, |done| {
            let mut done = done.into_iter();
            for (answer, count) in requests.drain(..) {
                // The caller may be gone.
                let _ = answer.send(Ok(done.by_ref().take(count).collect()));
            }
        });
        self.note();
        made
    }

    /// Copies and gives up old segments. Whether there is more to do.
    fn maintain(&mut self) -> bool {
        let more = self.store.maintain();
        self.note();
        // A commit that fails says so to its caller. This one is tried again after the next commit.
        more.unwrap_or(false)
    }

    /// Opens a store again that has failed, after a pause.
    fn open_again(&mut self) {
        let Some((since, pause)) = self.failed else {
            return;
        };
        if since.elapsed() < pause {
            return;
        }
        match self.store.reopen() {
            Ok(_) => {
                self.failed = None;
                self.status().dead = None;
                self.make_spares();
            }
            Err(error) => {
                tracing::warn!(%error, "the store cannot be opened again yet");
                self.failed = Some((now(), (pause * 2).min(PAUSE_MAX)));
            }
        }
    }

    /// Notes whether the store is dead.
    fn note(&mut self) {
        let Some(reason) = self.store.is_dead() else {
            return;
        };
        if self.failed.is_none() {
            tracing::error!(store = %self.store.id(), reason, "a commit failed");
            self.failed = Some((now(), PAUSE_MIN));
        }
        let reason = Some(reason.to_owned());
        self.status().dead = reason;
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread that makes segments before they are needed. It ends with the store.
    fn make_spares(&self) {
        let spares = self.store.spares.clone();
        self.status().spares = spares.clone();
        let started = thread::Builder::new()
            .name("casty-log-spares".to_owned())
            .spawn(move || spares.run());
        if let Err(error) = started {
            // The writer makes them when it needs them.
            tracing::warn!(%error, "no thread makes segments ahead of their use");
        }
    }
}

fn refuse(requests: impl IntoIterator<Item = Waiting>, error: &CommitError) {
    for (answer, _) in requests {
        let _ = answer.send(Err(error.clone()));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, which waits for a real disk"
)]
fn now() -> Instant {
    Instant::now()
}

/// Done by the callers, so that it goes on while the last commit is written.
fn encoded(change: &Change) -> Vec<u8> {
    let mut encoded = match change {
        Change::Append { .. } | Change::Save { .. } | Change::Copy { .. } => {
            Vec::with_capacity(weight(change))
        }
        _ => Vec::new(),
    };
    encode(change, &mut encoded);
    encoded
}

/// The bytes of a change, about.
fn weight(change: &Change) -> usize {
    match change {
        Change::Append { records, .. } => records
            .iter()
            .map(|record| record.body.len() + record.entity.len() + 64)
            .sum(),
        Change::Save {
            entity, snapshot, ..
        }
        | Change::Copy {
            entity, snapshot, ..
        } => snapshot.body.len() + entity.len() + 64,
        _ => 64,
    }
}

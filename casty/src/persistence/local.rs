//! The store of one node, in a directory of its own: the segment log of the crate `casty-log`.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use casty_log::{
    Change, CommitError, Done, LogId, OpenError, Options, ReadError,
    disk::{Folder, Memory},
};
use futures_util::future::BoxFuture;
use tokio::runtime::{Handle, RuntimeFlavor};
use uuid::Uuid;
#[cfg(feature = "sim")]
use {crate::persistence::engine::Pace, casty_log::disk::Disk};

use crate::{
    id::{EntityId, Epoch},
    infra::sync::lock,
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, StoredEntity, engine::Engine,
    },
};

/// How long a directory may be in use by a process that ends.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// The length of a segment on a disk of a simulation, which is written in full.
#[cfg(feature = "sim")]
const SIMULATED_SEGMENT: u64 = 64 * 1024;

/// The length of a segment in memory. What is kept ready takes room too.
const SEGMENT_IN_MEMORY: u64 = 2 * 1024 * 1024;

/// A log that is never claimed: what is not known, or has records of other epochs, is refused by
/// its number.
const UNKNOWN: LogId = LogId {
    kind: u32::MAX,
    shard: 0,
};

/// Where in the directory of a node its log is.
pub(crate) const LOG_FOLDER: &str = "log";

/// A store in a directory.
pub(crate) struct Local {
    path: PathBuf,
    state: Mutex<LocalState>,
    /// Held while the directory is opened or closed.
    moving: tokio::sync::Mutex<()>,
}

enum LocalState {
    New,
    Open(Arc<OpenDirectory>),
    Closed,
}

/// A directory that is open.
pub(super) struct OpenDirectory {
    pub(super) engine: Engine,
    /// The identity of the store.
    pub(super) store: Uuid,
    /// The directory is a copy, or was restored from a backup: it may lack what it has confirmed.
    is_copied: bool,
    /// The numbers of the entity types.
    kinds: Mutex<HashMap<Arc<str>, u32>>,
}

impl Local {
    /// The store in this directory. It is opened when it is first used.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            state: Mutex::new(LocalState::New),
            moving: tokio::sync::Mutex::default(),
        }
    }

    /// The store in the directory of a node.
    pub(crate) fn of_node(directory: &Path) -> Self {
        Self::new(directory.join(LOG_FOLDER))
    }

    /// A new store in memory. It is gone with the last handle.
    pub(crate) fn in_memory(identity: Uuid) -> Result<Self, JournalError> {
        let mut options = Options::default();
        (options.segment_bytes, options.spares) = (SEGMENT_IN_MEMORY, 1);
        options.identity = Some(identity);
        let disk = Arc::new(Memory::default());
        let (store, opened) = casty_log::Store::open(disk, options).map_err(not_opened)?;
        let open = OpenDirectory {
            engine: Engine::InMemory {
                reader: store.reader(),
                store: Box::new(Mutex::new(store)),
            },
            store: opened.store,
            is_copied: false,
            kinds: Mutex::default(),
        };
        Ok(Self {
            path: "memory".into(),
            state: Mutex::new(LocalState::Open(Arc::new(open))),
            moving: tokio::sync::Mutex::default(),
        })
    }

    /// A store on a disk of a simulation. If it is new, this is its identity.
    #[cfg(feature = "sim")]
    pub(crate) fn simulated(
        disk: Arc<dyn Disk>,
        identity: Uuid,
        pace: Pace,
    ) -> Result<Self, JournalError> {
        let opened = OpenDirectory::here(disk.clone(), identity, pace)?;
        Ok(Self {
            path: disk.describe().into(),
            state: Mutex::new(LocalState::Open(Arc::new(opened))),
            moving: tokio::sync::Mutex::default(),
        })
    }

    /// The logs that have records. None before it is opened.
    pub(crate) fn with_records(&self) -> Vec<Log> {
        let Ok(Some(open)) = self.present() else {
            return Vec::new();
        };
        let reader = open.engine.reader();
        let kinds = reader.kinds();
        let with = reader
            .logs()
            .into_iter()
            .filter(|id| reader.head(*id).position > 0);
        let named = with.filter_map(|id| {
            let kind = kinds.get(usize::try_from(id.kind).ok()?)?.clone();
            let shard = id.shard;
            Some(Log { kind, shard })
        });
        named.collect()
    }

    /// The sum over what is tidied of a shard.
    #[cfg(all(test, feature = "sim"))]
    pub(super) fn sum(&self, log: &Log) -> u64 {
        let open = self.present().ok().flatten().expect("it is open");
        let id = open.id(log).expect("it is known");
        open.engine.reader().tidied(id)
    }

    /// Opens it on this thread, which is blocked meanwhile.
    pub(crate) fn open_here(&self) -> Result<(), JournalError> {
        let opened = OpenDirectory::new(&self.path)?;
        *lock(&self.state) = LocalState::Open(Arc::new(opened));
        Ok(())
    }

    fn present(&self) -> Result<Option<Arc<OpenDirectory>>, JournalError> {
        match &*lock(&self.state) {
            LocalState::New => Ok(None),
            LocalState::Open(open) => Ok(Some(open.clone())),
            LocalState::Closed => Err(unavailable("it was closed when its node ended")),
        }
    }

    pub(super) async fn opened(&self) -> Result<Arc<OpenDirectory>, JournalError> {
        if let Some(open) = self.present()? {
            return Ok(open);
        }
        let _moving = self.moving.lock().await;
        if let Some(open) = self.present()? {
            return Ok(open);
        }
        let path = self.path.clone();
        let open = Arc::new(blocking(move || OpenDirectory::new(&path)).await??);
        *lock(&self.state) = LocalState::Open(open.clone());
        Ok(open)
    }

    /// Whether the directory is a copy, or was restored from a backup.
    pub(crate) async fn is_copied(&self) -> Result<bool, JournalError> {
        Ok(self.opened().await?.is_copied)
    }

    /// Reads something of a log, where that may block. `None` if the type is not known.
    async fn read<T: Send + 'static>(
        &self,
        log: &Log,
        read: impl FnOnce(&casty_log::Reader, LogId) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<Option<T>, JournalError> {
        let open = self.opened().await?;
        let Some(id) = open.id(log) else {
            return Ok(None);
        };
        let read = blocking(move || read(open.engine.reader(), id)).await?;
        read.map(Some).map_err(|error| match error {
            ReadError::Damaged(_) => JournalError::Unusable {
                reason: format!("{}: {error}", self.path.display()),
            },
            other => unavailable(other),
        })
    }

    async fn change(
        &self,
        log: &Log,
        change: impl FnOnce(LogId) -> Change,
    ) -> Result<Option<Done>, JournalError> {
        let open = self.opened().await?;
        let Some(id) = open.id(log) else {
            return Ok(None);
        };
        let mut done = open
            .engine
            .commit(vec![change(id)])
            .await
            .map_err(unavailable)?;
        Ok(done.pop())
    }
}

/// From now on the store of a node lives in this directory: the directory was moved, and nothing is
/// missing. Blocks. Returns the identity of the store.
pub(crate) fn adopt(directory: &Path) -> Result<Uuid, JournalError> {
    let path = directory.join(LOG_FOLDER);
    if !path.is_dir() {
        let reason = format!("{} is not the directory of a node", directory.display());
        return Err(JournalError::Unusable { reason });
    }
    let (log, opened) = open_folder(&path)?;
    log.adopt().map_err(unavailable)?;
    log.close().map_err(unavailable)?;
    Ok(opened.store)
}

impl OpenDirectory {
    fn new(path: &Path) -> Result<Self, JournalError> {
        let (log, opened) = open_folder(path)?;
        let directory = path.display();
        if let Some((file, offset)) = &opened.cut {
            tracing::info!(
                %directory,
                file,
                offset,
                "a commit that was not finished, and was not acknowledged, was removed"
            );
        }
        if opened.copied {
            tracing::warn!(
                %directory,
                "this directory is a copy of that of a node, or was restored from a backup; if it \
                 was moved, `casty adopt` says so"
            );
        }
        Ok(Self {
            engine: Engine::Threads(log),
            store: opened.store,
            is_copied: opened.copied,
            kinds: Mutex::default(),
        })
    }

    #[cfg(feature = "sim")]
    fn here(disk: Arc<dyn Disk>, identity: Uuid, pace: Pace) -> Result<Self, JournalError> {
        let mut options = Options::default();
        (options.segment_bytes, options.identity) = (SIMULATED_SEGMENT, Some(identity));
        // It would be a second of real time.
        options.full_pause = Duration::ZERO;
        let (store, opened) = casty_log::Store::open(disk, options).map_err(not_opened)?;
        let reader = store.reader();
        Ok(Self {
            engine: Engine::Here {
                store: Box::new(tokio::sync::Mutex::new(store)),
                reader,
                pace,
            },
            store: opened.store,
            is_copied: opened.copied,
            kinds: Mutex::default(),
        })
    }

    pub(super) fn id(&self, log: &Log) -> Option<LogId> {
        let mut kinds = lock(&self.kinds);
        let kind = if let Some(kind) = kinds.get(&log.kind) {
            *kind
        } else {
            let (kind, _) = self.engine.reader().kind(&log.kind)?;
            kinds.insert(log.kind.clone(), kind);
            kind
        };
        let shard = log.shard;
        Some(LogId { kind, shard })
    }

    /// Makes types known. Those that are known already need no commit.
    async fn prepare(&self, kinds: &[(Arc<str>, NonZeroU32)]) -> Result<(), JournalError> {
        let (mut new, mut names) = (Vec::new(), Vec::new());
        for (name, shards) in kinds {
            if let Some((_, stored)) = self.engine.reader().kind(name) {
                check_shards(name, stored, *shards)?;
                continue;
            }
            let (name, shards) = (name.clone(), *shards);
            names.push((name.clone(), shards));
            new.push(Change::Kind { name, shards });
        }
        if new.is_empty() {
            return Ok(());
        }
        let done = self.engine.commit(new).await.map_err(unavailable)?;
        for (done, (name, shards)) in done.into_iter().zip(names) {
            if let Done::OtherShards(stored) = done {
                check_shards(&name, stored.get(), shards)?;
            }
        }
        Ok(())
    }
}

fn open_folder(path: &Path) -> Result<(casty_log::Log, casty_log::Opened), JournalError> {
    let disk = Arc::new(Folder::new(path));
    let mut options = Options::default();
    options.lock_wait = LOCK_WAIT;
    casty_log::Log::open(disk, options).map_err(not_opened)
}

fn not_opened(error: OpenError) -> JournalError {
    let reason = error.to_string();
    match error {
        OpenError::Io { .. } => unavailable(reason),
        _ => JournalError::Unusable { reason },
    }
}

fn check_shards(kind: &str, stored: u32, shards: NonZeroU32) -> Result<(), JournalError> {
    if stored == shards.get() {
        return Ok(());
    }
    let reason = format!(
        "`{kind}` is stored in {stored} shards and has {shards} now; give it its former number of \
         shards back, since ids are spread over them"
    );
    Err(JournalError::Unusable { reason })
}

/// Runs what may block. On a runtime with one thread it runs here, and the other tasks wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JournalError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(unavailable)
}

pub(super) fn unavailable(reason: impl ToString) -> JournalError {
    JournalError::Unavailable {
        reason: reason.to_string(),
    }
}

fn page(page: Page) -> casty_log::Page {
    casty_log::Page {
        records: page.records,
        bytes: page.bytes,
    }
}

pub(super) fn stored(record: Record) -> casty_log::Record {
    casty_log::Record {
        position: record.position,
        epoch: record.epoch.0,
        entity: record.entity.into_text(),
        seq: record.seq,
        at: record.at,
        body: record.body,
    }
}

fn records(read: Vec<casty_log::Record>) -> Vec<Record> {
    let records = read.into_iter().map(|record| Record {
        position: record.position,
        epoch: Epoch(record.epoch),
        entity: EntityId::from_text(record.entity),
        seq: record.seq,
        at: record.at,
        body: record.body,
    });
    records.collect()
}

impl Journal for Local {
    fn describe(&self) -> String {
        format!("the store in {}", self.path.display())
    }

    fn only_one_host(&self) -> Option<&'static str> {
        Some(
            "the directory of a node is not shared with others; use the crate `casty-sql` with \
             `Postgres` for several hosts",
        )
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move { self.opened().await?.prepare(kinds).await })
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        Box::pin(async { Ok(Epoch(self.opened().await?.engine.reader().latest_epoch())) })
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move {
            let claim = |log| Change::Claim {
                log,
                epoch: epoch.0,
                owner: Arc::from(owner),
            };
            match self.change(log, claim).await? {
                Some(Done::Claimed { head }) => Ok(head),
                Some(Done::Fenced { epoch, owner }) => Err(ClaimError::Fenced {
                    epoch: Epoch(epoch),
                    owner: owner.as_ref().to_owned(),
                }),
                _ => Err(unavailable(format!("{log} was not prepared by `open`")).into()),
            }
        })
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        Box::pin(async move {
            let open = self.opened().await;
            let open = open.map_err(|error| AppendError::NotWritten {
                reason: error.to_string(),
            })?;
            let is_sound = |part: &Append| part.records.iter().all(|it| it.epoch == part.epoch);
            let changes = batch.into_iter().map(|part| Change::Append {
                log: open
                    .id(&part.log)
                    .filter(|_| is_sound(&part))
                    .unwrap_or(UNKNOWN),
                epoch: part.epoch.0,
                records: part.records.into_iter().map(stored).collect(),
            });
            let done = open.engine.commit(changes.collect()).await;
            let done = done.map_err(|error| match error {
                CommitError::NotWritten { reason } => AppendError::NotWritten { reason },
                other => AppendError::Unknown {
                    reason: other.to_string(),
                },
            })?;
            let appended = done.into_iter().map(|done| match done {
                Done::Written => Appended::Written,
                _ => Appended::Refused,
            });
            Ok(appended.collect())
        })
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        size: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            let entity = entity.clone();
            let read = self.read(log, move |reader, log| {
                reader.read_entity(log, entity.as_str(), after, page(size))
            });
            Ok(records(read.await?.unwrap_or_default()))
        })
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        size: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            let read = self.read(log, move |reader, log| {
                reader.read_log(log, after, page(size))
            });
            Ok(records(read.await?.unwrap_or_default()))
        })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        Box::pin(async move {
            let entity = entity.clone();
            let read = self.read(log, move |reader, log| {
                reader.snapshot(log, entity.as_str())
            });
            Ok(read.await?.flatten().map(|snapshot| Snapshot {
                seq: snapshot.seq,
                at: snapshot.at,
                body: snapshot.body,
            }))
        })
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let save = |log| Change::Save {
                log,
                epoch: epoch.0,
                entity: entity.clone().into_text(),
                snapshot: casty_log::Snapshot {
                    seq: snapshot.seq,
                    at: snapshot.at,
                    body: snapshot.body,
                },
            };
            self.change(log, save).await.map(drop)
        })
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let forget = |log| Change::Forget {
                log,
                epoch: epoch.0,
                entity: entity.clone().into_text(),
                through,
                snapshot,
            };
            self.change(log, forget).await.map(drop)
        })
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        Box::pin(async move {
            let after = after.cloned();
            let read = self.read(log, move |reader, log| {
                // Those after the empty id, which is the shard's own.
                let after = after.as_ref().map_or("", EntityId::as_str);
                reader.entities(log, Some(after), limit)
            });
            let read = read.await?.unwrap_or_default();
            let entities = read.into_iter().map(|found| StoredEntity {
                entity: EntityId::from_text(found.entity),
                seq: found.seq,
                at: found.at,
            });
            Ok(entities.collect())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _moving = self.moving.lock().await;
            let was = std::mem::replace(&mut *lock(&self.state), LocalState::Closed);
            let LocalState::Open(open) = was else {
                return;
            };
            // A read that has not ended closes it in the background.
            let Some(open) = Arc::into_inner(open) else {
                return;
            };
            let path = self.path.display().to_string();
            let closed = blocking(move || open.engine.close()).await;
            if let Ok(Err(error)) = closed {
                tracing::warn!(directory = path, %error, "the store was not closed properly");
            }
        })
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use super::*;
    use crate::{persistence::suite::Suite, protocol::copies::StoreId};

    fn kinds(shards: u32) -> [(Arc<str>, NonZeroU32); 1] {
        [("Jar".into(), NonZeroU32::new(shards).expect("not zero"))]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_passes_the_suite() {
        let folder = tempfile::tempdir().expect("a folder");
        // A directory belongs to one process: connections are clones.
        let store: Arc<dyn Journal> = Arc::new(Local::new(folder.path().join("data")));
        let suite = Suite::new(move || {
            let connection = store.clone();
            async { connection }
        });
        suite.check().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_passes_the_suite_in_memory() {
        let store = Local::in_memory(StoreId::in_memory([1; 16]).0).expect("opened");
        assert_eq!(store.describe(), "the store in memory");
        let store: Arc<dyn Journal> = Arc::new(store);
        let suite = Suite::new(move || {
            let connection = store.clone();
            async { connection }
        });
        suite.check().await;
    }

    /// What is needed stays small, and so does the memory.
    #[tokio::test]
    async fn memory_is_bounded_by_what_is_needed() {
        let store = Local::in_memory(StoreId::in_memory([2; 16]).0).expect("opened");
        store.open(&kinds(8)).await.expect("prepared");
        let log = Log {
            kind: "Jar".into(),
            shard: 0,
        };
        let (epoch, entity) = (Epoch(1), EntityId::from_text("jar".into()));
        store.claim(&log, epoch, "").await.expect("claimed");
        let body = bytes::Bytes::from(vec![7; 64 * 1024]);
        for seq in 1..=400 {
            let record = Record {
                position: seq,
                epoch,
                entity: entity.clone(),
                seq,
                at: 0,
                body: body.clone(),
            };
            let part = Append {
                log: log.clone(),
                epoch,
                records: vec![record],
            };
            let written = store.append(vec![part]).await;
            assert_eq!(written, Ok(vec![Appended::Written]));
            let snapshot = Snapshot {
                seq,
                at: 0,
                body: body.clone(),
            };
            store
                .save(&log, epoch, &entity, snapshot)
                .await
                .expect("saved");
            let forgotten = store.forget(&log, epoch, &entity, seq, false).await;
            forgotten.expect("forgotten");
        }
        let open = store.opened().await.expect("open");
        let Engine::InMemory { store, .. } = &open.engine else {
            panic!("another engine");
        };
        let usage = lock(store).usage();
        // 50 MiB went through it.
        assert!(usage.disk_bytes <= 8 * SEGMENT_IN_MEMORY, "{usage:?}");
    }

    #[tokio::test]
    async fn it_passes_the_suite_on_one_thread() {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Journal> = Arc::new(Local::new(folder.path().join("data")));
        let suite = Suite::new(move || {
            let connection = store.clone();
            async { connection }
        });
        suite.check().await;
    }

    #[tokio::test]
    async fn a_store_that_was_closed_is_opened_by_the_next_one_and_not_by_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        let first = Local::new(path.clone());
        first.open_here().expect("opened");
        first.open(&kinds(8)).await.expect("prepared");
        let log = Log {
            kind: "Jar".into(),
            shard: 3,
        };
        assert_eq!(first.claim(&log, Epoch(7), "node").await, Ok(0));
        first.close().await;
        let again = first.claim(&log, Epoch(7), "node").await;
        assert!(
            matches!(
                again,
                Err(ClaimError::Journal(JournalError::Unavailable { .. }))
            ),
            "{again:?}"
        );
        let next = Local::new(path);
        let refused = next.open(&kinds(9)).await;
        let Err(JournalError::Unusable { reason }) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("`Jar` is stored in 8 shards and has 9 now"));
        next.open(&kinds(8)).await.expect("prepared");
        assert_eq!(next.latest_epoch().await, Ok(Epoch(7)));
    }

    #[tokio::test]
    async fn a_directory_in_use_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Local::new(folder.path().to_owned());
        first.open_here().expect("opened");
        let second = Local::new(folder.path().to_owned());
        let refused = second.open(&kinds(8)).await;
        let Err(JournalError::Unusable { reason }) = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("is in use by another process"), "{reason}");
    }
}

//! The state that a voter keeps on disk, so that its node's next process can take over its seat:
//! the log, the vote, the snapshot, and their owner. It is one file. Each change is a transaction,
//! and is on disk before any other member learns of it.
//!
//! The commit index is an exception: the next leader tells it to a member that does not know it. So
//! it is written soon, or along with the next change, and nothing waits for it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use openraft::{
    EntryPayload,
    alias::{EntryOf, LogIdOf, SnapshotMetaOf, VoteOf},
};
use redb::{Database, DatabaseError, ReadableTable, StorageError, Table, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::types::{Decision, Types};
use crate::{
    cluster::locks::Rank,
    error::StateDirError,
    id::{ClusterIdentity, NodeId},
    infra::{
        mutants,
        sync::{Ranked, RankedGuard},
    },
    message::codec,
    protocol::map::Seat,
};

const FILE: &str = "casty.redb";

/// The version of the file's format. A file in another format is refused.
const FORMAT: u32 = 2;

const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

// Names of facts: those of the file itself, and those of the seat.
const FORMAT_OF: &str = "format";
const CLUSTER: &str = "cluster";
const NODE: &str = "node";
const SEAT: &str = "seat";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";
const SNAPSHOT: &str = "snapshot";

/// The latest snapshot of the map, and the last log entry that it includes.
pub(super) type Snapshot = (SnapshotMetaOf<Types>, Vec<u8>);

type StoredSnapshot = (SnapshotMetaOf<Types>, ByteBuf);

/// The state that an earlier process has kept.
pub(crate) struct StoredState {
    pub(crate) identity: ClusterIdentity,
    pub(crate) seat: Seat,
    pub(super) vote: Option<VoteOf<Types>>,
    pub(super) purged: Option<LogIdOf<Types>>,
    pub(super) committed: Option<LogIdOf<Types>>,
    pub(super) entries: BTreeMap<u64, EntryOf<Types>>,
    pub(super) snapshot: Option<Snapshot>,
}

/// How an engine starts.
pub(crate) enum EngineStart {
    /// From the state that the previous process has stored.
    StoredState(Box<StoredState>),
    /// Empty, as the founder of a cluster or of a generation.
    Founder(ClusterIdentity, Seat),
    /// Empty, to be filled by the leader.
    Taught(ClusterIdentity, Seat),
}

impl EngineStart {
    pub(super) fn seat(&self) -> Seat {
        match self {
            Self::StoredState(kept) => kept.seat,
            Self::Founder(_, seat) | Self::Taught(_, seat) => *seat,
        }
    }

    /// The writer of the engine's state.
    pub(super) async fn keeper(
        &self,
        disk: &Arc<Disk>,
        own_thread: bool,
    ) -> io::Result<StateWriter> {
        match self {
            Self::StoredState(_) => Ok(disk.resume(own_thread)),
            Self::Founder(identity, seat) => disk.begin(*identity, *seat, true, own_thread).await,
            Self::Taught(identity, seat) => disk.begin(*identity, *seat, false, own_thread).await,
        }
    }
}

/// A change of the stored state.
pub(super) enum Change {
    Vote(VoteOf<Types>),
    Append(Vec<EntryOf<Types>>),
    /// Everything from this index on is void.
    Truncate(u64),
    Purge(LogIdOf<Types>),
    Snapshot(Snapshot),
}

impl Change {
    /// Whether a cluster begins with this change.
    fn founds(&self) -> bool {
        matches!(self, Self::Append(entries) if entries.iter().any(founds))
    }
}

/// Whether a cluster begins with this decision.
fn founds(entry: &EntryOf<Types>) -> bool {
    matches!(&entry.payload, EntryPayload::Normal(Decision::Found(_)))
}

/// The file of one node, locked while this lives.
pub(crate) struct Disk {
    path: PathBuf,
    database: Database,
    /// The first error of a write. For later writes the database reports only that there was an
    /// error before.
    broken: OnceLock<String>,
    /// Held during a write.
    tenancy: Ranked<WriterFence>,
    committed: Ranked<Committed>,
}

/// The commit index.
#[derive(Default)]
struct Committed {
    /// The number of the engine that committed.
    tenant: u64,
    upto: Option<LogIdOf<Types>>,
    /// Whether a write is scheduled.
    is_due: bool,
}

/// The present writer of the file: one engine at a time. An engine that has ended writes nothing
/// more.
#[derive(Default)]
struct WriterFence {
    /// The number of writers so far.
    number: u64,
    has_tenant: bool,
    /// A founder that has not founded its cluster yet: its identity, and the state it would keep.
    /// Until then the file is unchanged.
    founding: Option<(Seated, Vec<Change>)>,
}

/// The owner of the seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Seated {
    identity: ClusterIdentity,
    seat: Seat,
}

/// One engine's access to its file.
#[derive(Clone)]
pub(super) struct StateWriter {
    disk: Arc<Disk>,
    tenant: u64,
    /// Whether other threads may wait for the disk. In a simulation there are none.
    own_thread: bool,
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    codec::decode(bytes).map_err(|error| error.to_string())
}

fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    codec::to_vec(value).map_err(|error| io::Error::other(error.to_string()))
}

impl Disk {
    /// Opens a directory for one node of one cluster. Creates it if it does not exist.
    ///
    /// Reads the whole file: on a multi-threaded runtime, on a thread that may block.
    pub(crate) async fn open(
        path: &Path,
        cluster: &str,
        node: &NodeId,
    ) -> Result<(Arc<Self>, Option<StoredState>), StateDirError> {
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Self::open_here(path, cluster, node);
        }
        let (path, cluster, node) = (path.to_owned(), cluster.to_owned(), node.clone());
        let opening = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || Self::open_here(&path, &cluster, &node))
        };
        opening.await.unwrap_or_else(|error| {
            let reason = error.to_string();
            Err(StateDirError::Unusable { path, reason })
        })
    }

    fn open_here(
        path: &Path,
        cluster: &str,
        node: &NodeId,
    ) -> Result<(Arc<Self>, Option<StoredState>), StateDirError> {
        // On some damage the database panics instead of returning an error.
        let opened = catch_unwind(|| Self::open_sound(path, cluster, node));
        let damaged = |_| corrupted(path, "it cannot be read as a database".to_owned());
        opened.map_err(damaged)?
    }

    fn open_sound(
        path: &Path,
        cluster: &str,
        node: &NodeId,
    ) -> Result<(Arc<Self>, Option<StoredState>), StateDirError> {
        let unreadable = |source: io::Error| StateDirError::Unusable {
            path: path.to_owned(),
            reason: source.to_string(),
        };
        std::fs::create_dir_all(path).map_err(unreadable)?;
        let mut database = Database::create(path.join(FILE)).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StateDirError::InUse {
                path: path.to_owned(),
            },
            DatabaseError::Storage(StorageError::Io(error))
                if error.kind() != io::ErrorKind::InvalidData =>
            {
                unreadable(error)
            }
            other => corrupted(path, other.to_string()),
        })?;
        // All checksums are checked now: otherwise damage would be found, or not, only when it
        // counts.
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => return Err(corrupted(path, "checksums do not fit".to_owned())),
            Err(error) => return Err(corrupted(path, error.to_string())),
        }
        // The name of a new file is lost in a crash if its directory was never written.
        #[cfg(unix)]
        File::open(path)
            .and_then(|directory| directory.sync_all())
            .map_err(unreadable)?;
        let disk = Self {
            path: path.to_owned(),
            database,
            broken: OnceLock::new(),
            tenancy: Rank::WriterFence.mutex(WriterFence::default()),
            committed: Rank::Committed.mutex(Committed::default()),
        };
        disk.check(cluster, node)?;
        let kept = disk
            .load()
            .map_err(|reason| corrupted(path, reason))?
            .filter(StoredState::knows_a_cluster);
        Ok((Arc::new(disk), kept))
    }

    /// Checks that the file belongs to this node. A new file is given to it.
    fn check(&self, cluster: &str, node: &NodeId) -> Result<(), StateDirError> {
        let bad = |reason: String| corrupted(&self.path, reason);
        let found = self.facts(&[FORMAT_OF, CLUSTER, NODE]).map_err(bad)?;
        let [format, of_cluster, of_node] = &found[..] else {
            return Err(bad("facts are missing".to_owned()));
        };
        let Some(format) = format else {
            let own = self.write(|facts, _| {
                facts.put(FORMAT_OF, &FORMAT)?;
                facts.put(CLUSTER, &cluster)?;
                facts.put(NODE, node)
            });
            return own.map_err(|error| StateDirError::Unusable {
                path: self.path.clone(),
                reason: error.to_string(),
            });
        };
        let format: u32 = decode(format).map_err(bad)?;
        if format != FORMAT {
            let path = self.path.clone();
            return Err(StateDirError::Format { path, format });
        }
        let name = |fact: &Option<Vec<u8>>| match fact {
            Some(fact) => decode::<String>(fact).map_err(bad),
            None => Err(bad("it names no owner".to_owned())),
        };
        for (what, theirs, ours) in [
            ("cluster", name(of_cluster)?, cluster),
            ("node", name(of_node)?, node.as_str()),
        ] {
            if theirs != ours {
                return Err(StateDirError::Foreign {
                    path: self.path.clone(),
                    what,
                    theirs,
                    ours: ours.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn facts(&self, names: &[&str]) -> Result<Vec<Option<Vec<u8>>>, String> {
        let read = || -> Result<Vec<Option<Vec<u8>>>, redb::Error> {
            let reading = redb::ReadableDatabase::begin_read(&self.database)?;
            let facts = match reading.open_table(FACTS) {
                Ok(facts) => facts,
                Err(redb::TableError::TableDoesNotExist(_)) => {
                    return Ok(names.iter().map(|_| None).collect());
                }
                Err(error) => return Err(error.into()),
            };
            let fact = |name: &&str| Ok(facts.get(*name)?.map(|fact| fact.value().to_vec()));
            names.iter().map(fact).collect()
        };
        read().map_err(|error| error.to_string())
    }

    fn load(&self) -> Result<Option<StoredState>, String> {
        fn get<T: DeserializeOwned>(fact: Option<&Vec<u8>>) -> Result<Option<T>, String> {
            fact.map(|fact| decode(fact)).transpose()
        }
        let facts = self.facts(&[SEAT, VOTE, PURGED, COMMITTED, SNAPSHOT])?;
        let [seated, vote, purged, committed, snapshot] = &facts[..] else {
            return Err("facts are missing".to_owned());
        };
        let Some(Seated { identity, seat }) = get(seated.as_ref())? else {
            return Ok(None);
        };
        let snapshot: Option<StoredSnapshot> = get(snapshot.as_ref())?;
        let mut kept = StoredState {
            identity,
            seat,
            vote: get(vote.as_ref())?.filter(|_| !mutants::on("votes_are_not_kept")),
            purged: get(purged.as_ref())?,
            committed: get(committed.as_ref())?,
            entries: self.log()?,
            snapshot: snapshot.map(|(meta, map)| (meta, map.into_vec())),
        };
        kept.check()?;
        // A snapshot in installation is known to be committed before it is stored.
        let last = kept.last();
        if let (Some(committed), Some(last)) = (kept.committed, last)
            && committed.index > last.index
        {
            kept.committed = Some(last);
        }
        Ok(Some(kept))
    }

    fn log(&self) -> Result<BTreeMap<u64, EntryOf<Types>>, String> {
        let read = || -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
            let reading = redb::ReadableDatabase::begin_read(&self.database)?;
            let log = match reading.open_table(LOG) {
                Ok(log) => log,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let entry = |entry: Result<_, StorageError>| {
                let (index, bytes): (redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>) =
                    entry?;
                Ok((index.value(), bytes.value().to_vec()))
            };
            log.iter()?.map(entry).collect()
        };
        let read = read().map_err(|error| error.to_string())?;
        let decoded = |(index, bytes): (u64, Vec<u8>)| Ok((index, decode(&bytes)?));
        read.into_iter().map(decoded).collect()
    }

    /// One transaction, on disk when this returns.
    fn write(
        &self,
        change: impl FnOnce(&mut Facts<'_>, &mut Table<'_, u64, &'static [u8]>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.transact(change).map_err(|error| {
            let first = self.broken.get_or_init(|| error.to_string());
            io::Error::other(first.clone())
        })
    }

    fn transact(
        &self,
        change: impl FnOnce(&mut Facts<'_>, &mut Table<'_, u64, &'static [u8]>) -> io::Result<()>,
    ) -> io::Result<()> {
        let writing = self.database.begin_write().map_err(io::Error::other)?;
        {
            let facts = writing.open_table(FACTS).map_err(io::Error::other)?;
            let mut log = writing.open_table(LOG).map_err(io::Error::other)?;
            change(&mut Facts(facts), &mut log)?;
        }
        writing.commit().map_err(io::Error::other)
    }

    fn tenancy(&self) -> RankedGuard<'_, WriterFence> {
        self.tenancy.lock()
    }

    fn acquire(self: &Arc<Self>, tenancy: &mut WriterFence, own_thread: bool) -> StateWriter {
        *tenancy = WriterFence {
            number: tenancy.number + 1,
            has_tenant: true,
            founding: None,
        };
        StateWriter {
            disk: self.clone(),
            tenant: tenancy.number,
            own_thread,
        }
    }

    /// The writer of an engine that goes on from the stored state.
    fn resume(self: &Arc<Self>, own_thread: bool) -> StateWriter {
        self.acquire(&mut self.tenancy(), own_thread)
    }

    /// The writer of an engine that starts empty. The earlier state is removed: at once, or, for a
    /// founder, when it has founded its cluster.
    async fn begin(
        self: &Arc<Self>,
        identity: ClusterIdentity,
        seat: Seat,
        founder: bool,
        own_thread: bool,
    ) -> io::Result<StateWriter> {
        let seated = Seated { identity, seat };
        let keeper = self.acquire(&mut self.tenancy(), own_thread);
        if founder {
            self.tenancy().founding = Some((seated, Vec::new()));
        } else {
            let tenant = keeper.tenant;
            let sit = move |disk: &Self| disk.seat(tenant, seated);
            self.run(own_thread, sit).await?;
        }
        Ok(keeper)
    }

    fn seat(&self, tenant: u64, seated: Seated) -> io::Result<()> {
        let tenancy = self.tenancy();
        tenancy.check(tenant)?;
        self.write(|facts, log| {
            clear(facts, log)?;
            facts.put(SEAT, &seated)
        })
    }

    /// Ends the tenancy: the engine that had the file writes no more.
    pub(crate) fn end_tenancy(&self) {
        let mut tenancy = self.tenancy();
        *tenancy = WriterFence {
            number: tenancy.number + 1,
            ..WriterFence::default()
        };
    }

    /// Forgets the seat, unless it has been given to another engine by now.
    pub(crate) async fn forget(self: &Arc<Self>, own_thread: bool) -> io::Result<()> {
        let forget = |disk: &Self| {
            let tenancy = disk.tenancy();
            if tenancy.has_tenant {
                return Ok(());
            }
            disk.write(clear)
        };
        self.run(own_thread, forget).await
    }

    async fn run(
        self: &Arc<Self>,
        own_thread: bool,
        work: impl FnOnce(&Self) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        if !own_thread {
            return work(self);
        }
        let disk = self.clone();
        let written = tokio::task::spawn_blocking(move || work(&disk)).await;
        written.map_err(io::Error::other)?
    }

    /// The commit index of an engine, written from here on.
    fn committed_by(&self, tenant: u64) -> Option<LogIdOf<Types>> {
        let mut committed = self.committed.lock();
        committed.is_due = false;
        committed.upto.filter(|_| committed.tenant == tenant)
    }

    fn write_committed(&self, tenant: u64) -> io::Result<()> {
        let tenancy = self.tenancy();
        tenancy.check(tenant)?;
        match self.committed_by(tenant) {
            Some(committed) if tenancy.founding.is_none() => {
                self.write(|facts, _| facts.put(COMMITTED, &committed))
            }
            _ => Ok(()),
        }
    }

    fn change(&self, tenant: u64, change: Change) -> io::Result<()> {
        // The lock is held until the change is written. So changes are in order, and none comes
        // from an engine that has ended.
        let mut tenancy = self.tenancy();
        tenancy.check(tenant)?;
        let founds = change.founds();
        let (founder, changes) = match &mut tenancy.founding {
            // A founder decides alone, and has told no other member anything.
            Some((_, staged)) if !founds => {
                staged.push(change);
                return Ok(());
            }
            Some((seated, staged)) => {
                let mut staged = std::mem::take(staged);
                staged.push(change);
                (Some(*seated), staged)
            }
            None => (None, vec![change]),
        };
        tenancy.founding = None;
        let committed = self.committed_by(tenant);
        self.write(|facts, log| {
            if let Some(seated) = founder {
                clear(facts, log)?;
                facts.put(SEAT, &seated)?;
            }
            for change in &changes {
                keep(facts, log, change)?;
            }
            match committed {
                Some(committed) => facts.put(COMMITTED, &committed),
                None => Ok(()),
            }
        })
    }
}

impl WriterFence {
    fn check(&self, tenant: u64) -> io::Result<()> {
        if self.has_tenant && self.number == tenant {
            return Ok(());
        }
        Err(io::Error::other("this engine has ended"))
    }
}

impl StateWriter {
    /// Resolves when the change is on disk.
    pub(super) async fn change(&self, change: Change) -> io::Result<()> {
        let tenant = self.tenant;
        let write = move |disk: &Disk| disk.change(tenant, change);
        self.disk.run(self.own_thread, write).await
    }

    /// The commit index. It is written soon.
    pub(super) fn committed(&self, upto: Option<LogIdOf<Types>>) {
        let mut committed = self.disk.committed.lock();
        if committed.tenant > self.tenant {
            return;
        }
        (committed.tenant, committed.upto) = (self.tenant, upto);
        if std::mem::replace(&mut committed.is_due, true) {
            return;
        }
        drop(committed);
        let (disk, tenant) = (self.disk.clone(), self.tenant);
        let write = move || {
            if let Err(error) = disk.write_committed(tenant) {
                // If writes fail for good, the next change reports it to the engine.
                tracing::debug!(%error, "the commit index is not written");
            }
        };
        if self.own_thread {
            drop(tokio::task::spawn_blocking(write));
        } else {
            write();
        }
    }
}

impl StoredState {
    /// An engine that never learned of a cluster has nothing to go on from, and no member waits for
    /// it.
    fn knows_a_cluster(&self) -> bool {
        self.snapshot.is_some() || self.entries.values().any(founds)
    }

    /// The last decision that the snapshot includes.
    fn last_of_snapshot(&self) -> Option<LogIdOf<Types>> {
        let (meta, _) = self.snapshot.as_ref()?;
        meta.last_log_id
    }

    /// The last decision in the log or in the snapshot.
    fn last(&self) -> Option<LogIdOf<Types>> {
        let entry = self.entries.values().next_back().map(|entry| entry.log_id);
        entry.max(self.last_of_snapshot())
    }

    /// Checks that an engine can have left this state.
    fn check(&self) -> Result<(), String> {
        let index = |id: Option<LogIdOf<Types>>| id.map(|id| id.index);
        if index(self.purged) > index(self.last_of_snapshot()) {
            return Err("the log begins after the end of the snapshot".to_owned());
        }
        let first = index(self.purged).map_or(0, |purged| purged + 1);
        for (due, (index, entry)) in (first..).zip(&self.entries) {
            if *index != due || entry.log_id.index != due {
                return Err(format!("entry {due} of the log is missing"));
            }
        }
        Ok(())
    }
}

struct Facts<'a>(Table<'a, &'static str, &'static [u8]>);

impl Facts<'_> {
    fn put<T: Serialize>(&mut self, name: &'static str, value: &T) -> io::Result<()> {
        let bytes = encode(value)?;
        let put = self.0.insert(name, bytes.as_slice());
        put.map(drop).map_err(io::Error::other)
    }

    fn remove(&mut self, name: &'static str) -> io::Result<()> {
        self.0.remove(name).map(drop).map_err(io::Error::other)
    }
}

fn clear(facts: &mut Facts<'_>, log: &mut Table<'_, u64, &'static [u8]>) -> io::Result<()> {
    for name in [SEAT, VOTE, PURGED, COMMITTED, SNAPSHOT] {
        facts.remove(name)?;
    }
    log.retain(|_, _| false).map_err(io::Error::other)
}

fn keep(
    facts: &mut Facts<'_>,
    log: &mut Table<'_, u64, &'static [u8]>,
    change: &Change,
) -> io::Result<()> {
    match change {
        Change::Vote(vote) => facts.put(VOTE, vote),
        Change::Append(entries) => {
            for entry in entries {
                let bytes = encode(entry)?;
                let put = log.insert(entry.log_id.index, bytes.as_slice());
                put.map(drop).map_err(io::Error::other)?;
            }
            Ok(())
        }
        Change::Truncate(first) => {
            let void = log.retain_in(*first.., |_, _| false);
            void.map_err(io::Error::other)
        }
        Change::Purge(upto) => {
            let gone = log.retain_in(..=upto.index, |_, _| false);
            gone.map_err(io::Error::other)?;
            facts.put(PURGED, upto)
        }
        Change::Snapshot((meta, map)) => {
            // A snapshot that was being built may finish after a newer one has arrived from the
            // leader.
            let known = facts.0.get(SNAPSHOT).map_err(io::Error::other)?;
            let known = known.map(|known| decode(known.value())).transpose();
            let known: Option<StoredSnapshot> = known.map_err(io::Error::other)?;
            if known.is_some_and(|(known, _)| known.last_log_id >= meta.last_log_id) {
                return Ok(());
            }
            facts.put(SNAPSHOT, &(meta, serde_bytes::Bytes::new(map)))
        }
    }
}

fn corrupted(path: &Path, reason: String) -> StateDirError {
    StateDirError::Corrupted {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
